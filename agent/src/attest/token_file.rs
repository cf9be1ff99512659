//! A join token in a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use muster_node_attestors::{JoinToken, ParseJoinTokenError};
use zeroize::Zeroizing;

/// More than any token with its line break has: a device or a wrong file is not read to its end.
const LONGEST: u64 = 4_096;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It can't be read.
    #[error("reading the join token {}", path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is none.
    #[error("the join token {}", path.display())]
    Parse {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: ParseJoinTokenError,
    },
}

/// Reads the token that stands alone in the file at `path`; `-` is standard input.
pub fn read_token(path: &Path) -> Result<JoinToken, TokenFileError> {
    let text = if path.as_os_str() == "-" {
        read(io::stdin().lock())
    } else {
        File::open(path).and_then(read)
    };
    let text = text.map_err(|source| TokenFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    text.trim().parse().map_err(|source| TokenFileError::Parse {
        path: path.to_owned(),
        source,
    })
}

fn read(from: impl Read) -> io::Result<Zeroizing<String>> {
    // With room for everything, so that no half-read copy is left behind by a growing buffer.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize));
    from.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_alone_in_its_file_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "1f4c9d2e-77aa\n").unwrap();
        assert_eq!(format!("{:?}", read_token(&path).unwrap()), "JoinToken(..)");
        std::fs::write(&path, "secret of another kind\n").unwrap();
        let error = read_token(&path).unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert!(matches!(
            read_token(&folder.path().join("none")),
            Err(TokenFileError::Read { .. })
        ));
        assert!(read_token(Path::new("/dev/zero")).is_err());
    }
}

use std::fmt;

use http::Uri;

/// Where a bundle is put. A user or a query may hold what nobody else is to know, such as a signed URL does: whoever prints it sees neither.
#[derive(Clone, Eq, PartialEq)]
pub struct Place(Uri);

impl Place {
    /// The whole URL, for the request alone.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl From<Uri> for Place {
    fn from(url: Uri) -> Self {
        Self(url)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host().unwrap_or_default();
        write!(f, "https://{host}")?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_user_nor_the_query_of_a_url_is_shown() {
        for (url, expected) in [
            ("https://b.example/c?token=secret", "https://b.example/c"),
            ("https://me:secret@b.example:8443/c", "https://b.example:8443/c"),
            ("https://[::1]:1/?secret", "https://[::1]:1/"),
            ("https://b.example", "https://b.example/"),
        ] {
            let place = Place(url.parse().unwrap());
            assert_eq!(place.to_string(), expected);
            assert_eq!(format!("{place:?}"), expected);
        }
    }
}

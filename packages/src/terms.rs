//! The terms of what is linked into a program: the texts that its crates of others bring, each once, with the crates that bring it.
//!
//! Nearly all of these licences ask that their text and the authors' names go wherever the program goes. It holds no path and no
//! time, so that the same build gives the same text.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::Context as _;

use crate::linked::{Linked, Package};

/// How a file with terms begins its name, in whatever case.
const NAMES: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];
const RULE: &str = "================================================================================";

/// A crate and what it says.
struct Terms {
    /// `name version`, and the licence that it declares.
    title: String,
    repository: String,
    texts: Vec<String>,
}

/// Writes the terms of `program`.
///
/// # Errors
/// When a crate's files can't be read, or a crate says nothing at all of its terms.
pub(crate) fn write(program: &str, linked: &Linked, mut to: impl Write) -> anyhow::Result<()> {
    let mut crates = linked
        .crates()
        .filter(|package| package.is_of_others())
        .map(Terms::of)
        .collect::<Result<Vec<Terms>, _>>()?;
    crates.sort_by(|one, other| one.title.cmp(&other.title));
    to.write_all(document(program, &crates).as_bytes())
        .context("writing")
}

impl Terms {
    fn of(package: &Package) -> anyhow::Result<Self> {
        let name = format!("{} {}", package.name, package.version);
        let mut texts = Vec::new();
        gather(package.folder(), &mut texts).with_context(|| format!("the files of {name}"))?;
        anyhow::ensure!(
            !texts.is_empty() || package.license.is_some(),
            "{name} says nothing of its terms"
        );
        Ok(Self {
            title: match &package.license {
                Some(expression) => format!("{name} ({expression})"),
                None => name,
            },
            repository: package.repository.clone().unwrap_or_default(),
            texts,
        })
    }
}

/// The texts in `folder` and below it: what a crate took over from others lies deeper, with terms of its own.
fn gather(folder: &Path, texts: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            gather(&entry.path(), texts)?;
        } else if is_terms(&entry.file_name().to_string_lossy()) {
            texts.push(even(&String::from_utf8_lossy(&fs::read(entry.path())?)));
        }
    }
    Ok(())
}

fn is_terms(file: &str) -> bool {
    let upper = file.to_ascii_uppercase();
    NAMES.iter().any(|name| upper.starts_with(name)) && !upper.ends_with(".RS")
}

/// The text without what differs between copies of one text: the ends of its lines, and empty lines around it.
fn even(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// The whole text, of crates that are sorted.
fn document(program: &str, crates: &[Terms]) -> String {
    let mut bringers = BTreeMap::<&str, Vec<&str>>::new();
    for terms in crates {
        for text in &terms.texts {
            let titles = bringers.entry(text).or_default();
            // A crate may bring the same text twice.
            if titles.last() != Some(&terms.title.as_str()) {
                titles.push(&terms.title);
            }
        }
    }
    let mut sections: Vec<(Vec<&str>, &str)> = bringers
        .into_iter()
        .map(|(text, titles)| (titles, text))
        .collect();
    sections.sort();

    let mut document = format!(
        "The crates of others that are linked into {program}, and the terms that they bring. Where a crate offers a choice of\n\
         licences, all of them are here.\n"
    );
    for (titles, text) in sections {
        document += &format!("\n{RULE}\n{}\n{RULE}\n\n{text}\n", titles.join("\n"));
    }
    let silent: Vec<String> = crates
        .iter()
        .filter(|terms| terms.texts.is_empty())
        .map(|terms| format!("{} {}", terms.title, terms.repository))
        .collect();
    if !silent.is_empty() {
        document += &format!(
            "\n{RULE}\nThese declare their licence, and bring no text of it\n{RULE}\n\n{}\n",
            silent.join("\n")
        );
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(title: &str, texts: &[&str]) -> Terms {
        Terms {
            title: title.to_owned(),
            repository: "https://example.org/source".to_owned(),
            texts: texts.iter().map(|text| even(text)).collect(),
        }
    }

    #[test]
    fn each_text_is_there_once_with_all_who_bring_it() {
        let crates = [
            terms(
                "one 1.0.0 (MIT)",
                &["Permission is granted\r\n", "Permission is granted"],
            ),
            terms(
                "two 1.0.0 (MIT OR Zlib)",
                &["Altered  \nversions", "\nPermission is granted\n\n"],
            ),
        ];
        let document = document("muster", &crates);
        assert_eq!(document.matches("Permission is granted").count(), 1);
        let both =
            format!("{RULE}\none 1.0.0 (MIT)\ntwo 1.0.0 (MIT OR Zlib)\n{RULE}\n\nPermission is granted\n");
        assert!(document.contains(&both), "{document}");
        let alone = format!("{RULE}\ntwo 1.0.0 (MIT OR Zlib)\n{RULE}\n\nAltered\nversions\n");
        assert!(document.contains(&alone), "{document}");
        assert!(!document.contains("no text"), "{document}");
    }

    #[test]
    fn a_crate_without_a_text_is_named_with_where_it_comes_from() {
        let document = document("muster", &[terms("quiet 0.1.0 (MIT)", &[])]);
        assert!(
            document.ends_with("\n\nquiet 0.1.0 (MIT) https://example.org/source\n"),
            "{document}"
        );
    }

    #[test]
    fn terms_are_found_by_the_names_that_people_give_them() {
        for file in [
            "LICENSE",
            "license-mit",
            "LICENCE.txt",
            "COPYING",
            "NOTICE.md",
            "UNLICENSE",
            "COPYRIGHT",
        ] {
            assert!(is_terms(file), "{file}");
        }
        for file in ["README.md", "license.rs", "build.rs"] {
            assert!(!is_terms(file), "{file}");
        }
    }
}

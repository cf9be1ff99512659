//! One of the two that are compared: its doors, its folder, and what its commands said so far.

use std::{collections::BTreeMap, fs, path::PathBuf};

use muster_tests::{Said, Tool};

use super::{normal, script::Command};

pub(super) struct Side {
    /// The commands, each with the socket that is theirs.
    pub(super) tool: fn(&Side, &Command) -> Tool,
    /// Where fixtures are, and where commands write.
    pub(super) folder: PathBuf,
    pub(super) sockets: Vec<PathBuf>,
    pub(super) known: BTreeMap<String, String>,
}

impl Side {
    pub(super) fn new(folder: PathBuf, sockets: Vec<PathBuf>, tool: fn(&Self, &Command) -> Tool) -> Self {
        let known = BTreeMap::from([("dir".into(), folder.display().to_string())]);
        Self {
            tool,
            folder,
            sockets,
            known,
        }
    }

    /// Runs a command and keeps what is to be kept; what it said, as it can be compared.
    pub(super) fn run(&mut self, command: &Command) -> Vec<String> {
        let words: Vec<_> = command.words.iter().map(|word| self.filled(word)).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let input = command
            .input
            .as_ref()
            .map(|file| self.filled(&fs::read_to_string(self.folder.join(file)).unwrap()))
            .unwrap_or_default();
        let said = (self.tool)(self, command).run_with(&words, &input);
        if let Some((name, label)) = &command.keep {
            let value = behind(&said, label)
                .unwrap_or_else(|| panic!("no {label:?} in what {:?} said: {said:?}", command.line));
            self.known.insert(name.clone(), value);
        }
        normal::lines(&said, &self.folder.display().to_string())
    }

    /// `text` with each `{name}` as it is known here.
    pub(super) fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.known {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }
}

/// What stands behind `label` in what was printed, or below it.
fn behind(said: &Said, label: &str) -> Option<String> {
    let mut lines = said.out.lines();
    let rest = lines.find_map(|line| line.trim_start().strip_prefix(label))?;
    let value = rest.trim_start_matches([' ', ':']).trim();
    if value.is_empty() {
        lines.next().map(|below| below.trim().to_owned())
    } else {
        Some(value.to_owned())
    }
}

//! A table whose keys are taken one by one, and which reports those that nobody took.

use std::cell::RefCell;
use std::rc::Rc;

use toml::Value;

use super::{Problem, Setting};

/// A table of the configuration. Mistakes are collected, not returned; a key that is never asked for is one.
#[derive(Debug)]
pub struct Table {
    path: String,
    values: toml::Table,
    asked: Vec<&'static str>,
    problems: Rc<RefCell<Vec<Problem>>>,
}

impl Table {
    pub(super) fn read_root<T>(
        values: toml::Table,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> (Option<T>, Vec<Problem>) {
        let problems = Rc::new(RefCell::new(Vec::new()));
        let mut root = Self {
            path: String::new(),
            values,
            asked: Vec::new(),
            problems: Rc::clone(&problems),
        };
        let value = read(&mut root);
        drop(root);
        (value, problems.take())
    }

    /// The value of a key that must be there.
    pub fn required<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        let Some(value) = self.take(key) else {
            self.report(self.path_of(key), None, T::EXPECTED);
            return None;
        };
        self.read(self.path_of(key), &value)
    }

    /// The value of a key that may be there. A wrong value is reported and counts as none.
    pub fn optional<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        let value = self.take(key)?;
        self.read(self.path_of(key), &value)
    }

    /// The value of a key, or its default. A wrong value is reported.
    pub fn or<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// Like [`Table::or`] for a value that must also pass `check`; `expected` says what it checks.
    pub fn or_checked<T: Setting>(
        &mut self,
        key: &'static str,
        default: T,
        expected: &str,
        check: impl FnOnce(&T) -> bool,
    ) -> T {
        let Some(value) = self.take(key) else {
            return default;
        };
        match self.read::<T>(self.path_of(key), &value) {
            Some(read) if check(&read) => read,
            Some(_) => {
                self.report(self.path_of(key), Some(&value), expected);
                default
            }
            None => default,
        }
    }

    /// One of some words. `words` pairs each with its meaning.
    pub fn choice<T: Clone>(&mut self, key: &'static str, default: T, words: &[(&str, T)]) -> T {
        let Some(value) = self.take(key) else {
            return default;
        };
        let chosen = words
            .iter()
            .find(|(word, _)| value.as_str() == Some(word))
            .map(|(_, meaning)| meaning.clone());
        chosen.unwrap_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.report(
                self.path_of(key),
                Some(&value),
                &format!("one of {}", words.join(", ")),
            );
            default
        })
    }

    /// A list of values, empty when the key is not there. Each wrong element is reported.
    pub fn list<T: Setting>(&mut self, key: &'static str) -> Vec<T> {
        let path = self.path_of(key);
        match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(values)) => {
                let each = values.iter().enumerate();
                each.filter_map(|(index, value)| self.read(format!("{path}[{index}]"), value))
                    .collect()
            }
            Some(other) => {
                self.report(path, Some(&other), &format!("a list, each {}", T::EXPECTED));
                Vec::new()
            }
        }
    }

    /// The table under a key, empty when it is not there.
    pub fn table(&mut self, key: &'static str) -> Self {
        self.optional_table(key)
            .unwrap_or_else(|| self.child(self.path_of(key), toml::Table::new()))
    }

    /// The table under a key, if it is there.
    pub fn optional_table(&mut self, key: &'static str) -> Option<Self> {
        match self.take(key)? {
            Value::Table(values) => Some(self.child(self.path_of(key), values)),
            other => {
                self.report(self.path_of(key), Some(&other), "a table");
                None
            }
        }
    }

    /// The tables of an array of tables (`[[key]]`), empty when it is not there.
    pub fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let path = self.path_of(key);
        match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(values)) => {
                let mut tables = Vec::new();
                for (index, value) in values.into_iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    match value {
                        Value::Table(values) => tables.push(self.child(path, values)),
                        other => self.report(path, Some(&other), "a table"),
                    }
                }
                tables
            }
            Some(other) => {
                self.report(path, Some(&other), "an array of tables");
                Vec::new()
            }
        }
    }

    /// Whether the key stands in the file and was not taken yet.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Reports a mistake that only shows when several values are seen together.
    pub fn refuse(&self, key: &str, value: &impl ToString, expected: &str) {
        let problem = Problem {
            key: self.path_of(key),
            value: Some(value.to_string()),
            expected: expected.to_owned(),
        };
        self.problems.borrow_mut().push(problem);
    }

    fn child(&self, path: String, values: toml::Table) -> Self {
        Self {
            path,
            values,
            asked: Vec::new(),
            problems: Rc::clone(&self.problems),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.values.remove(key)
    }

    fn read<T: Setting>(&self, path: String, value: &Value) -> Option<T> {
        let read = T::from_value(value);
        if read.is_none() {
            self.report(path, Some(value), T::EXPECTED);
        }
        read
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn report(&self, key: String, value: Option<&Value>, expected: &str) {
        let problem = Problem {
            key,
            value: value.map(ToString::to_string),
            expected: expected.to_owned(),
        };
        self.problems.borrow_mut().push(problem);
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.values.is_empty() {
            return;
        }
        let expected = format!("no such key; known here: {}", self.asked.join(", "));
        for (key, value) in &self.values {
            self.report(self.path_of(key), Some(value), &expected);
        }
    }
}

//! Two opinions of each case, side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{
    explained::{CLASSES, Class, Judge},
    judges::Opinion,
};

#[derive(Default)]
pub(crate) struct Tally {
    both_accept: usize,
    both_refuse: usize,
    met: BTreeMap<&'static str, usize>,
    /// By who said what, the cases.
    unexplained: BTreeMap<String, BTreeSet<String>>,
}

impl Tally {
    pub(crate) fn compare(&mut self, judge: Judge, what: &str, ours: &Opinion, theirs: &Opinion) {
        match (ours, theirs) {
            // OpenSSL knows no SPIFFE IDs and names none.
            (Opinion::Accepts(a), Opinion::Accepts(b)) if a == b || b.is_empty() => self.both_accept += 1,
            (Opinion::Refuses(_), Opinion::Refuses(_)) => self.both_refuse += 1,
            _ => match CLASSES
                .iter()
                .find(|class| class.holds(judge, what, ours, theirs))
            {
                Some(class) => *self.met.entry(class.id).or_default() += 1,
                None => {
                    let who = format!("{judge:?}: ours {ours:?}, theirs {theirs:?}");
                    self.unexplained.entry(who).or_default().insert(what.to_owned());
                }
            },
        }
    }

    pub(crate) fn print(&self, what: &str) {
        println!(
            "figure: {what}: {} cases accepted by both, {} refused by both, {} told apart for a known reason: {:?}",
            self.both_accept,
            self.both_refuse,
            self.met.values().sum::<usize>(),
            self.met
        );
    }

    /// Fails on a disagreement that nobody explained, and on an explanation that nothing needs any more.
    pub(crate) fn check(&self, classes: impl Iterator<Item = &'static Class>) {
        let mut text = String::new();
        for (who, cases) in &self.unexplained {
            let some: Vec<_> = cases.iter().take(6).collect();
            writeln!(text, "{} × {who}\n      {some:?}", cases.len()).unwrap();
        }
        assert!(text.is_empty(), "not explained:\n{text}");
        let idle: Vec<_> = classes
            .map(|class| class.id)
            .filter(|id| !self.met.contains_key(id))
            .collect();
        assert!(idle.is_empty(), "explained, and never met: {idle:?}");
        // Were nearly all refused, as when a key is the wrong one, all would agree and nothing be compared.
        assert!(self.both_accept > 100 && self.both_refuse > 100);
    }
}

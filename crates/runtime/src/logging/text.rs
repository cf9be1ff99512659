//! Values on their way into a line.

use std::fmt::{self, Write};

/// The longest value that a line shows, in bytes of the value.
const LONGEST_VALUE: usize = 256;

/// A value as it may stand in a log line or an error: control characters escaped, capped at 256 bytes, always one line.
///
/// Names, paths and labels come from strangers; a terminal obeys what is written to it, and a line break would forge the next event.
pub fn shown(value: &str) -> String {
    let mut shown = Shown::default();
    // Writing to a String does not fail, and Shown swallows what is over its cap.
    shown.write_str(value).ok();
    shown.finish()
}

/// Collects the text of one value. What is over the cap is dropped as it comes, so a value of a megabyte costs 256 bytes.
#[derive(Default)]
pub(super) struct Shown {
    text: String,
    taken: usize,
    dropped: usize,
}

impl Shown {
    pub(super) fn of(value: impl fmt::Display) -> String {
        let mut shown = Self::default();
        // A Display that fails has written what it could.
        write!(shown, "{value}").ok();
        shown.finish()
    }

    pub(super) fn of_debug(value: &dyn fmt::Debug) -> String {
        let mut shown = Self::default();
        write!(shown, "{value:?}").ok();
        shown.finish()
    }

    fn finish(mut self) -> String {
        if self.dropped > 0 {
            write!(self.text, "… ({} bytes more)", self.dropped).ok();
        }
        self.text
    }
}

impl Write for Shown {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        for character in piece.chars() {
            let size = character.len_utf8();
            if self.dropped > 0 || self.taken + size > LONGEST_VALUE {
                self.dropped += size;
                continue;
            }
            self.taken += size;
            if must_be_escaped(character) {
                self.text.extend(character.escape_unicode());
            } else {
                self.text.push(character);
            }
        }
        Ok(())
    }
}

/// Control characters, line and paragraph separators, and the marks that turn the direction of writing.
fn must_be_escaped(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_separators_are_escaped() {
        assert_eq!(
            shown("a\u{1b}[31mb\r\nc\u{2028}d\u{202e}e"),
            "a\\u{1b}[31mb\\u{d}\\u{a}c\\u{2028}d\\u{202e}e"
        );
        assert_eq!(shown("spiffe://example.org/grün"), "spiffe://example.org/grün");
    }

    #[test]
    fn a_long_value_is_capped_and_says_so() {
        let long = shown(&"x".repeat(1024 * 1024));
        assert_eq!(long, format!("{}… (1048320 bytes more)", "x".repeat(256)));
    }
}

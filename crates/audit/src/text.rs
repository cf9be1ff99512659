//! Text as it may stand in a record: short, and harmless to whoever prints it.

use std::fmt::{self, Display, Write};

/// How many bytes of a value a record keeps. Callers choose many of these values (names, labels, hints);
/// without a cap one of them could fill the disk that issuance depends on.
pub(crate) const MAX_VALUE: usize = 256;
/// As long as most values are.
const USUAL: usize = 64;

/// A value whose control and direction characters are escaped and which is at most 256 bytes long, plus a note
/// of what was cut. It can be printed on a terminal and cannot forge a second line.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Text(String);

impl Text {
    /// Escapes and caps `value`.
    pub fn new(value: impl Display) -> Self {
        let mut sink = Capped {
            text: String::with_capacity(USUAL),
            cut: 0,
        };
        // A `Display` that fails loses its own tail only: the record must be written all the same.
        let _ = write!(sink, "{value}");
        if sink.cut > 0 {
            let cut = sink.cut;
            sink.text.push_str(&format!("…(+{cut} bytes)"));
        }
        Self(sink.text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Keeps the first [`MAX_VALUE`] bytes while they are written, so that a value of a megabyte is never held.
struct Capped {
    text: String,
    cut: usize,
}

impl Write for Capped {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        // Most parts need nothing done, and are taken whole.
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'\\';
        if self.cut == 0 && self.text.len() + part.len() <= MAX_VALUE && part.bytes().all(plain) {
            self.text.push_str(part);
            return Ok(());
        }
        for c in part.chars() {
            if self.cut > 0 {
                self.cut = self.cut.saturating_add(c.len_utf8());
                continue;
            }
            let before = self.text.len();
            if harmless(c) {
                self.text.push(c);
            } else {
                self.text.extend(c.escape_unicode());
            }
            if self.text.len() > MAX_VALUE {
                self.text.truncate(before);
                self.cut = c.len_utf8();
            }
        }
        Ok(())
    }
}

/// Whether a character shows as itself: no control character (C0, DEL, C1), no line or paragraph separator, no
/// mark that is invisible or turns the direction of what follows. A backslash is escaped too, so that an escape
/// in a record was always made by us.
fn harmless(c: char) -> bool {
    !(c.is_control()
        || c == '\\'
        || matches!(c,
            '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_kept_as_it_is() {
        assert_eq!(
            Text::new("spiffe://example.org/wörk").as_str(),
            "spiffe://example.org/wörk"
        );
    }

    #[test]
    fn control_and_direction_characters_are_escaped() {
        let text = Text::new("a\r\nb\u{1b}[31m\u{2028}\u{202e}\\n");
        assert_eq!(
            text.as_str(),
            "a\\u{d}\\u{a}b\\u{1b}[31m\\u{2028}\\u{202e}\\u{5c}n"
        );
    }

    #[test]
    fn a_megabyte_is_cut_and_says_so() {
        let text = Text::new("x".repeat(1 << 20));
        assert_eq!(
            text.as_str(),
            format!("{}…(+{} bytes)", "x".repeat(256), (1 << 20) - 256)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_value_is_long_or_harmful(value in "\\PC*|.*") {
            let text = Text::new(value);
            proptest::prop_assert!(text.as_str().len() <= MAX_VALUE + 64);
            proptest::prop_assert!(!text.as_str().chars().any(|c| c.is_control()));
        }
    }
}

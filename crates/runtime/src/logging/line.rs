//! One event, one line.

use std::error::Error;
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::Format;
use super::text::Shown;
use crate::clock::system_time;

/// The most fields that a line shows.
const MOST_FIELDS: usize = 32;

/// Writes events as lines of text or of JSON. Spans add nothing: our events carry their fields themselves.
pub(super) struct Line {
    pub(super) format: Format,
    pub(super) colour: bool,
}

/// The fields of one event, escaped and capped.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

enum Value {
    /// Stands in JSON as it is: a number or a boolean.
    Plain(String),
    Text(String),
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = humantime::format_rfc3339_millis(system_time());
        let meta = event.metadata();
        match self.format {
            Format::Text => {
                let (on, off) = if self.colour {
                    (colour(meta.level()), "\u{1b}[0m")
                } else {
                    ("", "")
                };
                write!(
                    out,
                    "{time} {on}{:<5}{off} {}: {}",
                    meta.level(),
                    meta.target(),
                    fields.message
                )?;
                for (name, value) in &fields.others {
                    match value {
                        Value::Plain(value) => write!(out, " {name}={value}")?,
                        Value::Text(value) if is_one_word(value) => write!(out, " {name}={value}")?,
                        Value::Text(value) => write!(out, " {name}=\"{}\"", value.replace('"', "\\\""))?,
                    }
                }
            }
            Format::Json => {
                let level = meta.level().as_str().to_ascii_lowercase();
                write!(out, "{{\"time\":\"{time}\",\"level\":\"{level}\",\"target\":")?;
                json_text(&mut out, meta.target())?;
                out.write_str(",\"message\":")?;
                json_text(&mut out, &fields.message)?;
                for (name, value) in &fields.others {
                    write!(out, ",\"{name}\":")?;
                    match value {
                        Value::Plain(value) => out.write_str(value)?,
                        Value::Text(value) => json_text(&mut out, value)?,
                    }
                }
                out.write_char('}')?;
            }
        }
        out.write_char('\n')
    }
}

impl Fields {
    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Plain(text) | Value::Text(text)) => self.message = text,
            // A field named like one of the line's own would make the object ambiguous.
            ("time" | "level" | "target", _) => {}
            (name, value) if self.others.len() < MOST_FIELDS => self.others.push((name, value)),
            _ => {}
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, Value::Text(Shown::of_debug(value)));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, Value::Text(Shown::of(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Value::Plain(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Value::Plain(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Value::Plain(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let value = if value.is_finite() {
            Value::Plain(value.to_string())
        } else {
            Value::Text(value.to_string())
        };
        self.take(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            // Writing to a String does not fail.
            write!(text, ": {cause}").ok();
            source = cause.source();
        }
        self.take(field, Value::Text(Shown::of(text)));
    }
}

fn is_one_word(value: &str) -> bool {
    !value.is_empty() && !value.contains([' ', '"', '='])
}

fn json_text(out: &mut Writer<'_>, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            control if u32::from(control) < 0x20 => write!(out, "\\u{:04x}", u32::from(control))?,
            other => out.write_char(other)?,
        }
    }
    out.write_char('"')
}

fn colour(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        _ => "\u{1b}[2m",
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::{info, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            io::Write::write(&mut *self.0.lock().unwrap(), bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .event_format(Line {
                format,
                colour: false,
            });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    const HOSTILE: &str = "a\"\\\u{1b}[2J\r\n{\"level\":\"error\"}\u{2028}\0";

    #[test]
    fn a_hostile_value_stays_in_its_line() {
        for format in [Format::Text, Format::Json] {
            let text = logged(format, || {
                info!(spiffe_id = %HOSTILE, other = ?HOSTILE, third = HOSTILE, "{HOSTILE}");
                warn!(long = "x".repeat(1 << 20), "second");
            });
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(!text.contains(['\u{1b}', '\r', '\u{2028}', '\0']));
            assert!(text.len() < 2048);
        }
    }

    #[test]
    fn a_json_line_reads_back_with_its_fields() {
        let text = logged(
            Format::Json,
            || info!(spiffe_id = %"spiffe://a/b", count = 3, ok = true, "re\"newed"),
        );
        // The syntax of inline TOML tables is too far from JSON: the needed parts are looked for as they stand.
        for part in [
            "\"level\":\"info\"",
            "\"message\":\"re\\\"newed\"",
            "\"spiffe_id\":\"spiffe://a/b\"",
            "\"count\":3,\"ok\":true}",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn an_error_is_shown_with_its_whole_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("opening the store")]
        struct Outer(#[source] io::Error);
        let text = logged(Format::Text, || {
            let error = Outer(io::Error::other("no such disk"));
            warn!(error = &error as &dyn Error, "stopped");
        });
        assert!(
            text.contains("stopped error=\"opening the store: no such disk\""),
            "{text}"
        );
    }
}

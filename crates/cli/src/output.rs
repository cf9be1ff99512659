//! What a command prints, for people and for programs.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use comfy_table::Table;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster_identity::UnixTime;
use muster_runtime::process::exit;
use serde_json::{Value, json};

use crate::{args::Form, failure::Failure};

/// A command's result: text for people, the same as JSON for programs.
#[derive(Debug)]
pub(crate) struct Answer {
    text: String,
    json: Value,
    /// Part of what was asked for was refused.
    incomplete: bool,
}

impl Answer {
    pub(crate) fn new(text: impl Into<String>, json: Value) -> Self {
        Self {
            text: text.into(),
            json,
            incomplete: false,
        }
    }

    /// The same, with exit code 1: something of what was asked for was refused, and the answer says what.
    #[must_use]
    pub(crate) fn incomplete(mut self, incomplete: bool) -> Self {
        self.incomplete = incomplete;
        self
    }

    /// The same below a line that tells it from the answer before. JSON is one line each as it is.
    #[must_use]
    pub(crate) fn headed(mut self, head: &str) -> Self {
        self.text = format!("{head}\n{}", self.text);
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.incomplete {
            exit::REFUSED
        } else {
            exit::DONE
        })
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// How this run prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    form: Form,
    colour: bool,
    progress: bool,
}

impl Style {
    /// Colours and progress only where a person looks, and no colours where NO_COLOR says so.
    #[expect(
        clippy::disallowed_methods,
        reason = "the command's only setting that is no argument"
    )]
    pub(crate) fn of_terminal(form: Form) -> Self {
        let terminal = io::stderr().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            form,
            colour: terminal && !no_colour,
            progress: terminal && form == Form::Table,
        }
    }

    /// Prints an answer. A reader that went away (`muster entry list | head`) is no failure.
    pub(crate) fn print(&self, answer: &Answer) -> Result<(), Failure> {
        let text = match self.form {
            Form::Table => answer.text.clone(),
            Form::Json => answer.json.to_string(),
        };
        self.line(&text)
    }

    /// Prints a line before the answer is there, and at once.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let mut out = io::stdout().lock();
        match out
            .write_all(format!("{text}{end}").as_bytes())
            .and_then(|()| out.flush())
        {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::refused("could not print the answer", error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn print_failure(&self, failure: &Failure) {
        let text = match self.form {
            Form::Json => json!({"error": {
                "kind": failure.kind.name(), "what": failure.what, "why": failure.why, "next": failure.next,
            }})
            .to_string(),
            Form::Table => {
                let (on, off) = if self.colour {
                    ("\x1b[1;31m", "\x1b[0m")
                } else {
                    ("", "")
                };
                let next = failure
                    .next
                    .as_ref()
                    .map(|next| format!("\n  next: {next}"))
                    .unwrap_or_default();
                format!("{on}error:{off} {}: {}{next}", failure.what, failure.why)
            }
        };
        // If standard error is gone there is nobody left to tell.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A counter that appears while something takes long. On no terminal it shows nothing.
    pub(crate) fn progress(&self, what: &str) -> ProgressBar {
        if !self.progress {
            return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        }
        let bar = ProgressBar::no_length().with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{msg} {pos}") {
            bar.set_style(style);
        }
        bar
    }
}

/// A plain table: columns apart by two spaces, no lines, no wrapping, so that it can also be cut and grepped.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_header(header.map(str::to_owned).to_vec());
    for row in rows {
        table.add_row(row.to_vec());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .trim_fmt()
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A block of names and values, aligned. Values that are empty are left out.
pub(crate) fn block<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let fields: Vec<_> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}"))
        .collect();
    lines.join("\n")
}

/// `1 entry`, `2 entries`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A moment, and how far away it is.
pub(crate) fn moment(at: UnixTime, now: UnixTime) -> String {
    if at == now {
        return format!("{at} (now)");
    }
    let (distance, ahead) = if at >= now {
        (at.since(now), true)
    } else {
        (now.since(at), false)
    };
    // Two units are as much as anybody reads.
    let seconds = distance.as_secs();
    let rounded = match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds / 60 * 60,
        _ => seconds / 3_600 * 3_600,
    };
    let distance = humantime::format_duration(std::time::Duration::from_secs(rounded));
    if ahead {
        format!("{at} (in {distance})")
    } else {
        format!("{at} ({distance} ago)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_text_without_trailing_blanks() {
        let text = table(
            ["ID", "HINT"],
            [["a".into(), "x y".into()], ["bbbb".into(), String::new()]],
        );
        assert_eq!(text, "ID    HINT\na     x y\nbbbb");
    }

    #[test]
    fn blocks_leave_out_what_is_empty() {
        let text = block([
            ("ID", "a".into()),
            ("Hint", String::new()),
            ("Parent", "b".into()),
        ]);
        assert_eq!(text, "ID      a\nParent  b");
    }

    #[test]
    fn moments_say_how_far_away_they_are() {
        let now = UnixTime::from_secs(1_795_465_260);
        let later = now.saturating_add(std::time::Duration::from_secs(7_384));
        assert_eq!(moment(later, now), "2026-11-23T22:24:04Z (in 2h 3m)");
        assert_eq!(moment(now, later), "2026-11-23T20:21:00Z (2h 3m ago)");
    }
}

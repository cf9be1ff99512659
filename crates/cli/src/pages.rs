//! Lists that come in pages.

use std::future::Future;

use tonic::Status;

use crate::{failure::Failure, output::Style};

/// How many records to ask for at a time; far below the 4 MiB that a message may have.
pub(crate) const PAGE: i32 = 500;

/// More pages than any list has: a server that never ends its list must not fill our memory.
const MOST_PAGES: usize = 100_000;

/// Reads all pages. `next` gets the token of the page and gives its records and the token of the following one.
/// Empty pages are legal; the list ends where the token is empty.
pub(crate) async fn all<T, F>(
    what: &str,
    style: &Style,
    mut next: impl FnMut(String) -> F,
) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<(Vec<T>, String), Status>>,
{
    let progress = style.progress(&format!("reading {what}"));
    let (mut records, mut token) = (Vec::new(), String::new());
    for _ in 0..MOST_PAGES {
        let (page, following) = next(std::mem::take(&mut token))
            .await
            .map_err(|status| Failure::status(format!("could not list {what}"), &status))?;
        progress.inc(page.len() as u64);
        records.extend(page);
        if following.is_empty() {
            progress.finish_and_clear();
            return Ok(records);
        }
        token = following;
    }
    Err(Failure::refused(
        format!("could not list {what}"),
        "the list does not end",
    ))
}

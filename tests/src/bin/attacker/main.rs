//! A process that tries to get what it did not earn. `attacker ROLE SOCKET [MORE]`; what it got it prints as one JSON
//! object per line: `svid` when an identity came, `closed` when the door shut.
//!
//! Its HTTP/2 is its own, so that it can do what no library does.

#![expect(unsafe_code, reason = "forks, and moves its own memory")]
#![expect(
    clippy::unwrap_used,
    reason = "an attacker that can't go on says so by a panic"
)]

mod floods;
mod forger;
mod fuse;
mod h2;
mod impostors;
mod tokens;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match *args {
        ["exec-and-listen", socket, program] => Some(impostors::exec_and_listen(socket, program)),
        ["forge", socket, program] => Some(forger::forge(socket, program)),
        ["listen", _] => Some(impostors::listen()),
        [role, socket] => impostors::play(role, socket).or_else(|| floods::play(role, socket, 0)),
        [role, socket, count] => {
            let count = count.parse().unwrap();
            floods::play(role, socket, count)
                .or_else(|| tokens::play(role, socket, count))
                .or_else(|| fuse::play(role, socket, count))
        }
        _ => None,
    };
    match done {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            // That the door shuts in our face is the usual end.
            println!(
                "{}",
                serde_json::json!({ "event": "closed", "why": error.to_string() })
            );
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("usage: attacker ROLE SOCKET [COUNT]");
            ExitCode::from(2)
        }
    }
}

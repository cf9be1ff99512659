use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use super::spire_folder;

/// SPIRE's own commands, pointed at a socket of whichever side.
#[derive(Clone, Debug)]
pub struct Tool {
    program: &'static str,
    socket: PathBuf,
}

/// What a command said, and how it ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Said {
    /// The exit status; none after a signal.
    pub status: Option<i32>,
    /// What it printed.
    pub out: String,
    /// What it complained about.
    pub err: String,
}

impl Tool {
    /// `spire-server` on a server's admin socket.
    pub fn server(socket: PathBuf) -> Self {
        Self {
            program: "spire-server",
            socket,
        }
    }

    /// `spire-agent` on one of an agent's sockets.
    pub fn agent(socket: PathBuf) -> Self {
        Self {
            program: "spire-agent",
            socket,
        }
    }

    /// Runs a command without input.
    pub fn run(&self, args: &[&str]) -> Said {
        self.run_with(args, "")
    }

    /// Runs a command with `input` on its standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Said {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().expect("piped above");
        let input = input.to_owned();
        // A command that does not read what it is given has closed its end: nothing to complain of.
        let feeding = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().unwrap();
        feeding.join().expect("it can't panic");
        Said {
            status: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.status, Some(0), "{} {args:?}: {said:?}", self.program);
        said.out
    }

    /// The command, for who wants to start it otherwise.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(spire_folder().join(self.program));
        command.args(args).arg("-socketPath").arg(&self.socket);
        command
    }
}

impl Said {
    /// What stands behind `label` and a colon in the first line that begins with it, as the commands print records.
    pub fn field(&self, label: &str) -> Option<&str> {
        self.out.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found.trim() == label).then(|| value.trim())
        })
    }
}

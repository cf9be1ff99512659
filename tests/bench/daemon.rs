//! A daemon under measurement: a process that is started, stopped and killed, and what the kernel says of it.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A daemon and the command that starts it. What it says goes into a file, so that reading it costs us nothing.
pub(crate) struct Daemon {
    program: PathBuf,
    args: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    pub(crate) fn new(program: PathBuf, args: Vec<OsString>, log: PathBuf) -> Self {
        Self {
            program,
            args,
            log,
            child: None,
        }
    }

    /// Starts it; it is not ready yet.
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child =
            Some(child.unwrap_or_else(|error| panic!("starting {}: {error}", self.program.display())));
    }

    /// The same program with other arguments at its next start.
    pub(crate) fn arguments(&mut self, args: Vec<OsString>) {
        self.args = args;
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.as_ref().expect("it was started").id().cast_signed()
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// SIGKILL, and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            kill(Pid::from_raw(child.id().cast_signed()), signal).expect("our own child, not waited for yet");
            child.wait().expect("our own child");
        }
    }

    /// Resident memory.
    pub(crate) fn megabytes(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// The size of its program file.
    pub(crate) fn program_megabytes(&self) -> f64 {
        fs::metadata(&self.program).unwrap().len() as f64 / 1e6
    }

    /// The last lines that it said, for a failure.
    pub(crate) fn last_words(&self) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        let tail = said.len().saturating_sub(4_000);
        String::from_utf8_lossy(&said[tail..]).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.program.display(), self.last_words());
        }
        self.kill();
    }
}

/// User and system time of a process so far. The kernel counts in nanoseconds and shows hundredths of a second.
pub(crate) fn cpu(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit_once(") ").unwrap().1;
    let ticks: u64 = rest
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

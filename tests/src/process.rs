use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long a story waits for anything before it gives up. Generous: the machine is shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A real process that a story started, with everything it said. It is killed, by its id, when the story ends.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

#[derive(Default)]
struct Output {
    said: Mutex<Said>,
    grew: Condvar,
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    unread: VecDeque<Value>,
    open: u8,
}

impl Process {
    /// Starts `command`; `name` is what failures call it.
    pub fn start(name: &str, command: &mut Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child =
            spawn(command).unwrap_or_else(|error| panic!("starting {name} ({command:?}): {error}"));
        let output = Arc::new(Output::default());
        output.said.lock().unwrap_or_else(PoisonError::into_inner).open = 2;
        listen(child.stdout.take().expect("piped above"), output.clone());
        listen(child.stderr.take().expect("piped above"), output.clone());
        Self {
            name: name.into(),
            child,
            output,
        }
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// How much of its memory is in use, in MiB.
    pub fn resident_mib(&self) -> u64 {
        let status = self.about("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("a living process has memory");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib / 1024
    }

    /// The processor time it has used so far.
    pub fn processor_time(&self) -> Duration {
        let stat = self.about("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("its name ends in a bracket");
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.map(|field| field.parse::<u64>().expect("a number")).sum();
        // USER_HZ is 100 wherever Linux runs.
        Duration::from_millis(ticks * 10)
    }

    fn about(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.pid());
        std::fs::read_to_string(path).expect("our own child, not waited for yet")
    }

    /// Waits for a line for which `wanted` holds and returns it; a line counts each time it is asked for.
    ///
    /// # Panics
    /// When the process ends or [`PATIENCE`] runs out first; the text has what it said.
    pub fn line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.wait(what, |said| said.lines.iter().find(|line| wanted(line)).cloned())
    }

    /// The next JSON object on a line of its own for which `wanted` holds; earlier ones are passed over.
    pub fn event_where(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait(what, |said| {
            while let Some(event) = said.unread.pop_front() {
                if wanted(&event) {
                    return Some(event);
                }
            }
            None
        })
    }

    /// The next JSON object on a line of its own whose `event` is `name`.
    pub fn event(&self, name: &str) -> Value {
        self.event_where(name, |event| event["event"] == name)
    }

    /// Everything it said so far.
    pub fn said(&self) -> String {
        self.output
            .said
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .lines
            .join("\n")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal)
            .expect("our own child, not waited for yet");
    }

    /// kill -9, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Asks it to stop (SIGTERM) and waits for the end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.ended()
    }

    /// Writes a line to its standard input.
    pub fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("not closed by the story");
        writeln!(input, "{line}").unwrap_or_else(|error| panic!("{} hears nothing: {error}", self.name));
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        self.wait_until("its end", end, |said| (said.open == 0).then_some(()));
        self.child.wait().expect("our own child")
    }

    fn wait<T>(&self, what: &str, found: impl FnMut(&mut Said) -> Option<T>) -> T {
        self.wait_until(what, Instant::now() + PATIENCE, found)
    }

    fn wait_until<T>(&self, what: &str, end: Instant, mut found: impl FnMut(&mut Said) -> Option<T>) -> T {
        let mut said = self.output.said.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = found(&mut said) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && said.open > 0,
                "{}: waited in vain for {what}; it said:\n{}",
                self.name,
                said.lines.join("\n")
            );
            said = self.output.grew.wait_timeout(said, left).unwrap().0;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.said());
        }
    }
}

/// Spawns, again while the program counts as written to: a story that copies a program and starts it shares this process
/// with others, and what they fork holds our descriptor for writing until it execs.
fn spawn(command: &mut Command) -> io::Result<Child> {
    let end = Instant::now() + PATIENCE;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            spawned => return spawned,
        }
    }
}

/// Waits for something that can only be looked at, not waited for: a file, a clock.
///
/// # Panics
/// When [`PATIENCE`] runs out first.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A command that runs as another user, without that user's supplementary groups.
pub fn as_user(program: &Path, uid: u32) -> Command {
    let mut command = Command::new(program);
    command.uid(uid).gid(uid);
    command
}

fn listen(from: impl Read + Send + 'static, output: Arc<Output>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut said = output.said.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(event @ Value::Object(_)) = serde_json::from_str(&line) {
                said.unread.push_back(event);
            }
            said.lines.push(line);
            output.grew.notify_all();
        }
        output.said.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
        output.grew.notify_all();
    });
}

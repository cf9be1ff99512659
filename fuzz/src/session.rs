use std::{
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    Target,
    coverage::{Reached, is_instrumented},
    mutate::{Random, mutate},
};

/// Longer inputs are not kept in the corpus: a repository is no place for them.
const LONGEST_KEPT: usize = 8 << 10;
/// A target that takes this long for one input hangs, as far as its callers are concerned.
const SLOW: Duration = Duration::from_secs(5);

/// One target being tried.
#[derive(Debug)]
pub struct Session {
    target: Target,
    /// Inputs to begin from: seeds, the corpus, and what reached new code.
    inputs: Vec<Vec<u8>>,
    reached: Reached,
    random: Random,
    tried: u64,
    /// Where inputs that reach new code are kept.
    keep: Option<PathBuf>,
}

/// An input that a target did not survive.
#[derive(Debug)]
pub struct Finding {
    /// The input.
    pub input: Vec<u8>,
    /// What went wrong.
    pub why: String,
}

/// What came of a session.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// How many inputs were tried.
    pub tried: u64,
    /// How many there are to begin from.
    pub inputs: usize,
    /// How much code was reached; zero without counters.
    pub edges: usize,
}

impl Session {
    /// A session from the target's seeds and the files below `corpus`; the same `seed` tries the same inputs, as long as the
    /// corpus is the same.
    ///
    /// # Errors
    /// When the corpus is there and can't be read, or a kept input is not survived.
    pub fn new(target: Target, corpus: &Path, seed: u64) -> io::Result<Result<Self, Finding>> {
        let mut inputs = (target.seeds)();
        inputs.push(Vec::new());
        let folder = corpus.join(target.name);
        if folder.exists() {
            let mut files = fs::read_dir(&folder)?
                .map(|file| Ok(file?.path()))
                .collect::<io::Result<Vec<_>>>()?;
            files.sort();
            for file in files {
                inputs.push(fs::read(file)?);
            }
        }
        let mut session = Self {
            target,
            inputs: Vec::new(),
            reached: Reached::default(),
            random: Random::new(seed),
            tried: 0,
            keep: None,
        };
        for input in inputs {
            if let Err(finding) = session.try_one(&input) {
                return Ok(Err(finding));
            }
            session.reached.take();
            session.inputs.push(input);
        }
        Ok(Ok(session))
    }

    /// Inputs that reach new code become files below `corpus`.
    #[must_use]
    pub fn keeping(mut self, corpus: &Path) -> Self {
        self.keep = Some(corpus.join(self.target.name));
        self
    }

    /// Tries `count` more inputs.
    ///
    /// # Errors
    /// The first that is not survived.
    pub fn rounds(&mut self, count: u64) -> Result<Report, Finding> {
        for _ in 0..count {
            self.round()?;
        }
        Ok(self.report())
    }

    /// Tries inputs for this long.
    ///
    /// # Errors
    /// The first that is not survived.
    pub fn run_for(&mut self, time: Duration) -> Result<Report, Finding> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.round()?;
        }
        Ok(self.report())
    }

    fn round(&mut self) -> Result<(), Finding> {
        let (one, other) = (
            self.random.below(self.inputs.len()),
            self.random.below(self.inputs.len()),
        );
        let mut input = self.inputs[one].clone();
        mutate(
            &mut input,
            &self.inputs[other],
            self.target.words,
            &mut self.random,
        );
        self.try_one(&input)?;
        if is_instrumented() && self.reached.take() {
            self.keep_file(&input);
            self.inputs.push(input);
        }
        Ok(())
    }

    fn try_one(&mut self, input: &[u8]) -> Result<(), Finding> {
        self.tried += 1;
        let started = Instant::now();
        let failed = |why: String| Finding {
            input: input.to_vec(),
            why: format!("{}: {why}", self.target.name),
        };
        panic::catch_unwind(AssertUnwindSafe(|| (self.target.run)(input))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            failed(text.unwrap_or("it panicked").to_owned())
        })?;
        let took = started.elapsed();
        if took > SLOW {
            return Err(failed(format!("took {took:?}")));
        }
        Ok(())
    }

    fn keep_file(&self, input: &[u8]) {
        let Some(folder) = self.keep.as_ref().filter(|_| input.len() <= LONGEST_KEPT) else {
            return;
        };
        // Named by what it holds, so that the same input is one file.
        let name = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let written =
            fs::create_dir_all(folder).and_then(|()| fs::write(folder.join(format!("{name:016x}")), input));
        if let Err(error) = written {
            eprintln!("{}: an input could not be kept: {error}", self.target.name);
        }
    }

    fn report(&self) -> Report {
        Report {
            tried: self.tried,
            inputs: self.inputs.len(),
            edges: self.reached.edges(),
        }
    }
}

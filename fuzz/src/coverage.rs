//! Which code an input reached, where the compiler was told to count (`fuzz/run` does): one byte for each edge, handed over
//! by every object file at start.
#![expect(
    unsafe_code,
    reason = "the compiler's counters are memory that only it knows the bounds of"
)]

use std::{
    slice,
    sync::{Mutex, PoisonError},
};

/// The counters of one object file.
struct Counters {
    start: *mut u8,
    length: usize,
}

// SAFETY: the counters are static memory of this process; they are read by one thread while no target runs, and a count that is
// lost or torn because code ran elsewhere meanwhile costs an input that is not kept, nothing else.
unsafe impl Send for Counters {}

static COUNTERS: Mutex<Vec<Counters>> = Mutex::new(Vec::new());

/// Called by the code that the compiler adds, once for each object file, before `main`.
///
/// # Safety
/// `start` and `stop` bound memory that lives as long as the process and may be written to, as LLVM's SanitizerCoverage promises.
#[unsafe(no_mangle)]
#[expect(unreachable_pub, reason = "the linker reaches it")]
pub unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    let length = (stop as usize).saturating_sub(start as usize);
    let mut held = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    if length > 0 && !held.iter().any(|counters| counters.start == start) {
        held.push(Counters { start, length });
    }
}

/// Whether this program was built with counters.
pub fn is_instrumented() -> bool {
    !COUNTERS.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
}

/// What was reached by all inputs so far.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// The classes of counts that were seen at each edge, a bit for each.
    classes: Vec<u8>,
}

impl Reached {
    /// Takes what was counted since the last time; whether any of it is new.
    pub(crate) fn take(&mut self) -> bool {
        let held = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut edge, mut new) = (0, false);
        for counters in held.iter() {
            // SAFETY: `start` and `length` are as the compiler's code gave them; the memory is static and nobody else holds a
            // reference into it.
            let counts = unsafe { slice::from_raw_parts_mut(counters.start, counters.length) };
            for count in counts {
                if self.classes.len() <= edge {
                    self.classes.resize(edge + 4096, 0);
                }
                let class = class(std::mem::take(count));
                new |= class & !self.classes[edge] != 0;
                self.classes[edge] |= class;
                edge += 1;
            }
        }
        new
    }

    /// How many edges were reached.
    pub(crate) fn edges(&self) -> usize {
        self.classes.iter().filter(|classes| **classes != 0).count()
    }
}

/// Once, twice, a few times, often: a loop that runs 40 or 41 times is no difference.
fn class(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        128..=255 => 128,
    }
}

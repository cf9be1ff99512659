/// A small random number generator: the same seed gives the same inputs (Vigna's xorshift64*).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Zero is the one state that it never leaves.
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16;
        usize::try_from(number).unwrap_or(usize::MAX) % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or_default()
    }
}

/// Values at which arithmetic and lengths change their mind.
const EDGES: [u8; 12] = [0, 1, 0x7f, 0x80, 0x81, 0x82, 0x84, 0xfe, 0xff, b'.', b'/', b'"'];
/// Longest input that is made.
const LONGEST: usize = 96 << 10;

/// Changes `input` in a few places. `other` is another input to take parts from, `words` the target's language.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], words: &[&str], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let span = random.below(1 + (input.len() - at).min(64));
        match random.below(9) {
            0 => flip(input, at, random),
            1 => set(input, at, EDGES[random.below(EDGES.len())]),
            2 => drop(input.splice(at..at + span, [])),
            3 => {
                let byte = random.byte();
                let count = random.below(48);
                drop(input.splice(at..at, std::iter::repeat_n(byte, count)));
            }
            4 => {
                let copied = input[at..at + span].to_vec();
                let to = random.below(input.len() + 1);
                drop(input.splice(to..to, copied));
            }
            5 => {
                let from = random.below(other.len() + 1);
                let end = from + random.below(1 + other.len() - from);
                drop(input.splice(at..at + span, other[from..end].iter().copied()));
            }
            6 if !words.is_empty() => {
                let word = words[random.below(words.len())];
                drop(input.splice(at..at + span, word.bytes()));
            }
            7 => {
                // A length or a count, a little off.
                let by = [1, 0xff, 2, 0x10][random.below(4)];
                if let Some(byte) = input.get_mut(at) {
                    *byte = byte.wrapping_add(by);
                }
            }
            _ => input.truncate(at),
        }
    }
    input.truncate(LONGEST);
}

fn flip(input: &mut [u8], at: usize, random: &mut Random) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn set(input: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = value;
    }
}

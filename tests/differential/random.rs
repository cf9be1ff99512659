/// A small random number generator: the same seed gives the same mutations (Vigna's xorshift64*).
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
        usize::try_from(number).unwrap() % bound.max(1)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    pub(crate) fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// Changes bytes in a few places: a bit, a value, a piece that goes, comes or is said twice.
    pub(crate) fn mutate(&mut self, input: &mut Vec<u8>) {
        const EDGES: [u8; 14] = [
            0, 1, 0x7f, 0x80, 0x81, 0xff, b'.', b'"', b'\\', b'{', b']', b',', b' ', b'-',
        ];
        for _ in 0..=self.below(2) {
            let at = self.below(input.len());
            let span = self.below(1 + (input.len() - at).min(8));
            match self.below(6) {
                0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
                1 if !input.is_empty() => input[at] = *self.of(&EDGES),
                2 => drop(input.splice(at..at + span, [])),
                3 => input.insert(at, *self.of(&EDGES)),
                4 => input.insert(at, self.byte()),
                _ => {
                    let copied = input[at..at + span].to_vec();
                    let to = self.below(input.len() + 1);
                    drop(input.splice(to..to, copied));
                }
            }
        }
    }
}

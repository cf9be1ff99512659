//! How many certificates are asked for at once.

/// More than that, a server refuses: its limit counts requests, not calls.
const MOST: usize = 500;

/// The size of the next batch: half of one that failed, because it may have been too much for the server, its store or a message; doubled again when one succeeds.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSize(usize);

impl BatchSize {
    pub(super) const FULL: Self = Self(MOST);

    pub(super) fn get(self) -> usize {
        self.0
    }

    pub(super) fn failed(&mut self, asked: usize) {
        self.0 = (asked.min(self.0) / 2).max(1);
    }

    pub(super) fn succeeded(&mut self) {
        self.0 = (self.0 * 2).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_halved_down_to_one_and_grows_back_to_what_a_server_takes() {
        let mut size = BatchSize::FULL;
        let mut sizes = Vec::new();
        for _ in 0..10 {
            sizes.push(size.get());
            size.failed(size.get());
        }
        assert_eq!(sizes, [500, 250, 125, 62, 31, 15, 7, 3, 1, 1]);
        (0..20).for_each(|_| size.succeeded());
        assert_eq!(size.get(), 500);
        size.failed(20);
        assert_eq!(size.get(), 10, "it is the batch that failed that counts");
    }
}

//! What we send: where a PING of our own fits between the frames of the server above us.

use super::{
    budget::Budget,
    frame::{DATA, FrameTracker, HEADER_LENGTH, HEADERS, PING},
};

/// A PING is a header and 8 bytes of anybody's choice (RFC 9113 6.7).
pub(crate) const PING_LENGTH: usize = HEADER_LENGTH + 8;

/// The PING that carries `nonce`.
pub(crate) fn ping_frame(nonce: [u8; 8]) -> [u8; PING_LENGTH] {
    let mut frame = [0; PING_LENGTH];
    frame[2] = 8;
    frame[3] = PING;
    frame[HEADER_LENGTH..].copy_from_slice(&nonce);
    frame
}

/// Follows the frames that the server writes.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    frames: FrameTracker,
}

impl Outbound {
    /// Passes over bytes that were written. Each answer gives the peer credit for the frames that go with it.
    pub(crate) fn advance(&mut self, mut bytes: &[u8], budget: &mut Budget) {
        while !bytes.is_empty() {
            let step = self.frames.step(bytes);
            if step.begun
                && step
                    .frame
                    .is_some_and(|frame| matches!(frame.kind, DATA | HEADERS))
            {
                budget.credit();
            }
            bytes = &bytes[step.consumed..];
        }
    }

    /// How many bytes of `next` must go before a PING may: none if we stand at a boundary, as many as complete the
    /// frame under way otherwise. `None` if no boundary is in reach. Our SETTINGS are the first frame, always (3.4).
    pub(crate) fn room_for_ping(&self, next: &[u8]) -> Option<usize> {
        let mut ahead = self.frames;
        let mut at = 0;
        loop {
            if ahead.at_boundary() && ahead.frames() > 0 {
                return Some(at);
            }
            if at == next.len() {
                return None;
            }
            at += ahead.step(&next[at..]).consumed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::frame::{CONTINUATION, END_HEADERS},
        *,
    };

    const SETTINGS: u8 = 0x4;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        bytes.extend(std::iter::repeat_n(0, length.into()));
        bytes
    }

    #[test]
    fn the_first_ping_goes_right_behind_our_settings() {
        let bytes = [frame(SETTINGS, 0, 12), frame(SETTINGS, 1, 0)].concat();
        let outbound = Outbound::default();
        assert_eq!(outbound.room_for_ping(&[]), None);
        assert_eq!(outbound.room_for_ping(&bytes), Some(21));
        assert_eq!(outbound.room_for_ping(&bytes[..20]), None);
    }

    #[test]
    fn a_ping_waits_for_the_end_of_frame_and_header_block_at_every_split() {
        let bytes = [
            frame(SETTINGS, 0, 0),
            frame(HEADERS, 0, 30),
            frame(CONTINUATION, 0, 3),
            frame(CONTINUATION, END_HEADERS, 4),
            frame(DATA, 0, 10),
        ]
        .concat();
        let boundaries = [9, 9 + 39 + 12 + 13, bytes.len()];
        for split in 0..=bytes.len() {
            let mut outbound = Outbound::default();
            outbound.advance(&bytes[..split], &mut Budget::default());
            let next = boundaries
                .into_iter()
                .find(|&boundary| boundary >= split)
                .map(|boundary| boundary - split);
            assert_eq!(outbound.room_for_ping(&bytes[split..]), next, "split at {split}");
        }
    }
}

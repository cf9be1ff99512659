//! Following frames over any splitting of a byte stream (RFC 9113 4.1).

use std::ops::Range;

/// Length, type, flags and stream of a frame.
pub(crate) const HEADER_LENGTH: usize = 9;

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const PUSH_PROMISE: u8 = 0x5;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const CONTINUATION: u8 = 0x9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITISED: u8 = 0x20;

/// A frame's header, decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FrameHeader {
    pub(crate) length: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHeader {
    pub(crate) fn parse(bytes: [u8; HEADER_LENGTH]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it begins or continues a header block that another frame must end (RFC 9113 4.3).
    pub(crate) fn leaves_block_open(&self) -> bool {
        matches!(self.kind, HEADERS | PUSH_PROMISE | CONTINUATION) && !self.has(END_HEADERS)
    }
}

/// Where in the stream of frames we are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameTracker {
    header: [u8; HEADER_LENGTH],
    have: usize,
    left: u32,
    block_open: bool,
    frames: u64,
}

/// What [`FrameTracker::step`] passed over: at most one frame's worth of bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Step {
    /// How many bytes were passed, at least one.
    pub(crate) consumed: usize,
    /// The frame they are of; none as long as its header is not whole.
    pub(crate) frame: Option<FrameHeader>,
    /// The header was completed in this step.
    pub(crate) begun: bool,
    /// Which of the bytes are payload of the current frame.
    pub(crate) payload: Range<usize>,
    /// The frame was completed in this step.
    pub(crate) ended: bool,
}

impl FrameTracker {
    /// Passes over bytes up to the end of the current frame, or all of them. `bytes` must not be empty.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        let mut begun = false;
        if self.have < HEADER_LENGTH {
            at = (HEADER_LENGTH - self.have).min(bytes.len());
            self.header[self.have..self.have + at].copy_from_slice(&bytes[..at]);
            self.have += at;
            if self.have < HEADER_LENGTH {
                return Step {
                    consumed: at,
                    frame: None,
                    begun,
                    payload: at..at,
                    ended: false,
                };
            }
            let header = self.current();
            self.left = header.length;
            self.block_open = if matches!(header.kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
                header.leaves_block_open()
            } else {
                self.block_open
            };
            begun = true;
        }
        let rest = bytes.len() - at;
        let payload = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest);
        // `payload` is at most `left`, so it fits.
        self.left -= u32::try_from(payload).unwrap_or(self.left);
        let ended = self.left == 0;
        if ended {
            self.have = 0;
            self.frames += 1;
        }
        Step {
            consumed: at + payload,
            frame: Some(self.current()),
            begun,
            payload: at..at + payload,
            ended,
        }
    }

    fn current(&self) -> FrameHeader {
        FrameHeader::parse(self.header)
    }

    /// Whether a frame may stand here: between two others, and not within a header block (RFC 9113 6.10).
    pub(crate) fn at_boundary(&self) -> bool {
        self.have == 0 && !self.block_open
    }

    /// Whether the next byte begins a frame.
    pub(crate) fn between_frames(&self) -> bool {
        self.have == 0
    }

    /// How many frames have passed.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: u8 = 0x4;

    fn advance(tracker: &mut FrameTracker, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[tracker.step(bytes).consumed..];
        }
    }

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, kind, flags, 0, 0, 0, 1];
        bytes[..3].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
        bytes.extend(std::iter::repeat_n(0x55, length));
        bytes
    }

    #[test]
    fn an_empty_frame_begins_and_ends_in_one_step() {
        let mut tracker = FrameTracker::default();
        let step = tracker.step(&frame(SETTINGS, 0, 0));
        assert!(step.begun && step.ended && step.payload.is_empty());
        assert!(tracker.at_boundary());
        assert_eq!(tracker.frames(), 1);
    }

    #[test]
    fn no_boundary_stands_between_headers_and_continuation() {
        let mut tracker = FrameTracker::default();
        advance(&mut tracker, &frame(HEADERS, 0, 5));
        assert!(!tracker.at_boundary());
        advance(&mut tracker, &frame(CONTINUATION, 0, 5));
        assert!(!tracker.at_boundary());
        advance(&mut tracker, &frame(CONTINUATION, END_HEADERS, 0));
        assert!(tracker.at_boundary());
    }

    proptest! {
        #[test]
        fn any_splitting_sees_the_same_frames(
            shapes in prop::collection::vec((0u8..12, any::<u8>(), 0usize..40), 1..12),
            cuts in prop::collection::vec(1usize..17, 1..8),
        ) {
            let bytes: Vec<u8> = shapes.iter().flat_map(|&(kind, flags, length)| frame(kind, flags, length)).collect();
            let mut tracker = FrameTracker::default();
            let (mut seen, mut payload, mut at) = (Vec::new(), 0, 0);
            for cut in cuts.iter().cycle() {
                if at == bytes.len() { break }
                let mut chunk = &bytes[at..(at + cut).min(bytes.len())];
                at += chunk.len();
                while !chunk.is_empty() {
                    let step = tracker.step(chunk);
                    prop_assert!(step.consumed > 0);
                    if let (true, Some(header)) = (step.begun, step.frame) { seen.push((header.kind, header.flags, header.length as usize)) }
                    payload += step.payload.len();
                    chunk = &chunk[step.consumed..];
                }
            }
            prop_assert_eq!(&seen, &shapes);
            prop_assert_eq!(payload, shapes.iter().map(|shape| shape.2).sum::<usize>());
            prop_assert_eq!(tracker.frames(), shapes.len() as u64);
            prop_assert!(tracker.between_frames());
        }
    }
}

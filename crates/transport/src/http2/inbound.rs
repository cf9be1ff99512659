//! What a peer sends: bounds, the answer to our PING, the repair of `:authority`. All in place, nothing is kept back.

use std::time::Instant;

use super::{
    authority::AuthorityFilter,
    budget::{Budget, RESET_COST},
    frame::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameHeader, FrameTracker, GOAWAY, HEADERS, PADDED,
        PING, PRIORITISED, PUSH_PROMISE, RST_STREAM,
    },
};

/// What every HTTP/2 client sends first (RFC 9113 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest frame that a peer may send, since our SETTINGS do not allow more (RFC 9113 4.2).
const FRAME: u32 = 16 * 1024;

/// The largest encoded header block, over all its frames.
const BLOCK: u32 = 16 * 1024;

/// CONTINUATION frames of one block; honest clients send none for blocks that fit a frame.
const CONTINUATIONS: u32 = 4;

/// An extension's frame type: every endpoint ignores those it does not know (RFC 9113 5.5).
const IGNORED: u8 = 0xf7;

/// Which rule of HTTP/2, or of ours, was broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// RFC 9113 3.4.
    #[error("the connection does not begin as HTTP/2")]
    Preface,
    /// RFC 9113 4.2.
    #[error("a frame is larger than our settings allow")]
    FrameTooLarge,
    /// RFC 9113 6.2 and 6.10.
    #[error("a header block is interrupted or continued out of place")]
    Block,
    /// RFC 9113 6.2.
    #[error("the padding of a frame is longer than the frame")]
    Padding,
    /// RFC 7541.
    #[error("a header block is no HPACK")]
    Hpack,
    /// RFC 9113 8.4: a client can't push.
    #[error("a client may not push")]
    Push,
    /// Our bound.
    #[error("a header block is too large")]
    BlockTooLarge,
    /// Our bound.
    #[error("too many frames that ask for nothing")]
    Flood,
}

/// Follows what one peer sends over any splitting.
#[derive(Debug, Default)]
pub struct Inbound {
    authority: Authority,
    preface: usize,
    frames: FrameTracker,
    /// How much of the current frame's payload has passed.
    passed: u32,
    padding: u32,
    block: Block,
    answer: [u8; 8],
    pub(crate) budget: Budget,
}

/// What is done about `:authority`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Authority {
    /// Clients of Unix sockets send what is none, so it is overwritten.
    #[default]
    Repaired,
    /// Clients of TCP send one.
    Kept,
}

/// The header block under way.
#[derive(Debug, Default)]
struct Block {
    open_on: Option<u32>,
    size: u32,
    continuations: u32,
    filter: AuthorityFilter,
}

impl Inbound {
    pub(crate) fn new(authority: Authority) -> Self {
        Self {
            authority,
            ..Self::default()
        }
    }

    /// Reads the next bytes and repairs them. Answers whether the PING with the payload `expected` was answered in them.
    pub fn feed(&mut self, mut bytes: &mut [u8], expected: Option<[u8; 8]>) -> Result<bool, FrameError> {
        if self.preface < PREFACE.len() {
            let here = (PREFACE.len() - self.preface).min(bytes.len());
            if bytes[..here] != PREFACE[self.preface..self.preface + here] {
                return Err(FrameError::Preface);
            }
            self.preface += here;
            bytes = &mut bytes[here..];
        }
        let mut answered = false;
        while !bytes.is_empty() {
            let begins_here = self.frames.between_frames();
            let step = self.frames.step(bytes);
            if let Some(header) = step.frame {
                if step.begun {
                    self.begin(header)?;
                }
                self.payload(header, &mut bytes[step.payload])?;
                if step.ended {
                    self.end(header)?;
                    if header.kind == PING
                        && header.has(ACK)
                        && header.length == 8
                        && expected == Some(self.answer)
                    {
                        answered = true;
                        if begins_here {
                            // The server above sent no such PING and would log it as odd. It is not worth holding
                            // bytes back for: split over two reads the frame passes as it is.
                            bytes[3] = IGNORED;
                        }
                    }
                }
            }
            bytes = &mut bytes[step.consumed..];
        }
        Ok(answered)
    }

    /// Whether the peer has shown that it speaks HTTP/2.
    pub(crate) fn has_begun(&self) -> bool {
        self.preface == PREFACE.len()
    }

    fn begin(&mut self, header: FrameHeader) -> Result<(), FrameError> {
        self.passed = 0;
        self.padding = 0;
        if header.length > FRAME {
            return Err(FrameError::FrameTooLarge);
        }
        let cost = match header.kind {
            HEADERS => {
                if self.block.open_on.is_some() || header.stream == 0 {
                    return Err(FrameError::Block);
                }
                self.block.open_on = Some(header.stream);
                (self.block.size, self.block.continuations) = (0, 0);
                0
            }
            CONTINUATION => {
                if self.block.open_on != Some(header.stream) {
                    return Err(FrameError::Block);
                }
                self.block.continuations += 1;
                if self.block.continuations > CONTINUATIONS {
                    return Err(FrameError::BlockTooLarge);
                }
                1
            }
            _ if self.block.open_on.is_some() => return Err(FrameError::Block),
            PUSH_PROMISE => return Err(FrameError::Push),
            RST_STREAM => RESET_COST,
            DATA if header.length > 0 || header.flags & END_STREAM != 0 => 0,
            GOAWAY => 0,
            // An answer to a PING or to SETTINGS costs too: we can't tell one too many from one that was asked for.
            _ => 1,
        };
        if cost > 0 && !self.budget.pay(cost, Instant::now) {
            return Err(FrameError::Flood);
        }
        Ok(())
    }

    fn payload(&mut self, header: FrameHeader, bytes: &mut [u8]) -> Result<(), FrameError> {
        // A payload is at most FRAME long.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (from, to) = (self.passed, self.passed + length);
        self.passed = to;
        match header.kind {
            HEADERS | CONTINUATION => {
                if header.kind == HEADERS
                    && header.has(PADDED)
                    && from == 0
                    && let Some(&padding) = bytes.first()
                {
                    self.padding = padding.into();
                }
                // Pad length and priority come before the fragment, the padding after it (RFC 9113 6.2).
                let (begin, end) = fragment(header, self.padding)?;
                let within = |at: u32| (at.clamp(from, to) - from) as usize;
                let part = &mut bytes[within(begin)..within(end.max(begin))];
                self.block.size += u32::try_from(part.len()).unwrap_or(u32::MAX);
                if self.block.size > BLOCK {
                    return Err(FrameError::BlockTooLarge);
                }
                if self.authority == Authority::Repaired {
                    self.block.filter.feed(part).map_err(|_| FrameError::Hpack)?;
                }
            }
            PING if header.length == 8 => self.answer[from as usize..to as usize].copy_from_slice(bytes),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, header: FrameHeader) -> Result<(), FrameError> {
        if matches!(header.kind, HEADERS | CONTINUATION) {
            // A frame too short for its own fields has no payload in which that would have shown.
            fragment(header, self.padding)?;
            if header.has(END_HEADERS) {
                self.block.open_on = None;
                self.block.filter.finish().map_err(|_| FrameError::Hpack)?;
            }
        }
        Ok(())
    }
}

/// Where in the payload the header block fragment lies.
fn fragment(header: FrameHeader, padding: u32) -> Result<(u32, u32), FrameError> {
    if header.kind == CONTINUATION {
        return Ok((0, header.length));
    }
    let begin = if header.has(PADDED) { 1 } else { 0 } + if header.has(PRIORITISED) { 5 } else { 0 };
    match header.length.checked_sub(padding) {
        Some(end) if begin <= end => Ok((begin, end)),
        _ => Err(FrameError::Padding),
    }
}

#[cfg(test)]
mod tests;

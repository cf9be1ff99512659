//! Making the `:authority` of requests acceptable, in place.
//!
//! Many gRPC clients on a Unix socket send the socket's path as `:authority`, percent-encoded (the C core and what is
//! built on it, Java, Swift). That is no authority (RFC 3986 3.2), so h2 resets such requests. On a Unix socket the name
//! says nothing that we believe or use, so each literal value is overwritten by one of the same length that is valid:
//! no byte moves, no length changes, and what the peer's and our dynamic tables hold stays the same on both sides,
//! since ours only ever sees the new value. A Huffman-coded value needs no decoding for that: eight-bit codes fill it.
//!
//! An empty value stays what it is, since nothing of that length is valid; no client sends one.
//!
//! The filter follows the grammar of header blocks (RFC 7541 6) and no table. It misses a value whose name is given by
//! a dynamic index, which encoders have no cause to use: `:authority` has a static one.

/// `:authority` in the static table (RFC 7541 Appendix A).
const STATIC_INDEX: u64 = 1;

const NAME: &[u8] = b":authority";

/// The same, Huffman-coded and padded with ones.
const NAME_HUFFMAN: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// What values are filled with: `X`, and its Huffman code of exactly eight bits (RFC 7541 Appendix B).
const FILL: u8 = b'X';
const FILL_HUFFMAN: u8 = 0xfc;

/// Beyond the largest header block by far; what counts further is no integer of an honest peer.
const INTEGER_LIMIT: u64 = 1 << 28;

/// The block is no HPACK.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

/// Follows one header block over any splitting.
#[derive(Debug, Default)]
pub(crate) struct AuthorityFilter {
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Between two fields.
    #[default]
    Field,
    /// Inside the integer that begins a field; `literal` tells fields with a value from the others.
    Index { literal: bool, so_far: Integer },
    /// Before the length of a string.
    Length { of: Part },
    /// Inside that length.
    LengthRest {
        of: Part,
        huffman: bool,
        so_far: Integer,
    },
    /// Inside a name that is spelled out.
    Name {
        huffman: bool,
        left: u64,
        matched: Option<u8>,
    },
    /// Inside a value.
    Value { fill: Option<u8>, left: u64 },
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Name,
    Value { authority: bool },
}

#[derive(Clone, Copy, Debug)]
struct Integer {
    value: u64,
    shift: u32,
}

impl AuthorityFilter {
    /// Reads the next bytes of the block and overwrites those of an authority's value.
    pub(crate) fn feed(&mut self, mut bytes: &mut [u8]) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            // Values are passed whole, all else byte by byte.
            if let State::Value { fill, left } = self.state {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                if let Some(fill) = fill {
                    bytes[..here].fill(fill);
                }
                self.state = match left - here as u64 {
                    0 => State::Field,
                    left => State::Value { fill, left },
                };
                bytes = &mut bytes[here..];
                continue;
            }
            self.state = self.state.after(bytes[0])?;
            bytes = &mut bytes[1..];
        }
        Ok(())
    }

    /// The block ends here, and begins anew.
    pub(crate) fn finish(&mut self) -> Result<(), Malformed> {
        match std::mem::take(&mut self.state) {
            State::Field => Ok(()),
            _ => Err(Malformed),
        }
    }
}

impl State {
    fn after(self, byte: u8) -> Result<Self, Malformed> {
        Ok(match self {
            Self::Field => {
                // Indexed 1xxxxxxx, literal with indexing 01xxxxxx, table size 001xxxxx, other literals 000?xxxx.
                let (literal, mask) = match byte.leading_zeros() {
                    0 => (false, 0x7f),
                    1 => (true, 0x3f),
                    2 => (false, 0x1f),
                    _ => (true, 0x0f),
                };
                match byte & mask {
                    value if value == mask => Self::Index {
                        literal,
                        so_far: Integer::begin(mask),
                    },
                    value => Self::after_index(literal, value.into()),
                }
            }
            Self::Index { literal, so_far } => match so_far.push(byte)? {
                Pushed::More(so_far) => Self::Index { literal, so_far },
                Pushed::Done(index) => Self::after_index(literal, index),
            },
            Self::Length { of } => {
                let huffman = byte & 0x80 != 0;
                match byte & 0x7f {
                    0x7f => Self::LengthRest {
                        of,
                        huffman,
                        so_far: Integer::begin(0x7f),
                    },
                    length => Self::after_length(of, huffman, length.into()),
                }
            }
            Self::LengthRest { of, huffman, so_far } => match so_far.push(byte)? {
                Pushed::More(so_far) => Self::LengthRest { of, huffman, so_far },
                Pushed::Done(length) => Self::after_length(of, huffman, length),
            },
            Self::Name {
                huffman,
                left,
                matched,
            } => {
                let wanted = if huffman { NAME_HUFFMAN } else { NAME };
                let matched = matched
                    .filter(|&at| wanted.get(usize::from(at)) == Some(&byte))
                    .map(|at| at + 1);
                match left - 1 {
                    0 => {
                        let authority = matched.is_some_and(|at| usize::from(at) == wanted.len());
                        Self::Length {
                            of: Part::Value { authority },
                        }
                    }
                    left => Self::Name {
                        huffman,
                        left,
                        matched,
                    },
                }
            }
            // `feed` passes values itself; one byte of it is the same in the end.
            Self::Value { fill, left } if left > 1 => Self::Value { fill, left: left - 1 },
            Self::Value { .. } => Self::Field,
        })
    }

    fn after_index(literal: bool, index: u64) -> Self {
        match (literal, index) {
            (false, _) => Self::Field,
            (true, 0) => Self::Length { of: Part::Name },
            (true, index) => Self::Length {
                of: Part::Value {
                    authority: index == STATIC_INDEX,
                },
            },
        }
    }

    fn after_length(of: Part, huffman: bool, length: u64) -> Self {
        match (of, length) {
            (Part::Name, 0) => Self::Length {
                of: Part::Value { authority: false },
            },
            (Part::Name, left) => Self::Name {
                huffman,
                left,
                matched: Some(0),
            },
            (Part::Value { .. }, 0) => Self::Field,
            (Part::Value { authority }, left) => {
                let fill = authority.then_some(if huffman { FILL_HUFFMAN } else { FILL });
                Self::Value { fill, left }
            }
        }
    }
}

enum Pushed {
    More(Integer),
    Done(u64),
}

impl Integer {
    fn begin(prefix: u8) -> Self {
        Self {
            value: prefix.into(),
            shift: 0,
        }
    }

    /// RFC 7541 5.1, with a bound on both the value and the bytes that spell it.
    fn push(self, byte: u8) -> Result<Pushed, Malformed> {
        if self.shift > 28 {
            return Err(Malformed);
        }
        let value = self.value + (u64::from(byte & 0x7f) << self.shift);
        if value > INTEGER_LIMIT {
            return Err(Malformed);
        }
        Ok(if byte & 0x80 == 0 {
            Pushed::Done(value)
        } else {
            Pushed::More(Self {
                value,
                shift: self.shift + 7,
            })
        })
    }
}

#[cfg(test)]
mod tests;

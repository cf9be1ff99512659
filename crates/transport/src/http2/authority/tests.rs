use proptest::prelude::*;

use super::*;

/// One field, as an encoder may write it, with what it reads as afterwards.
#[derive(Clone, Debug)]
enum Field {
    Indexed(u64),
    Resize(u64),
    Literal {
        first: u8,
        prefix: u8,
        index: u64,
        value: Text,
    },
    Named {
        first: u8,
        name: Text,
        value: Text,
    },
}

#[derive(Clone, Debug)]
struct Text {
    huffman: bool,
    bytes: Vec<u8>,
}

fn integer(out: &mut Vec<u8>, first: u8, prefix: u8, mut value: u64) {
    let mask = (1u64 << prefix) - 1;
    if value < mask {
        out.push(first | value as u8);
        return;
    }
    out.push(first | mask as u8);
    value -= mask;
    while value >= 128 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Text {
    fn write(&self, out: &mut Vec<u8>) {
        integer(
            out,
            if self.huffman { 0x80 } else { 0 },
            7,
            self.bytes.len() as u64,
        );
        out.extend(&self.bytes);
    }

    fn filled(&self) -> Self {
        let fill = if self.huffman { FILL_HUFFMAN } else { FILL };
        Self {
            huffman: self.huffman,
            bytes: vec![fill; self.bytes.len()],
        }
    }

    fn is_authority(&self) -> bool {
        self.bytes == if self.huffman { NAME_HUFFMAN } else { NAME }
    }
}

impl Field {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Indexed(index) => integer(out, 0x80, 7, *index),
            Self::Resize(size) => integer(out, 0x20, 5, *size),
            Self::Literal {
                first,
                prefix,
                index,
                value,
            } => {
                integer(out, *first, *prefix, *index);
                value.write(out);
            }
            Self::Named { first, name, value } => {
                out.push(*first);
                name.write(out);
                value.write(out);
            }
        }
    }

    fn repaired(&self) -> Self {
        match self.clone() {
            Self::Literal {
                first,
                prefix,
                index: 1,
                value,
            } => Self::Literal {
                first,
                prefix,
                index: 1,
                value: value.filled(),
            },
            Self::Named { first, name, value } if name.is_authority() => Self::Named {
                first,
                name,
                value: value.filled(),
            },
            other => other,
        }
    }
}

fn text() -> impl Strategy<Value = Text> {
    (
        any::<bool>(),
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            prop::collection::vec(any::<u8>(), 120..400)
        ],
    )
        .prop_map(|(huffman, bytes)| Text { huffman, bytes })
}

fn name() -> impl Strategy<Value = Text> {
    prop_oneof![
        Just(Text {
            huffman: false,
            bytes: NAME.to_vec()
        }),
        Just(Text {
            huffman: true,
            bytes: NAME_HUFFMAN.to_vec()
        }),
        Just(Text {
            huffman: true,
            bytes: NAME.to_vec()
        }),
        Just(Text {
            huffman: false,
            bytes: b":authorities".to_vec()
        }),
        Just(Text {
            huffman: false,
            bytes: b":authorit".to_vec()
        }),
        text(),
    ]
}

fn field() -> impl Strategy<Value = Field> {
    let kinds = prop_oneof![Just((0x40u8, 6u8)), Just((0x00, 4)), Just((0x10, 4))];
    let indices = prop_oneof![Just(1u64), 2u64..200, Just(100_000)];
    prop_oneof![
        (1u64..300).prop_map(Field::Indexed),
        (0u64..5_000).prop_map(Field::Resize),
        (kinds.clone(), indices, text()).prop_map(|((first, prefix), index, value)| Field::Literal {
            first,
            prefix,
            index,
            value
        }),
        (kinds, name(), text()).prop_map(|((first, _), name, value)| Field::Named { first, name, value }),
    ]
}

fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        field.write(&mut out);
    }
    out
}

fn feed_in_pieces(bytes: &mut [u8], cuts: &[usize]) -> Result<(), Malformed> {
    let mut filter = AuthorityFilter::default();
    let mut rest = bytes;
    for cut in cuts.iter().copied().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at_mut(cut.min(rest.len()));
        filter.feed(piece)?;
        rest = after;
    }
    filter.finish()
}

proptest! {
    #[test]
    fn authorities_are_overwritten_and_nothing_else_is(
        fields in prop::collection::vec(field(), 0..12),
        cuts in prop::collection::vec(1usize..50, 1..6),
    ) {
        let mut bytes = encode(&fields);
        let repaired = encode(&fields.iter().map(Field::repaired).collect::<Vec<_>>());
        feed_in_pieces(&mut bytes, &cuts).unwrap();
        prop_assert_eq!(bytes, repaired);
    }

    #[test]
    fn any_bytes_at_all_are_judged_alike_over_any_splitting(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(1usize..10, 1..6),
    ) {
        let (mut whole, mut pieces) = (bytes.clone(), bytes.clone());
        let verdict = feed_in_pieces(&mut whole, &[usize::MAX]);
        prop_assert_eq!(feed_in_pieces(&mut pieces, &cuts), verdict);
        if verdict.is_ok() {
            prop_assert_eq!(whole, pieces);
        }
    }
}

#[test]
fn a_socket_path_becomes_an_authority_in_both_codings() {
    let path = b"%2Frun%2Fmuster%2Fapi.sock";
    let mut plain = [&[0x41, path.len() as u8], &path[..], &[0x82]].concat();
    feed_in_pieces(&mut plain, &[3]).unwrap();
    assert_eq!(&plain[2..28], &[b'X'; 26]);
    assert_eq!(plain[28], 0x82);
    let mut coded = vec![0x41, 0x83, 0x54, 0x1f, 0xff];
    feed_in_pieces(&mut coded, &[1]).unwrap();
    assert_eq!(coded, [0x41, 0x83, 0xfc, 0xfc, 0xfc]);
}

#[test]
fn a_block_that_ends_within_a_field_is_malformed() {
    for block in [
        &[0x41][..],
        &[0x41, 3, 1],
        &[0x7f],
        &[0x40],
        &[0x40, 2, 1],
        &[0x41, 0x7f, 0x80],
    ] {
        assert_eq!(
            feed_in_pieces(&mut block.to_vec(), &[usize::MAX]),
            Err(Malformed),
            "{block:x?}"
        );
    }
}

#[test]
fn an_endless_integer_is_malformed() {
    for first in [0xffu8, 0x7f, 0x3f, 0x0f] {
        let block = [&[first], &[0x80u8; 9][..], &[1]].concat();
        assert_eq!(feed_in_pieces(&mut block.clone(), &[usize::MAX]), Err(Malformed));
    }
}

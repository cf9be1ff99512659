//! DER as a tree whose nodes can be bent: written with right lengths, and with wrong forms where a mutation asks for them.

use crate::random::Random;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    tag: u8,
    content: Content,
    form: Form,
}

#[derive(Clone, Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// What stands in a constructed value, or in an OCTET STRING that wraps values, as those of extensions do.
    Nodes(Vec<Node>),
}

/// How the length is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    Shortest,
    /// One byte more than is needed.
    Padded,
    /// BER's: `80 … 00 00`.
    Indefinite,
}

/// Tags that certificates have, and some that they should not.
const TAGS: [u8; 21] = [
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0a, 0x0c, 0x13, 0x16, 0x17, 0x18, 0x30, 0x31, 0x80, 0x82, 0x86,
    0x87, 0xa0, 0xa3, 0x24,
];

/// One value.
pub(crate) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    length(content.len(), &mut out);
    out.extend(content);
    out
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(0x30, parts)
}

fn length(length: usize, out: &mut Vec<u8>) {
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap());
    } else {
        let bytes = length.to_be_bytes();
        let skipped = bytes.iter().take_while(|byte| **byte == 0).count();
        out.push(0x80 | u8::try_from(bytes.len() - skipped).unwrap());
        out.extend_from_slice(&bytes[skipped..]);
    }
}

impl Node {
    /// The one value that fills `der`, if it is one.
    pub(crate) fn parse(der: &[u8]) -> Option<Self> {
        match nodes(der)?.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let content = match &self.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Nodes(nodes) => nodes.iter().flat_map(Self::write).collect(),
        };
        let mut out = vec![self.tag];
        match self.form {
            Form::Shortest => length(content.len(), &mut out),
            Form::Padded if content.len() < 0x80 => {
                out.extend([0x81, u8::try_from(content.len()).unwrap()]);
            }
            Form::Padded => {
                let bytes = u32::try_from(content.len()).unwrap().to_be_bytes();
                out.push(0x84);
                out.extend(bytes);
            }
            Form::Indefinite => {
                out.push(0x80);
                out.extend(content);
                out.extend([0, 0]);
                return out;
            }
        }
        out.extend(content);
        out
    }

    /// Bends one node that is not the root, and says how.
    pub(crate) fn mutate(&mut self, random: &mut Random) -> &'static str {
        let (count, other) = {
            let mut all = Vec::new();
            self.collect(&mut all);
            (all.len() - 1, (*random.of(&all)).clone())
        };
        loop {
            let mut to_go = random.below(count);
            if let Some(what) = self.bend_nth(&mut to_go, &other, random) {
                return what;
            }
        }
    }

    fn collect<'a>(&'a self, all: &mut Vec<&'a Self>) {
        all.push(self);
        if let Content::Nodes(nodes) = &self.content {
            for node in nodes {
                node.collect(all);
            }
        }
    }

    /// Bends the node that is `to_go` nodes further on; nothing when the chosen way to bend does not fit it.
    fn bend_nth(&mut self, to_go: &mut usize, other: &Self, random: &mut Random) -> Option<&'static str> {
        let Content::Nodes(nodes) = &mut self.content else {
            return None;
        };
        if *to_go < nodes.len() {
            let what = bend(nodes, *to_go, other.clone(), random);
            *to_go = usize::MAX;
            return what;
        }
        *to_go -= nodes.len();
        for node in nodes {
            let what = node.bend_nth(to_go, other, random);
            if *to_go == usize::MAX {
                return what;
            }
        }
        None
    }
}

/// The values that fill `der`; none when it is not DER.
fn nodes(mut der: &[u8]) -> Option<Vec<Node>> {
    let mut all = Vec::new();
    while let [tag, rest @ ..] = der {
        let (count, header) = match rest {
            [short @ 0..=0x7f, ..] => (usize::from(*short), 1),
            [0x81, a, ..] => (usize::from(*a), 2),
            [0x82, a, b, ..] => (usize::from(u16::from_be_bytes([*a, *b])), 3),
            _ => return None,
        };
        let content = rest.get(header..header + count)?;
        let wraps = *tag & 0x20 != 0 || *tag == 0x04;
        let inner = wraps.then(|| nodes(content)).flatten();
        // An OCTET STRING of bytes that happen to be empty stays one of bytes.
        let inner = inner.filter(|inner| *tag != 0x04 || !inner.is_empty());
        if inner.is_none() && *tag & 0x20 != 0 {
            return None;
        }
        all.push(Node {
            tag: *tag,
            content: inner.map_or_else(|| Content::Bytes(content.to_vec()), Content::Nodes),
            form: Form::Shortest,
        });
        der = &rest[header + count..];
    }
    Some(all)
}

fn bend(nodes: &mut Vec<Node>, at: usize, other: Node, random: &mut Random) -> Option<&'static str> {
    let kind = random.below(14);
    let node = &mut nodes[at];
    Some(match (kind, &mut node.content) {
        (0, _) => {
            nodes.remove(at);
            "a value left out"
        }
        (1, _) => {
            let twice = node.clone();
            nodes.insert(at, twice);
            "a value twice"
        }
        (2, _) => {
            let to = random.below(nodes.len());
            nodes.swap(at, to);
            "two values in the other order"
        }
        (3, _) => {
            node.tag = *random.of(&TAGS);
            "another tag"
        }
        (4, _) => {
            node.form = Form::Padded;
            "a length that is longer than needed"
        }
        (5, Content::Nodes(_)) => {
            node.form = Form::Indefinite;
            "an indefinite length"
        }
        (6, _) => {
            nodes.insert(
                at,
                Node {
                    tag: 0x05,
                    content: Content::Bytes(vec![]),
                    form: Form::Shortest,
                },
            );
            "a NULL between"
        }
        (7, _) => {
            *node = other;
            "a value from another place"
        }
        (8, Content::Bytes(bytes)) if !bytes.is_empty() => {
            let byte = random.below(bytes.len());
            bytes[byte] ^= 1 << random.below(8);
            "a bit"
        }
        (9, Content::Bytes(bytes)) if !bytes.is_empty() => {
            bytes.truncate(random.below(bytes.len()));
            "a shorter value"
        }
        (10, Content::Bytes(bytes)) => {
            bytes.push(*random.of(&[0, 1, 0x7f, 0x80, 0xff, b'a', b'/', b'Z']));
            "a longer value"
        }
        (11, Content::Bytes(bytes)) => {
            bytes.insert(0, *random.of(&[0, 1, 0x7f, 0x80, 0xff]));
            "a value with another beginning"
        }
        (12, Content::Bytes(bytes)) => {
            bytes.clear();
            "an empty value"
        }
        (13, Content::Bytes(bytes)) if !bytes.is_empty() => {
            let byte = random.below(bytes.len());
            bytes[byte] = *random.of(&[0, 1, 0x20, 0x30, 0x7f, 0x80, 0xff]);
            "a byte"
        }
        _ => return None,
    })
}

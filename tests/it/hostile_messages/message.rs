//! Messages by the contracts' own descriptors, more or less.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use super::random::Random;

/// Past this depth messages are left empty, or every one would be a tree of thousands.
const DEEPEST: usize = 6;
/// More than a server reads of one message.
const HUGE: usize = 5 << 20;
/// Deeper than any decoder goes down.
const NESTED: usize = 300;

/// Texts that get past the first look, so that the second is tried too, and some that must not.
const TEXTS: &[&str] = &[
    "",
    "example.org",
    "other.org",
    "spiffe://example.org/ai/a",
    "spiffe://example.org/spire/server",
    "/ai/a",
    "/spire/agent/join_token/none",
    "/spire/server",
    "/../a",
    "/",
    "unix",
    "uid:0",
    "uid:1000",
    "join_token",
    "rejoin",
    "x509pop",
    "k8s_psat",
    "entry.create",
    "entry.read",
    "*",
    "*.example.org",
    "a.example.org",
    "https://bundle.other.org/",
    "https://user@127.0.0.1:0/#",
    "2026-01-31 08:00:00 +0000 UTC",
    "2026-99-31 08:00:00 +9999 UTC",
    "one",
    "0f3c5d3e-6d3c-4a26-9d55-0c0b4b6a5c10",
    "\u{0}",
    "\u{1b}[31m",
    "\u{202e}\u{feff}",
    "%s%n",
];

/// Numbers at the ends of their ranges.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    3,
    59,
    600,
    0x7f,
    0x80,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// A method of the server.
pub(super) struct Method {
    /// `/package.Service/Method`.
    pub(super) path: String,
    /// Whether it reads a stream.
    pub(super) takes_many: bool,
    gives_many: bool,
    /// The name of the message that it reads.
    pub(super) input: String,
}

impl Method {
    pub(super) fn is_stream(&self) -> bool {
        self.takes_many || self.gives_many
    }
}

/// Everything that the server's contracts say.
pub(super) struct Contracts {
    messages: BTreeMap<String, DescriptorProto>,
    methods: Vec<Method>,
}

impl Contracts {
    pub(super) fn of_the_server() -> Self {
        let mut contracts = Self {
            messages: BTreeMap::new(),
            methods: Vec::new(),
        };
        for set in [
            muster_proto::spire::server::FILE_DESCRIPTOR_SET,
            muster_proto::node::FILE_DESCRIPTOR_SET,
            muster_proto::delivery::FILE_DESCRIPTOR_SET,
            muster_proto::authority::FILE_DESCRIPTOR_SET,
            muster_proto::grant::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                contracts.add(&file);
            }
        }
        assert!(
            contracts.methods.len() > 60,
            "{} methods",
            contracts.methods.len()
        );
        contracts
    }

    pub(super) fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// A message of that name, by one of the ways to get it wrong.
    pub(super) fn message(&self, name: &str, random: &mut Random) -> Vec<u8> {
        let honest = |random: &mut Random| {
            let mut bytes = Vec::new();
            self.fill(name, random, 0, &mut bytes);
            bytes
        };
        match random.below(16) {
            0 => Vec::new(),
            1 => random.bytes(64),
            // Cut off somewhere.
            2 => {
                let mut bytes = honest(random);
                let length = random.below(bytes.len() + 1);
                bytes.truncate(length);
                bytes
            }
            // Some bits are others.
            3 | 4 => {
                let mut bytes = honest(random);
                for _ in 0..=random.below(4) {
                    if !bytes.is_empty() {
                        let at = random.below(bytes.len());
                        bytes[at] ^= 1 << random.below(8);
                    }
                }
                bytes
            }
            // Twice, which merges or repeats.
            5 => [honest(random), honest(random)].concat(),
            // Fields that nobody knows.
            6 => {
                let mut bytes = honest(random);
                for _ in 0..8 {
                    let number = random.of(&[0, 15, 500, 19_000, 0x1fff_ffff]);
                    let kind = random.below(8) as u64;
                    varint(number << 3 | kind, &mut bytes);
                    bytes.extend(random.bytes(8));
                }
                bytes
            }
            7 => nested(random),
            8 if random.once_in(4) => huge(random),
            _ => honest(random),
        }
    }

    fn add(&mut self, file: &prost_types::FileDescriptorProto) {
        let package = file.package().to_owned();
        for message in &file.message_type {
            self.add_message(&format!(".{package}"), message);
        }
        for service in &file.service {
            for method in &service.method {
                self.methods.push(Method {
                    path: format!("/{package}.{}/{}", service.name(), method.name()),
                    takes_many: method.client_streaming(),
                    gives_many: method.server_streaming(),
                    input: method.input_type().to_owned(),
                });
            }
        }
    }

    fn add_message(&mut self, within: &str, message: &DescriptorProto) {
        let name = format!("{within}.{}", message.name());
        for inner in &message.nested_type {
            self.add_message(&name, inner);
        }
        self.messages.insert(name, message.clone());
    }

    fn fill(&self, name: &str, random: &mut Random, depth: usize, bytes: &mut Vec<u8>) {
        // What is imported from elsewhere (google.protobuf) has at most a value.
        let Some(message) = self.messages.get(name) else {
            return;
        };
        for field in &message.field {
            if depth > DEEPEST || random.once_in(4) {
                continue;
            }
            let often = match field.label() {
                Label::Repeated if random.once_in(12) => 40,
                Label::Repeated => random.below(4),
                // The last one counts, or they merge.
                _ if random.once_in(12) => 2,
                _ => 1,
            };
            for _ in 0..often {
                self.put(field, random, depth, bytes);
            }
        }
    }

    fn put(&self, field: &FieldDescriptorProto, random: &mut Random, depth: usize, bytes: &mut Vec<u8>) {
        let number = u64::from(field.number().unsigned_abs());
        // Now and then of another type than the contract says. Seldom: it is the end of a whole message.
        let kind = match random.once_in(150) {
            true => *random.of(&[
                Type::Uint64,
                Type::Bytes,
                Type::Fixed32,
                Type::Fixed64,
                Type::Group,
            ]),
            false => field.r#type(),
        };
        match kind {
            Type::String => delimited(number, &text(random), bytes),
            Type::Bytes => delimited(number, &blob(random), bytes),
            Type::Message => {
                let mut inner = Vec::new();
                self.fill(field.type_name(), random, depth + 1, &mut inner);
                delimited(number, &inner, bytes);
            }
            Type::Fixed32 | Type::Sfixed32 | Type::Float => {
                varint(number << 3 | 5, bytes);
                bytes.extend(random.next().to_le_bytes().into_iter().take(4));
            }
            Type::Fixed64 | Type::Sfixed64 | Type::Double => {
                varint(number << 3 | 1, bytes);
                bytes.extend(random.next().to_le_bytes());
            }
            // A group that nobody closes.
            Type::Group => varint(number << 3 | 3, bytes),
            Type::Bool => {
                varint(number << 3, bytes);
                varint(random.next() & 1, bytes);
            }
            _ => {
                varint(number << 3, bytes);
                varint(*random.of(NUMBERS), bytes);
            }
        }
    }
}

fn text(random: &mut Random) -> Vec<u8> {
    match random.below(120) {
        0 => "a".repeat(random.below(20_000)).into_bytes(),
        1 => format!("/{}", "a/".repeat(2_000)).into_bytes(),
        // No text at all.
        2 => [vec![0xff, 0xfe], random.bytes(16)].concat(),
        3 => "é\u{301}".repeat(random.below(300)).into_bytes(),
        _ => random.of(TEXTS).as_bytes().to_vec(),
    }
}

fn blob(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => Vec::new(),
        // The beginnings of DER.
        1 => [vec![0x30, 0x82, 0xff, 0xff], random.bytes(64)].concat(),
        2 => [vec![0x30, 0x80], random.bytes(64)].concat(),
        3 => vec![0x30; 4_096],
        4 => text(random),
        5 => random.bytes(20_000),
        _ => random.bytes(64),
    }
}

/// Messages within messages, by whatever number.
fn nested(random: &mut Random) -> Vec<u8> {
    let number = random.below(8) as u64 + 1;
    let mut bytes = Vec::new();
    for _ in 0..NESTED {
        let mut outer = Vec::with_capacity(bytes.len() + 8);
        delimited(number, &bytes, &mut outer);
        bytes = outer;
    }
    bytes
}

/// More than is read, in one field or in hundreds of thousands.
fn huge(random: &mut Random) -> Vec<u8> {
    let number = random.below(4) as u64 + 1;
    let mut bytes = Vec::new();
    match random.once_in(2) {
        true => delimited(number, &vec![b'a'; HUGE], &mut bytes),
        false => {
            while bytes.len() < HUGE {
                delimited(number, &[], &mut bytes);
            }
        }
    }
    bytes
}

fn delimited(number: u64, content: &[u8], bytes: &mut Vec<u8>) {
    varint(number << 3 | 2, bytes);
    varint(content.len() as u64, bytes);
    bytes.extend(content);
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

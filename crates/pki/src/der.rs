//! The little DER that is needed to take keys and certificates apart exactly: no BER, no long way round.

/// `SEQUENCE`.
pub(crate) const SEQUENCE: u8 = 0x30;
/// `INTEGER`.
pub(crate) const INTEGER: u8 = 0x02;
/// `BIT STRING`.
pub(crate) const BIT_STRING: u8 = 0x03;
/// `OCTET STRING`.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// `OBJECT IDENTIFIER`.
pub(crate) const OID: u8 = 0x06;
/// `BOOLEAN`.
pub(crate) const BOOLEAN: u8 = 0x01;
/// `SET`.
pub(crate) const SET: u8 = 0x31;

/// What was not DER. The reader never says more: the input is a stranger's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotDer;

/// Reads one value after the other from a slice. Lengths must be definite and minimal (X.690 10.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// The content of the next value, which must have this tag.
    pub(crate) fn read(&mut self, tag: u8) -> Result<&'a [u8], NotDer> {
        self.read_with_header(tag).map(|(_, content)| content)
    }

    /// The next value, which must have this tag: whole, and its content.
    pub(crate) fn read_with_header(&mut self, tag: u8) -> Result<(&'a [u8], &'a [u8]), NotDer> {
        let input = self.rest;
        let (&first, after_tag) = input.split_first().ok_or(NotDer)?;
        if first != tag {
            return Err(NotDer);
        }
        let (length, header) = match *after_tag {
            [short @ 0..=0x7f, ..] => (usize::from(short), 2),
            [0x81, a @ 0x80..=0xff, ..] => (usize::from(a), 3),
            [0x82, a @ 1..=0xff, b, ..] => (usize::from(u16::from_be_bytes([a, b])), 4),
            [0x83, a @ 1..=0xff, b, c, ..] => (u32::from_be_bytes([0, a, b, c]) as usize, 5),
            // Nothing here is anywhere near 16 MiB; longer forms are refused with the rest.
            _ => return Err(NotDer),
        };
        let whole = input.get(..header + length).ok_or(NotDer)?;
        self.rest = &input[whole.len()..];
        Ok((whole, &whole[header..]))
    }

    /// The tag of the next value; none at the end.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The content of the next value if it has this tag; otherwise nothing is read.
    pub(crate) fn read_optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, NotDer> {
        if self.peek() == Some(tag) {
            self.read(tag).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The next value, whatever it is: its tag and content.
    pub(crate) fn read_any(&mut self) -> Result<(u8, &'a [u8]), NotDer> {
        let tag = self.peek().ok_or(NotDer)?;
        Ok((tag, self.read(tag)?))
    }

    /// A BOOLEAN that defaults to false. The default may stand there in full, as many issuers write it.
    pub(crate) fn read_default_false(&mut self) -> Result<bool, NotDer> {
        match self.read_optional(BOOLEAN)? {
            None | Some([0]) => Ok(false),
            Some([0xff]) => Ok(true),
            Some(_) => Err(NotDer),
        }
    }

    /// The content of an OBJECT IDENTIFIER: at least one number, each ended and in its shortest form (X.690 8.19).
    pub(crate) fn read_oid(&mut self) -> Result<&'a [u8], NotDer> {
        let content = self.read(OID)?;
        let ends = content.last().is_some_and(|byte| *byte < 0x80);
        let mut begins = true;
        let padded = content.iter().any(|byte| {
            let pads = begins && *byte == 0x80;
            begins = *byte < 0x80;
            pads
        });
        if ends && !padded { Ok(content) } else { Err(NotDer) }
    }

    /// The content of a BIT STRING of whole bytes.
    pub(crate) fn read_bit_string(&mut self) -> Result<&'a [u8], NotDer> {
        match self.read(BIT_STRING)? {
            [0, bytes @ ..] => Ok(bytes),
            _ => Err(NotDer),
        }
    }

    /// The magnitude of a positive INTEGER in its one minimal form, without a leading zero.
    pub(crate) fn read_positive_integer(&mut self) -> Result<&'a [u8], NotDer> {
        match self.read(INTEGER)? {
            [0, rest @ ..] if rest.first().is_some_and(|byte| *byte >= 0x80) => Ok(rest),
            bytes @ [1..=0x7f, ..] => Ok(bytes),
            _ => Err(NotDer),
        }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may follow.
    pub(crate) fn finish(self) -> Result<(), NotDer> {
        if self.rest.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

/// One value: tag, minimal length, content.
pub(crate) fn value(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let length: usize = content.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let skipped = bytes.iter().take_while(|byte| **byte == 0).count();
        out.push(0x80 | (bytes.len() - skipped) as u8);
        out.extend_from_slice(&bytes[skipped..]);
    }
    for part in content {
        out.extend_from_slice(part);
    }
    out
}

/// A positive INTEGER from its big-endian magnitude; leading zeros are dropped.
pub(crate) fn positive_integer(magnitude: &[u8]) -> Vec<u8> {
    let start = magnitude
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(magnitude.len());
    let bytes = &magnitude[start..];
    match bytes.first() {
        Some(0x80..) => value(INTEGER, &[&[0], bytes]),
        Some(_) => value(INTEGER, &[bytes]),
        None => value(INTEGER, &[&[0]]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_that_are_not_minimal_or_not_definite_are_refused() {
        for bad in [
            &[0x30, 0x80][..],
            &[0x30, 0x81, 0x05, 1, 2, 3, 4, 5],
            &[0x30, 0x82, 0x00, 0x85],
            &[0x30, 0x83, 0x00, 0xff, 0xff],
            &[0x30, 0x84, 0x01, 0x00, 0x00, 0x00],
            &[0x30, 0x05, 1],
            &[0x30],
            &[],
        ] {
            assert_eq!(Reader::new(bad).read(SEQUENCE), Err(NotDer), "{bad:x?}");
        }
    }

    #[test]
    fn integers_have_one_form() {
        for bad in [
            &[0x02, 0x00][..],
            &[0x02, 0x01, 0x00],
            &[0x02, 0x02, 0x00, 0x01],
            &[0x02, 0x01, 0x80],
        ] {
            assert_eq!(Reader::new(bad).read_positive_integer(), Err(NotDer), "{bad:x?}");
        }
        assert_eq!(
            Reader::new(&[0x02, 0x02, 0x00, 0x80]).read_positive_integer(),
            Ok(&[0x80][..])
        );
    }

    #[test]
    fn object_identifiers_end_and_are_not_padded() {
        for bad in [
            &[0x06, 0x00][..],
            &[0x06, 0x02, 0x55, 0x80],
            &[0x06, 0x03, 0x55, 0x80, 0x01],
            &[0x06, 0x01, 0x80],
        ] {
            assert_eq!(Reader::new(bad).read_oid(), Err(NotDer), "{bad:x?}");
        }
        let good = [0x06, 0x03, 0x2a, 0x86, 0x48];
        assert_eq!(Reader::new(&good).read_oid(), Ok(&good[2..]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(content in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let written = value(SEQUENCE, &[&content]);
            let mut reader = Reader::new(&written);
            prop_assert_eq!(reader.read(SEQUENCE), Ok(&content[..]));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn no_input_panics_the_reader(input in proptest::collection::vec(any::<u8>(), 0..64), tag in any::<u8>()) {
            let mut reader = Reader::new(&input);
            let _ = reader.read(tag);
            let _ = reader.read_bit_string();
            let _ = reader.read_positive_integer();
        }
    }
}

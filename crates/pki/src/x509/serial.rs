//! Serial numbers of certificates.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand;

/// Longest serial number that is read (RFC 5280 4.1.2.2).
const MAX_BYTES: usize = 20;

/// The serial number of a certificate: not negative, at most 20 bytes. Prints as decimal, as SPIRE's API has it.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Serial {
    /// Big-endian, without leading zeros; empty is zero.
    magnitude: Vec<u8>,
}

impl Serial {
    /// A new one: 127 random bits and never zero, so that nobody can foretell a certificate's bytes and no two meet.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 16];
        loop {
            rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
            bytes[0] &= 0x7f;
            // A short serial would be legal; one whose first byte is not zero keeps all certificates of one length.
            if bytes[0] != 0 {
                return Ok(Self {
                    magnitude: bytes.to_vec(),
                });
            }
        }
    }

    /// From a big-endian magnitude of at most 20 bytes; leading zeros are dropped.
    #[must_use]
    pub fn from_be_bytes(bytes: &[u8]) -> Option<Self> {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        let magnitude = bytes[start..].to_vec();
        (magnitude.len() <= MAX_BYTES).then_some(Self { magnitude })
    }

    /// From the content of a DER INTEGER.
    pub(super) fn from_der_content(content: &[u8]) -> Option<Self> {
        match content {
            [] | [0x80..=0xff, ..] | [0, 0..=0x7f, ..] => None,
            bytes => Self::from_be_bytes(bytes),
        }
        .or_else(|| {
            (content == [0]).then(|| Self {
                magnitude: Vec::new(),
            })
        })
    }

    /// Big-endian, without leading zeros.
    #[must_use]
    pub fn as_be_bytes(&self) -> &[u8] {
        &self.magnitude
    }

    /// Lower-case hexadecimal, two digits a byte.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.magnitude.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Repeated division by ten: twenty bytes at most, so the plain way is quick enough.
        let mut rest = self.magnitude.clone();
        let mut digits = Vec::new();
        while rest.iter().any(|byte| *byte != 0) {
            let mut remainder = 0u16;
            for byte in &mut rest {
                let value = remainder << 8 | u16::from(*byte);
                *byte = (value / 10) as u8;
                remainder = value % 10;
            }
            digits.push(b'0' + remainder as u8);
        }
        if digits.is_empty() {
            digits.push(b'0');
        }
        digits
            .iter()
            .rev()
            .try_for_each(|digit| write!(f, "{}", char::from(*digit)))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = ParseSerialError;

    /// Decimal, without sign, leading zeros or anything else.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > 49 || (text.len() > 1 && text.starts_with('0')) {
            return Err(ParseSerialError);
        }
        let mut bytes = vec![0u8; MAX_BYTES];
        for digit in text.bytes() {
            if !digit.is_ascii_digit() {
                return Err(ParseSerialError);
            }
            let mut carry = u16::from(digit - b'0');
            for byte in bytes.iter_mut().rev() {
                let value = u16::from(*byte) * 10 + carry;
                *byte = (value & 0xff) as u8;
                carry = value >> 8;
            }
            if carry != 0 {
                return Err(ParseSerialError);
            }
        }
        Self::from_be_bytes(&bytes).ok_or(ParseSerialError)
    }
}

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoRandomness;

/// Not a decimal number of at most 20 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a serial number: expected decimal digits, at most 20 bytes' worth")]
pub struct ParseSerialError;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn new_serials_are_positive_long_and_all_different() {
        let serials: HashSet<_> = (0..10_000)
            .map(|_| Serial::random().expect("randomness"))
            .collect();
        assert_eq!(serials.len(), 10_000);
        assert!(serials.iter().all(|serial| {
            serial.as_be_bytes().len() == 16 && (1..0x80).contains(&serial.as_be_bytes()[0])
        }));
    }

    #[test]
    fn negative_and_padded_integers_are_refused() {
        for bad in [&[][..], &[0x80], &[0xff, 1], &[0, 1], &[0, 0], &[1; 21]] {
            assert_eq!(Serial::from_der_content(bad), None, "{bad:x?}");
        }
        assert_eq!(
            Serial::from_der_content(&[0, 0x80]).expect("128").to_string(),
            "128"
        );
        assert_eq!(Serial::from_der_content(&[0]).expect("zero").to_string(), "0");
        assert!(Serial::from_der_content(&[0x7f; 20]).is_some());
    }

    proptest! {
        #[test]
        fn decimal_goes_there_and_back(value: u128) {
            let serial = Serial::from_be_bytes(&value.to_be_bytes()).expect("16 bytes");
            prop_assert_eq!(serial.to_string(), value.to_string());
            prop_assert_eq!(serial.to_string().parse::<Serial>(), Ok(serial));
        }

        #[test]
        fn no_text_panics_the_parser(text in "\\PC{0,60}") {
            let _ = text.parse::<Serial>();
        }
    }
}

//! The two numbers of an ECDSA signature, for protocols that carry them apart.

use crate::der::{self, Reader};

/// No number is longer: the order of P-521 has 66 bytes.
const LONGEST: usize = 66;

/// `r` and `s`, big-endian. Leading zeros mean nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EcdsaParts {
    /// r.
    pub r: Vec<u8>,
    /// s.
    pub s: Vec<u8>,
}

impl EcdsaParts {
    /// Takes the ASN.1 form apart (RFC 3279 2.2.3); none when it is not that.
    #[must_use]
    pub fn from_der(signature: &[u8]) -> Option<Self> {
        let mut outer = Reader::new(signature);
        let mut fields = Reader::new(outer.read(der::SEQUENCE).ok()?);
        outer.finish().ok()?;
        let (r, s) = (
            fields.read_positive_integer().ok()?,
            fields.read_positive_integer().ok()?,
        );
        fields.finish().ok()?;
        Some(Self {
            r: r.to_vec(),
            s: s.to_vec(),
        })
    }

    /// The ASN.1 form; none when a number is zero or longer than any order.
    #[must_use]
    pub fn to_der(&self) -> Option<Vec<u8>> {
        let fits = |number: &[u8]| number.len() <= LONGEST && number.iter().any(|byte| *byte != 0);
        (fits(&self.r) && fits(&self.s)).then(|| {
            let (r, s) = (der::positive_integer(&self.r), der::positive_integer(&self.s));
            der::value(der::SEQUENCE, &[&r, &s])
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_apart_goes_together_again(r in prop::collection::vec(any::<u8>(), 0..70), s in prop::collection::vec(any::<u8>(), 0..70)) {
            let parts = EcdsaParts { r, s };
            let bare = |number: &[u8]| -> Vec<u8> { number.iter().copied().skip_while(|byte| *byte == 0).collect() };
            match parts.to_der() {
                Some(der) => {
                    let again = EcdsaParts::from_der(&der).expect("its own form");
                    prop_assert_eq!((again.r, again.s), (bare(&parts.r), bare(&parts.s)));
                }
                None => prop_assert!([&parts.r, &parts.s].into_iter().any(|number| number.len() > LONGEST || bare(number).is_empty())),
            }
        }

        #[test]
        fn no_signature_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = EcdsaParts::from_der(&bytes);
        }
    }
}

use proptest::prelude::*;

use super::*;
use crate::local_key::{KeyAlgorithm, LocalKey};
use crate::signer::Signer;

fn p256() -> LocalKey {
    LocalKey::generate(KeyAlgorithm::EcP256).expect("a key")
}

#[test]
fn keys_survive_the_round_trip_through_their_parts() {
    let key = p256();
    let public = key.public_key();
    let (x, y) = public.ec_coordinates().expect("a point");
    assert_eq!(
        &PublicKey::from_ec_coordinates(KeyKind::EcP256, x, y).expect("same key"),
        public
    );
    assert_eq!(
        &PublicKey::from_spki_der(public.spki_der()).expect("same key"),
        public
    );
    assert!(public.rsa_components().is_none());
}

#[test]
fn a_point_off_the_curve_is_refused() {
    let key = p256();
    let (x, y) = key.public_key().ec_coordinates().expect("a point");
    let mut wrong = y.to_vec();
    wrong[31] ^= 1;
    assert_eq!(
        PublicKey::from_ec_coordinates(KeyKind::EcP256, x, &wrong),
        Err(PublicKeyError::Point)
    );
    assert_eq!(
        PublicKey::from_ec_coordinates(KeyKind::EcP384, x, y),
        Err(PublicKeyError::Point)
    );
    assert_eq!(
        PublicKey::from_ec_coordinates(KeyKind::EcP256, &[0; 32], &[0; 32]),
        Err(PublicKeyError::Point)
    );
}

#[test]
fn rsa_keys_outside_the_policy_are_refused_by_their_size_alone() {
    let odd = |bytes: usize| {
        let mut modulus = vec![0xff; bytes];
        modulus[0] = 0x80;
        modulus
    };
    for (bytes, bits) in [(128, 1024), (255, 2040), (513, 4104), (640, 5120)] {
        assert_eq!(
            PublicKey::from_rsa_components(&odd(bytes), &RSA_EXPONENT),
            Err(PublicKeyError::RsaSize(bits))
        );
    }
    assert_eq!(
        PublicKey::from_rsa_components(&odd(2048), &RSA_EXPONENT),
        Err(PublicKeyError::TooLong(2048)),
        "16,384 bits never reach the reader"
    );
    for exponent in [&[3][..], &[1], &[1, 0, 0], &[1, 0, 0, 0, 1], &[0]] {
        assert!(
            PublicKey::from_rsa_components(&odd(256), exponent).is_err(),
            "{exponent:?}"
        );
    }
    let mut even = odd(256);
    even[255] = 0xfe;
    assert_eq!(
        PublicKey::from_rsa_components(&even, &RSA_EXPONENT),
        Err(PublicKeyError::RsaModulus)
    );
    assert_eq!(
        PublicKey::from_rsa_components(&odd(256), &RSA_EXPONENT)
            .expect("accepted")
            .kind(),
        KeyKind::Rsa { bits: 2048 }
    );
}

#[test]
fn a_second_encoding_of_the_same_key_is_refused() {
    let key = p256();
    let spki = key.public_key().spki_der();
    let mut long_form = vec![0x30, 0x81, spki[1]];
    long_form.extend_from_slice(&spki[2..]);
    assert_eq!(
        PublicKey::from_spki_der(&long_form),
        Err(PublicKeyError::Malformed)
    );
    let mut trailing = spki.to_vec();
    trailing.push(0);
    assert_eq!(
        PublicKey::from_spki_der(&trailing),
        Err(PublicKeyError::Malformed)
    );
}

#[test]
fn a_scheme_that_does_not_go_with_the_key_verifies_nothing() {
    let key = p256();
    let signature = key
        .sign(SignatureScheme::EcdsaSha256, b"message")
        .expect("signed");
    let public = key.public_key();
    assert_eq!(
        public.verify(SignatureScheme::EcdsaSha256, b"message", &signature),
        Ok(())
    );
    for other in [
        SignatureScheme::EcdsaSha384,
        SignatureScheme::RsaPkcs1Sha256,
        SignatureScheme::Ed25519,
    ] {
        assert_eq!(
            public.verify(other, b"message", &signature),
            Err(BadSignature),
            "{other}"
        );
    }
    assert_eq!(
        public.verify(SignatureScheme::EcdsaSha256, b"massage", &signature),
        Err(BadSignature)
    );
}

#[test]
fn debug_names_the_kind_and_little_else() {
    let text = format!("{:?}", p256().public_key());
    assert!(
        text.starts_with("PublicKey(ec-p256, ") && text.len() < 40,
        "{text}"
    );
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = PublicKey::from_spki_der(&bytes);
    }

    #[test]
    fn a_damaged_key_is_refused_or_another_key(at in 0usize..91, flip in 1u8..) {
        let key = p256();
        let mut spki = key.public_key().spki_der().to_vec();
        spki[at] ^= flip;
        prop_assert!(PublicKey::from_spki_der(&spki).as_ref() != Ok(key.public_key()));
    }
}

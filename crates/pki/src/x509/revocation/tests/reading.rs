//! What is read of a list, and which lists are refused.

use proptest::prelude::*;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams};

use super::*;

#[test]
fn every_reason_is_read_and_none_excuses() {
    let root = root();
    let chain = [leaf(&root)];
    for (code, text) in [
        (0, "unspecified"),
        (1, "keyCompromise"),
        (2, "cACompromise"),
        (3, "affiliationChanged"),
        (4, "superseded"),
        (5, "cessationOfOperation"),
        (6, "certificateHold"),
        (9, "privilegeWithdrawn"),
        (10, "aACompromise"),
    ] {
        let list = List::of(&root).revoking(&[entry(LEAF, &[reason(code)])]);
        let error = refused(&chain, &root, &[list.good(&root)]).to_string();
        assert!(error.ends_with(&format!(": {text}")), "{error}");
    }
    let list = List::of(&root).revoking(&[entry(LEAF, &[])]).good(&root);
    assert_eq!(list.revoked()[0].reason, Reason::Unspecified);
    let dated = extension(INVALIDITY, false, &generalized(-3600));
    let unknown = extension(UNKNOWN, false, &[5, 0]);
    let list = List::of(&root).revoking(&[entry(LEAF, &[dated, unknown, reason(4)])]);
    assert_eq!(list.good(&root).revoked()[0].reason, Reason::Superseded);
    // Twice on one list: revoked, and the first entry tells why.
    let list = List::of(&root).revoking(&[entry(LEAF, &[reason(4)]), entry(LEAF, &[reason(1)])]);
    let list = list.good(&root);
    assert_eq!(list.revoked().len(), 1);
    assert_eq!(list.revoked()[0].reason, Reason::Superseded);
}

#[test]
fn lists_that_are_not_wholly_understood_are_refused() {
    use RevocationListError as E;
    let root = root();
    let serial = Serial::from_be_bytes(&[LEAF]).expect("a serial number");
    let plain = || List::of(&root);
    let bent = |change: fn(&mut List)| {
        let mut list = List::of(&root);
        change(&mut list);
        list
    };
    let one = |extensions: &[Vec<u8>]| List::of(&root).revoking(&[entry(LEAF, extensions)]);
    let relative = der::value(0xa0, &[&der::value(0xa1, &[])]);
    let unnamed = der::value(0xa0, &[&[0xa0, 0]]);
    let number = |value: &[u8]| {
        let mut list = List::of(&root);
        list.extensions = vec![extension(CRL_NUMBER, false, value)];
        list
    };
    let long = der::value(der::INTEGER, &[&[1; 21]]);
    let cases = [
        (bent(|list| list.version = Vec::new()), E::Version),
        (bent(|list| list.version = vec![2, 1, 0]), E::Version),
        (bent(|list| list.version = vec![2, 1, 2]), E::Version),
        (
            bent(|list| {
                list.algorithm = der::value(der::SEQUENCE, &[rustls_pki_types::alg_id::ED25519.as_ref()]);
            }),
            E::Algorithm,
        ),
        (bent(|list| list.issuer = vec![0x30, 0]), E::Malformed),
        (bent(|list| list.issuer = vec![0x30, 2, 0x31, 0]), E::Malformed),
        (bent(|list| list.next_update = Vec::new()), E::NextUpdate),
        (bent(|list| list.this_update = vec![0x17, 1, b'0']), E::Malformed),
        (bent(|list| list.entries = vec![0x30, 0]), E::NoEntries),
        (bent(|list| list.extensions = Vec::new()), E::Number),
        (
            bent(|list| list.extensions = vec![extension(35, false, &[0x30, 0])]),
            E::Number,
        ),
        (number(&[der::INTEGER, 1, 0xff]), E::Number),
        (number(&long), E::Number),
        (number(&[5, 0]), E::Number),
        (
            bent(|list| list.extensions = vec![extension(CRL_NUMBER, true, &[der::INTEGER, 1, 9])]),
            E::Critical("2.5.29.20".to_owned()),
        ),
        (
            plain().with(extension(CRL_NUMBER, false, &[2, 1, 9])),
            E::Malformed,
        ),
        (
            plain().with(extension(DELTA, true, &[der::INTEGER, 1, 1])),
            E::Delta,
        ),
        (
            plain().with(extension(UNKNOWN, true, &[5, 0])),
            E::Critical("2.5.29.99".to_owned()),
        ),
        (
            plain().with(extension(35, true, &[0x30, 0])),
            E::Critical("2.5.29.35".to_owned()),
        ),
        (plain().with(place(&[])), E::Malformed),
        (plain().with(place(&[&[0x84, 1, 0xff]])), E::Indirect),
        (plain().with(place(&[&[0x83, 2, 0, 0x40]])), E::SomeReasons),
        (plain().with(place(&[&[0x85, 1, 0xff]])), E::AttributeCertificates),
        (
            plain().with(place(&[&[0x81, 1, 0xff], &[0x82, 1, 0xff]])),
            E::Malformed,
        ),
        (
            plain().with(place(&[&[0x82, 1, 0xff], &[0x81, 1, 0xff]])),
            E::Malformed,
        ),
        (plain().with(place(&[&[0x81, 1, 1]])), E::Malformed),
        (plain().with(place(&[&relative])), E::RelativeName),
        (plain().with(place(&[&unnamed])), E::Malformed),
        (one(&[reason(8)]), E::Removed(serial.clone())),
        (one(&[reason(7)]), E::Malformed),
        (one(&[reason(11)]), E::Malformed),
        (one(&[reason(1), reason(1)]), E::Malformed),
        (one(&[extension(REASON, false, &[0x0a, 2, 0, 1])]), E::Malformed),
        (
            one(&[extension(REASON, true, &[0x0a, 1, 1])]),
            E::CriticalInEntry(serial.clone()),
        ),
        (
            one(&[extension(UNKNOWN, true, &[5, 0])]),
            E::CriticalInEntry(serial),
        ),
        (
            one(&[extension(CERTIFICATE_ISSUER, true, &[0x30, 0])]),
            E::Indirect,
        ),
        (
            one(&[extension(INVALIDITY, false, &[0x17, 1, b'0'])]),
            E::Malformed,
        ),
        (plain().revoking(&[vec![0x30, 3, 2, 1, 1]]), E::Malformed),
        (plain().revoking(&[entry(0xff, &[])]), E::Serial),
    ];
    for (at, (list, expected)) in cases.into_iter().enumerate() {
        let error = list.read(&root).expect_err(&format!("case {at}: {expected:?}"));
        assert_eq!(error, expected, "case {at}");
        assert!(error.section().starts_with("RFC 5280 "), "{error:?}");
    }
    let empty_extensions = [&[der::INTEGER, 1, 1][..], &generalized(0), &[0x30, 0]].concat();
    let list = plain().revoking(&[der::value(der::SEQUENCE, &[&empty_extensions])]);
    assert_eq!(list.read(&root).expect_err("no extensions"), E::Malformed);
}

#[test]
fn sizes_are_bounded() {
    let root = root();
    let long = vec![0x30; MAX_REVOCATION_LIST + 1];
    let error = RevocationList::parse(&long).expect_err("too long");
    assert_eq!(error, RevocationListError::TooLong(MAX_REVOCATION_LIST + 1));
    assert_eq!(error.section(), "project limit");
    // As short as entries are, so that more of them fit than may be.
    let short = der::value(
        der::SEQUENCE,
        &[&[der::INTEGER, 1, 1], &der::value(0x17, &[b"270101000000Z"])],
    );
    let most = List::of(&root).revoking(&vec![short.clone(); MAX_REVOKED]);
    assert_eq!(most.good(&root).revoked().len(), 1);
    let more = List::of(&root).revoking(&vec![short; MAX_REVOKED + 1]);
    assert_eq!(
        more.read(&root).expect_err("too many"),
        RevocationListError::TooMany
    );
    let followed = [List::of(&root).signed(&root), vec![0]].concat();
    assert_eq!(
        RevocationList::parse(&followed).expect_err("something follows"),
        RevocationListError::Malformed
    );
}

#[test]
fn critical_extensions_are_named_by_numbers() {
    let root = root();
    let oid = [0x2b, 6, 1, 4, 1, 0x82, 0x37];
    let value = der::value(der::OCTET_STRING, &[&[5, 0]]);
    let extension = der::value(
        der::SEQUENCE,
        &[&der::value(der::OID, &[&oid]), &[der::BOOLEAN, 1, 0xff], &value],
    );
    let error = List::of(&root).with(extension).read(&root).expect_err("critical");
    assert_eq!(error, RevocationListError::Critical("1.3.6.1.4.1.311".to_owned()));
}

/// A list of somebody else's making.
fn by_rcgen(root: &Ca, serials: &[Vec<u8>]) -> Vec<u8> {
    let revoked_certs = serials.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(serial.clone()),
        revocation_time: moment(-30),
        reason_code: Some(RevocationReason::Superseded),
        invalidity_date: Some(moment(-40)),
    });
    let list = CertificateRevocationListParams {
        this_update: moment(-60),
        next_update: moment(60),
        crl_number: SerialNumber::from(vec![1]),
        issuing_distribution_point: None,
        revoked_certs: revoked_certs.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&root.issuer).expect("a list").der().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_list_names_exactly_those_that_were_put_on_it(
        serials in proptest::collection::btree_set(proptest::collection::vec(1..=u8::MAX, 1..=19), 0..40),
        other in proptest::collection::vec(1..=u8::MAX, 1..=19),
    ) {
        let root = root();
        let on: Vec<_> = serials.iter().cloned().collect();
        let list = RevocationList::parse(&by_rcgen(&root, &on)).expect("a list");
        prop_assert_eq!(list.revoked().len(), on.len());
        for serial in &on {
            let serial = Serial::from_be_bytes(serial).expect("a serial number");
            prop_assert_eq!(list.find(&serial).map(|found| found.reason), Some(Reason::Superseded));
        }
        let found = list.find(&Serial::from_be_bytes(&other).expect("a serial number")).is_some();
        prop_assert_eq!(found, serials.contains(&other));
    }

    /// Whatever is changed in a list, it is not believed any more; and nothing panics.
    #[test]
    fn a_list_that_was_changed_is_not_believed(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        let root = root();
        let good = List::of(&root).revoking(&[entry(1, &[reason(1)])]).with(place(&[&[0x81, 1, 0xff]])).signed(&root);
        let mut changed = good.clone();
        let at = at.index(changed.len());
        changed[at] = to;
        if cut {
            changed.truncate(at);
        }
        prop_assume!(changed != good);
        if let Ok(list) = RevocationList::parse(&changed) {
            prop_assert!(verify(&[leaf(&root)], &root, &[list]).is_err());
        }
    }

    #[test]
    fn no_bytes_panic_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = RevocationList::parse(&bytes);
    }
}

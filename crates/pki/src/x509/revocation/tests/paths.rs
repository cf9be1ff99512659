//! What lists say of paths.

use rcgen::CrlDistributionPoint;

use super::*;

#[test]
fn what_no_list_names_passes_and_what_one_names_does_not() {
    let root = root();
    let chain = [leaf(&root)];
    let clean = List::of(&root).good(&root);
    assert_eq!(clean.number().to_string(), "9");
    verify(&chain, &root, std::slice::from_ref(&clean)).expect("nothing is revoked");
    let others = List::of(&root).revoking(&[entry(1, &[]), entry(2, &[])]);
    verify(&chain, &root, &[others.good(&root)]).expect("others are revoked");

    let named = List::of(&root).revoking(&[entry(99, &[]), entry(LEAF, &[reason(1)]), entry(1, &[])]);
    for lists in [
        vec![named.good(&root)],
        vec![clean.clone(), named.good(&root)],
        vec![named.good(&root), clean],
    ] {
        let error = refused(&chain, &root, &lists);
        let RevocationError::Revoked(revoked) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(revoked.at, UnixTime::from_secs(NOW - 30));
        assert_eq!(
            error.to_string(),
            format!(
                "the certificate with serial number 77 was revoked at {}: keyCompromise",
                revoked.at
            )
        );
        assert_eq!(error.section(), "RFC 5280 6.3.3");
    }
}

#[test]
fn every_certificate_of_the_path_needs_a_list_of_its_issuer() {
    let root = root();
    let middle = middle(&root);
    let chain = [leaf(&middle), middle.der.clone()];
    let (of_root, of_middle) = (List::of(&root).good(&root), List::of(&middle).good(&middle));
    verify(&chain, &root, &[of_middle.clone(), of_root.clone()]).expect("both are covered");
    let serial = |byte| Serial::from_be_bytes(&[byte]).expect("a serial number");
    assert_eq!(
        refused(&chain, &root, std::slice::from_ref(&of_root)),
        RevocationError::Uncovered { serial: serial(LEAF) }
    );
    assert_eq!(
        refused(&chain, &root, std::slice::from_ref(&of_middle)),
        RevocationError::Uncovered {
            serial: serial(AUTHORITY)
        }
    );
    assert_eq!(
        refused(&chain, &root, &[]),
        RevocationError::Uncovered { serial: serial(LEAF) }
    );
    let against = List::of(&root)
        .revoking(&[entry(AUTHORITY, &[reason(2)])])
        .good(&root);
    assert!(matches!(
        refused(&chain, &root, &[of_middle, against]),
        RevocationError::Revoked(Revoked { serial: found, reason: Reason::CaCompromise, .. }) if found == serial(AUTHORITY)
    ));
    // Its serial number on the list of somebody who did not issue it.
    let other = List::of(&root).revoking(&[entry(LEAF, &[])]).good(&root);
    let of_middle = List::of(&middle).good(&middle);
    verify(&chain, &root, &[of_middle, other]).expect("another issuer's serial number");
}

#[test]
fn a_list_that_does_not_count_says_nothing_neither_way() {
    let (root, namesake) = (root(), root());
    let chain = [leaf(&root)];
    let clean = List::of(&root).good(&root);
    let with = |change: fn(&mut List)| {
        let mut list = List::of(&root).revoking(&[entry(LEAF, &[])]);
        change(&mut list);
        list
    };
    let stale = with(|list| list.next_update = generalized(0)).good(&root);
    let early = with(|list| list.this_update = generalized(1)).good(&root);
    let forged = with(|_| {}).good(&namesake);
    let until = UnixTime::from_secs(NOW);
    for (list, expected, section) in [
        (stale, RevocationError::Stale { list: 1, until }, "5.1.2.5"),
        (
            early,
            RevocationError::NotYet {
                list: 1,
                from: UnixTime::from_secs(NOW + 1),
            },
            "5.1.2.4",
        ),
        (forged, RevocationError::Signature { list: 1 }, "6.3.3 (g)"),
    ] {
        let error = refused(&chain, &root, std::slice::from_ref(&list));
        assert_eq!(error, expected);
        assert_eq!(error.section(), format!("RFC 5280 {section}"));
        verify(&chain, &root, &[list, clean.clone()]).expect("another one counts");
    }
    let last_second = with(|list| {
        (list.this_update, list.next_update, list.entries) = (generalized(0), generalized(1), Vec::new());
    });
    verify(&chain, &root, &[last_second.good(&root)]).expect("the only second of its life");
}

#[test]
fn lists_come_from_issuers_that_may_make_them() {
    let silent = ca("root", None, &[]);
    verify(&[leaf(&silent)], &silent, &[List::of(&silent).good(&silent)]).expect("no key usage, no rule");
    let mute = ca("root", None, &[KeyUsagePurpose::KeyCertSign]);
    let error = refused(&[leaf(&mute)], &mute, &[List::of(&mute).good(&mute)]);
    assert_eq!(error, RevocationError::KeyUsage { list: 1 });
    assert_eq!(error.section(), "RFC 5280 6.3.3 (f)");
}

#[test]
fn a_list_is_about_those_that_it_says() {
    let root = root();
    let middle = middle(&root);
    let plain = leaf(&root);
    let pointing = |uris: &[&str]| {
        let uris = uris.iter().map(ToString::to_string).collect();
        leaf_with(&root, |params| {
            params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
        })
    };
    let here = "http://example.org/1.crl";
    let pointing_here = pointing(&["ldap://example.org/", here]);
    let pointing_elsewhere = pointing(&["http://example.org/2.crl"]);
    let (users, cas): (&[u8], &[u8]) = (&[0x81, 1, 0xff], &[0x82, 1, 0xff]);
    let at_here = at_uri(here);
    let by_name = der::value(0xa0, &[&der::value(0xa0, &[&[0x82, 1, b'a']])]);
    for (parts, leaf, covered) in [
        (vec![users], &plain, true),
        (vec![users], &pointing_here, true),
        (vec![cas], &plain, false),
        (vec![&at_here[..]], &plain, false),
        (vec![&at_here[..]], &pointing_here, true),
        (vec![&at_here[..]], &pointing_elsewhere, false),
        (vec![&at_here[..], users], &pointing_here, true),
        (vec![&at_here[..], cas], &pointing_here, false),
        (vec![&by_name[..]], &pointing_here, false),
    ] {
        let list = List::of(&root).with(place(&parts)).good(&root);
        let chain = std::slice::from_ref(leaf);
        if covered {
            verify(chain, &root, &[list]).expect("it is covered");
            let against = List::of(&root).with(place(&parts)).revoking(&[entry(LEAF, &[])]);
            assert!(matches!(
                refused(chain, &root, &[against.good(&root)]),
                RevocationError::Revoked(_)
            ));
        } else {
            let error = refused(chain, &root, &[list]);
            assert!(
                matches!(error, RevocationError::Scope { list: 1, .. }),
                "{parts:x?}: {error:?}"
            );
            assert_eq!(error.section(), "RFC 5280 6.3.3 (b)");
        }
    }
    verify(&[pointing_elsewhere], &root, &[List::of(&root).good(&root)])
        .expect("a list without place is about all");
    // Two parts of one issuer's list, each about its own.
    let chain = [leaf(&middle), middle.der.clone()];
    let of_cas = List::of(&root).with(place(&[cas])).good(&root);
    verify(&chain, &root, &[List::of(&middle).good(&middle), of_cas]).expect("both are covered");
}

#[test]
fn points_that_are_for_some_reasons_or_by_another_issuer_do_not_count() {
    let root = root();
    let here = "http://example.org/1.crl";
    let list = List::of(&root).with(place(&[&at_uri(here)])).good(&root);
    let at_here = at_uri(here);
    let point = |more: &[u8]| der::value(der::SEQUENCE, &[&at_here, more]);
    let by_another = der::value(0xa2, &[&[0x82, 1, b'a']]);
    for (points, covered) in [
        (vec![point(&[])], true),
        (vec![point(&[0x81, 2, 0, 0x40])], false),
        (vec![point(&by_another)], false),
        (vec![point(&by_another), point(&[])], true),
        (vec![der::value(der::SEQUENCE, &[&by_another])], false),
        (vec![point(&[5, 0])], false),
        (vec![point(&[]); 33], false),
    ] {
        let points: Vec<_> = points.iter().map(Vec::as_slice).collect();
        let value = der::value(der::SEQUENCE, &points);
        let leaf = leaf_with(&root, |params| {
            let extension = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 31], value);
            params.custom_extensions = vec![extension];
        });
        let verdict = verify(&[leaf], &root, std::slice::from_ref(&list));
        assert_eq!(verdict.is_ok(), covered, "{points:x?}: {verdict:?}");
    }
}

#[test]
fn an_authority_that_certified_its_next_key_has_a_list_of_each() {
    let old = root();
    let next = ca("root", Some(&old), &BOTH);
    let chain = [leaf(&next), next.der.clone()];
    let lists = [List::of(&next).good(&next), List::of(&old).good(&old)];
    verify(&chain, &old, &lists).expect("one name, two keys");
    assert_eq!(
        refused(&chain, &old, &lists[..1]),
        RevocationError::Signature { list: 1 }
    );
}

#[test]
fn more_lists_than_the_bound_are_not_looked_through() {
    let root = root();
    let list = List::of(&root).good(&root);
    let chain = [leaf(&root)];
    verify(&chain, &root, &vec![list.clone(); MAX_REVOCATION_LISTS]).expect("as many as may be");
    let error = refused(&chain, &root, &vec![list; MAX_REVOCATION_LISTS + 1]);
    assert_eq!(error, RevocationError::TooMany(MAX_REVOCATION_LISTS + 1));
}

//! Where others judge otherwise, and why that is meant. `docs/differential.md` says it in words.

use crate::judges::Opinion;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Judge {
    Go,
    OpenSsl,
}

/// A kind of disagreement. Every part must fit: who, which of the two refuses, and what is said in the refusal.
pub(crate) struct Class {
    /// As the page has it.
    pub(crate) id: &'static str,
    pub(crate) judge: Judge,
    refuses: Refuses,
    /// Part of what the one who refuses says.
    says: &'static str,
    /// Part of what was done to the case; empty where the words above are enough.
    case: &'static str,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Refuses {
    We,
    They,
}

impl Class {
    pub(crate) fn holds(&self, judge: Judge, case: &str, ours: &Opinion, theirs: &Opinion) -> bool {
        let said = match (self.refuses, ours, theirs) {
            (Refuses::We, Opinion::Refuses(said), Opinion::Accepts(_))
            | (Refuses::They, Opinion::Accepts(_), Opinion::Refuses(said)) => said,
            _ => return false,
        };
        self.judge == judge && said.contains(self.says) && case.contains(self.case)
    }
}

const fn we(id: &'static str, judge: Judge, says: &'static str, case: &'static str) -> Class {
    let refuses = Refuses::We;
    Class {
        id,
        judge,
        refuses,
        says,
        case,
    }
}

const fn they(id: &'static str, judge: Judge, says: &'static str, case: &'static str) -> Class {
    let refuses = Refuses::They;
    Class {
        id,
        judge,
        refuses,
        says,
        case,
    }
}

pub(crate) const CLASSES: &[Class] = &[
    we("X01", Judge::Go, "source: Malformed", ""),
    we("X01", Judge::OpenSsl, "source: Malformed", ""),
    we("X02", Judge::Go, "source: Algorithm }", ""),
    we("X02", Judge::OpenSsl, "source: Algorithm }", ""),
    we("X03", Judge::Go, "source: PublicKey(", ""),
    we("X03", Judge::OpenSsl, "source: PublicKey(", ""),
    we("X04", Judge::Go, "source: Serial", ""),
    we("X04", Judge::OpenSsl, "source: Serial", ""),
    we("X05", Judge::Go, "TooLong { certificates", ""),
    we("X05", Judge::OpenSsl, "TooLong { certificates", ""),
    we("X06", Judge::OpenSsl, "source: Version", ""),
    we("X06", Judge::OpenSsl, "source: Empty", ""),
    we("X07", Judge::Go, "SecondOpinion(BadDerTime)", "the year 0"),
    we("X07", Judge::OpenSsl, "SecondOpinion(BadDerTime)", "the year 0"),
    we(
        "X08",
        Judge::Go,
        "SecondOpinion(TrailingData(CertificateExtensions))",
        "unique ids",
    ),
    we(
        "X08",
        Judge::OpenSsl,
        "SecondOpinion(TrailingData(CertificateExtensions))",
        "unique ids",
    ),
    we("X10", Judge::Go, "Leaf(Id(Scheme))", "scheme in upper case"),
    we(
        "X10",
        Judge::Go,
        "Leaf(Id(Path(Character { found: '#' })))",
        "empty fragment",
    ),
    we("X10", Judge::Go, "Leaf(Id(TooLong", ""),
    we("X11", Judge::Go, "Leaf(NoPath)", ""),
    we("X12", Judge::Go, "Path(SigningPath)", ""),
    we("X12", Judge::OpenSsl, "Path(SigningPath)", ""),
    we("X13", Judge::OpenSsl, "Leaf(Id(", ""),
    we("X13", Judge::OpenSsl, "Leaf(ManyUris(", ""),
    we("X13", Judge::OpenSsl, "Leaf(NoUri)", ""),
    we("X13", Judge::OpenSsl, "Leaf(NoPath)", ""),
    we("X13", Judge::OpenSsl, "NoBundle(", ""),
    we("X14", Judge::OpenSsl, "Leaf(Ca)", ""),
    we("X14", Judge::OpenSsl, "Leaf(SigningKeyUsage)", ""),
    we("X15", Judge::Go, "Leaf(AlternativeNameNotCritical)", ""),
    we("X16", Judge::Go, "Leaf(NoKeyUsage)", ""),
    we("X16", Judge::OpenSsl, "Leaf(NoKeyUsage)", ""),
    we("X16", Judge::Go, "Leaf(KeyUsageNotCritical)", ""),
    we("X16", Judge::OpenSsl, "Leaf(KeyUsageNotCritical)", ""),
    we("X16", Judge::Go, "Leaf(NoDigitalSignature)", ""),
    we("X17", Judge::Go, "Leaf(ExtendedKeyUsage)", ""),
    we("X17", Judge::OpenSsl, "Leaf(ExtendedKeyUsage)", ""),
    we("X18", Judge::Go, "Leaf(NameConstraints)", ""),
    we("X18", Judge::OpenSsl, "Leaf(NameConstraints)", ""),
    we("X19", Judge::Go, "Leaf(UnknownCritical)", ""),
    we("X19", Judge::OpenSsl, "Leaf(UnknownCritical)", ""),
    we("X20", Judge::Go, "Path(ExtendedKeyUsage)", ""),
    we("X21", Judge::Go, "Path(KeyUsage)", ""),
    we("X22", Judge::Go, "Path(NameConstraints)", "constraint: "),
    we("X22", Judge::OpenSsl, "Path(NameConstraints)", "constraint: "),
    we(
        "X23",
        Judge::Go,
        "Path(UnknownAuthority)",
        "bundle: the leaf itself",
    ),
    we(
        "X23",
        Judge::OpenSsl,
        "Path(UnknownAuthority)",
        "root: ID with a path",
    ),
    we(
        "X23",
        Judge::OpenSsl,
        "Path(UnknownAuthority)",
        "bundle: the leaf itself",
    ),
    we("X23", Judge::Go, "Path(UnknownAuthority)", "root"),
    we("X24", Judge::OpenSsl, "Path(UnknownAuthority)", "issuer in "),
    we("X24", Judge::OpenSsl, "Path(UnknownAuthority)", "issuer with "),
    we("X24", Judge::OpenSsl, "Path(UnknownAuthority)", " bent: "),
    // Before X30, which says less.
    they(
        "X32",
        Judge::OpenSsl,
        "unable to get local issuer certificate",
        "(key ids differ)",
    ),
    they("X30", Judge::Go, "SAN rfc822Name is malformed", ""),
    they("X30", Judge::Go, "invalid certificate policies", ""),
    they("X30", Judge::Go, "cannot parse URI", "intermediate"),
    they(
        "X30",
        Judge::Go,
        "invalid RDNSequence: invalid attribute value",
        "",
    ),
    they("X30", Judge::Go, "signed by unknown authority", "root bent"),
    they("X30", Judge::Go, "cannot parse dnsName", "strange characters"),
    they(
        "X30",
        Judge::Go,
        "unable to parse certificate: x509: invalid",
        " bent: ",
    ),
    they("X30", Judge::OpenSsl, "it cannot be read", " bent: "),
    they(
        "X30",
        Judge::OpenSsl,
        "unable to get local issuer certificate",
        " bent: ",
    ),
    they(
        "X31",
        Judge::OpenSsl,
        "Basic Constraints of CA cert not marked critical",
        "",
    ),
    they(
        "X31",
        Judge::OpenSsl,
        "CA cert does not include key usage extension",
        "",
    ),
    they("X31", Judge::OpenSsl, "Missing Authority Key Identifier", ""),
    they("X31", Judge::OpenSsl, "Missing Subject Key Identifier", ""),
    they("X31", Judge::OpenSsl, "Issuer name empty", ""),
    they(
        "X31",
        Judge::OpenSsl,
        "Subject empty and Subject Alt Name extension not critical",
        "",
    ),
    they(
        "X31",
        Judge::OpenSsl,
        "Path length given without key usage keyCertSign",
        "",
    ),
    they("X33", Judge::OpenSsl, "certificate has expired", "ends now"),
    we("J01", Judge::Go, "invalid unicode code point", ""),
    we("J01", Judge::Go, "unexpected end of hex escape", ""),
    we("J02", Judge::Go, "nested too deeply", ""),
    we("J03", Judge::Go, "TooLong(", ""),
    we("J04", Judge::Go, "Claims(SubjectPath)", ""),
    we("J05", Judge::Go, "Claims(Time(", ""),
    we("J06", Judge::Go, "Claims(Type(", ""),
    we("J06", Judge::Go, "HeaderType(\"typ\")", ""),
    we("J07", Judge::Go, "Expired {", "45 s ago"),
    we("J07", Judge::Go, "NotYet {", "in 45 s"),
    we("J08", Judge::Go, "Jws(Base64(", ""),
    we("J09", Judge::Go, "Jws(HeaderMember)", ""),
    they("J10", Judge::Go, "issued in the future (iat)", ""),
    they("J11", Judge::Go, "token header missing key id", ""),
];

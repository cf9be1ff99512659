//! Tokens with something wrong in them, signed again after it was made wrong.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::{
    Engine as _,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use muster_pki::{KeyAlgorithm, KeyKind, LocalKey, SignatureScheme, Signer as _, jws};

use crate::random::Random;

/// A token, the keys by trust domain and id, and whom it is shown to. `what` says what was done to it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) what: String,
    pub(crate) text: String,
    pub(crate) keys: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub(crate) audience: String,
}

/// The keys that sign, with which all tokens of one run are judged.
pub(crate) struct Keys {
    ec: LocalKey,
    rsa: LocalKey,
    stranger: LocalKey,
    now: i64,
}

impl Keys {
    pub(crate) fn generate(now: i64) -> Self {
        let key = |kind| LocalKey::generate(kind).unwrap();
        Self {
            ec: key(KeyAlgorithm::EcP256),
            rsa: key(KeyAlgorithm::Rsa2048),
            stranger: key(KeyAlgorithm::EcP256),
            now,
        }
    }

    /// The public key of that name.
    pub(crate) fn spki(&self, kid: &str) -> &[u8] {
        let key = if kid == "rsa" { &self.rsa } else { &self.ec };
        key.public_key().spki_der()
    }

    fn bundles(&self) -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
        let of = |key: &LocalKey| key.public_key().spki_der().to_vec();
        BTreeMap::from([
            (
                "example.org".to_owned(),
                BTreeMap::from([("ec".to_owned(), of(&self.ec)), ("rsa".to_owned(), of(&self.rsa))]),
            ),
            (
                "other.example".to_owned(),
                BTreeMap::from([("stranger".to_owned(), of(&self.stranger))]),
            ),
        ])
    }

    fn token(&self, what: &str, text: String) -> Token {
        Token {
            what: what.to_owned(),
            text,
            keys: self.bundles(),
            audience: "a".to_owned(),
        }
    }

    /// Header and payload, byte for byte, signed by the trust domain's key.
    fn signed(&self, header: &[u8], payload: &[u8]) -> String {
        self.signed_parts(
            &URL_SAFE_NO_PAD.encode(header),
            &URL_SAFE_NO_PAD.encode(payload),
            &self.ec,
        )
    }

    fn signed_parts(&self, header: &str, payload: &str, by: &LocalKey) -> String {
        let message = format!("{header}.{payload}");
        let signature = jose_signature(by, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn payload(&self) -> String {
        format!(
            r#"{{"sub":"spiffe://example.org/w","aud":["a","b"],"exp":{},"iat":{}}}"#,
            self.now + 3600,
            self.now - 60
        )
    }
}

const HEADER: &str = r#"{"alg":"ES256","kid":"ec","typ":"JWT"}"#;

/// The signature as JOSE has it.
fn jose_signature(key: &LocalKey, message: &[u8]) -> Vec<u8> {
    if key.public_key().kind() != KeyKind::EcP256 {
        return key.sign(SignatureScheme::RsaPkcs1Sha256, message).unwrap();
    }
    let asn1 = key.sign(SignatureScheme::EcdsaSha256, message).unwrap();
    // SEQUENCE { INTEGER r, INTEGER s }, each with a zero in front where its first bit is set, or shorter.
    let r = usize::from(asn1[3]);
    let numbers = [&asn1[4..4 + r], &asn1[6 + r..]];
    let mut fixed = vec![];
    for number in numbers {
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        fixed.resize(fixed.len() + 32 - number.len(), 0);
        fixed.extend(number);
    }
    fixed
}

/// Every deviation of header, claims and encoding.
pub(crate) fn deviating(keys: &Keys) -> Vec<Token> {
    let good = keys.payload();
    let mut all = vec![keys.token("nothing", keys.signed(HEADER.as_bytes(), good.as_bytes()))];
    for header in HEADERS {
        all.push(keys.token(
            &format!("header {header}"),
            keys.signed(header.as_bytes(), good.as_bytes()),
        ));
    }
    let now = keys.now;
    for (name, values) in CLAIMS {
        for value in *values {
            let value = value.replace("NOW", &now.to_string());
            let mut payload: Vec<String> = vec![
                r#""sub":"spiffe://example.org/w""#.to_owned(),
                r#""aud":["a","b"]"#.to_owned(),
                format!(r#""exp":{}"#, now + 3600),
            ];
            payload.retain(|member| !member.starts_with(&format!("\"{name}\"")));
            if value != "ABSENT" {
                payload.push(format!("\"{name}\":{value}"));
            }
            let payload = format!("{{{}}}", payload.join(","));
            all.push(keys.token(
                &format!("{name} {value}"),
                keys.signed(HEADER.as_bytes(), payload.as_bytes()),
            ));
        }
    }
    for (what, offset) in TIMES {
        let (name, seconds) = what.split_once(' ').unwrap();
        let exp = if name == "exp" { now + offset } else { now + 3600 };
        let nbf = if name == "nbf" { now + offset } else { now - 60 };
        let payload = format!(r#"{{"sub":"spiffe://example.org/w","aud":"a","exp":{exp},"nbf":{nbf}}}"#);
        all.push(keys.token(
            &format!("{name} {seconds}"),
            keys.signed(HEADER.as_bytes(), payload.as_bytes()),
        ));
    }
    for (what, make) in PAYLOADS {
        all.push(keys.token(what, keys.signed(HEADER.as_bytes(), &make(&good))));
    }
    all.extend(encodings(keys, &good));
    all
}

/// Headers in place of the good one. The signature is by the key `ec` in each.
const HEADERS: &[&str] = &[
    r#"{"alg":"none","kid":"ec"}"#,
    r#"{"alg":"None","kid":"ec"}"#,
    r#"{"alg":"es256","kid":"ec"}"#,
    r#"{"alg":"ES384","kid":"ec"}"#,
    r#"{"alg":"RS256","kid":"ec"}"#,
    r#"{"alg":"RS256","kid":"rsa"}"#,
    r#"{"alg":"ES256","kid":"rsa"}"#,
    r#"{"alg":"EdDSA","kid":"ec"}"#,
    r#"{"alg":256,"kid":"ec"}"#,
    r#"{"alg":["ES256"],"kid":"ec"}"#,
    r#"{"alg":null,"kid":"ec"}"#,
    r#"{"kid":"ec"}"#,
    r#"{"alg":"ES256"}"#,
    r#"{"alg":"ES256","kid":""}"#,
    r#"{"alg":"ES256","kid":"EC"}"#,
    r#"{"alg":"ES256","kid":"nobody"}"#,
    r#"{"alg":"ES256","kid":"stranger"}"#,
    r#"{"alg":"ES256","kid":1}"#,
    r#"{"alg":"ES256","kid":null}"#,
    r#"{"alg":"ES256","kid":["ec"]}"#,
    r#"{"alg":"ES256","kid":"ec","typ":"JOSE"}"#,
    r#"{"alg":"ES256","kid":"ec","typ":"jwt"}"#,
    r#"{"alg":"ES256","kid":"ec","typ":"at+jwt"}"#,
    r#"{"alg":"ES256","kid":"ec","typ":"application/jwt"}"#,
    r#"{"alg":"ES256","kid":"ec","typ":""}"#,
    r#"{"alg":"ES256","kid":"ec","typ":1}"#,
    r#"{"alg":"ES256","kid":"ec","typ":null}"#,
    r#"{"alg":"ES256","kid":"ec","crit":["exp"],"exp":1}"#,
    r#"{"alg":"ES256","kid":"ec","crit":[]}"#,
    r#"{"alg":"ES256","kid":"ec","b64":false,"crit":["b64"]}"#,
    r#"{"alg":"ES256","kid":"ec","b64":false}"#,
    r#"{"alg":"ES256","kid":"ec","b64":true}"#,
    r#"{"alg":"ES256","kid":"ec","zip":"DEF"}"#,
    r#"{"alg":"ES256","kid":"ec","cty":"JWT"}"#,
    r#"{"alg":"ES256","kid":"ec","jku":"https://example.org"}"#,
    r#"{"alg":"ES256","kid":"ec","x5c":[]}"#,
    r#"{"alg":"ES256","kid":"ec","jwk":{"kty":"oct","k":"AA"}}"#,
    r#"{"alg":"ES256","kid":"ec","nonce":"x"}"#,
    r#"{"alg":"ES256","kid":"ec","x":1}"#,
    r#"{"alg":"ES256","kid":"ec","kid":"ec"}"#,
    r#"{"alg":"none","kid":"ec","alg":"ES256"}"#,
    r#"{"alg":"ES256","kid":"ec","\u0061lg":"ES256"}"#,
    r#"{"\u0061lg":"ES256","kid":"ec"}"#,
    r#"{"ALG":"ES256","kid":"ec"}"#,
    r#"{"alg":"ES256","KID":"ec"}"#,
    r#"{"alg":"ES256","kid":"ec","TYP":"x"}"#,
    r#" {"alg":"ES256","kid":"ec"} "#,
    r#"{"alg":"ES256","kid":"ec"}x"#,
    r#"{"alg":"ES256","kid":"ec",}"#,
    r#"[{"alg":"ES256","kid":"ec"}]"#,
    r#"{"alg":"ES256","kid":"ec"}{}"#,
    "",
    "{}",
    "null",
    "\u{feff}{\"alg\":\"ES256\",\"kid\":\"ec\"}",
    "{\"alg\":\"ES256\",\"kid\":\"ec\"}\0",
];

/// Values of claims. `NOW` is the moment, `ABSENT` leaves the claim out.
const CLAIMS: &[(&str, &[&str])] = &[
    (
        "sub",
        &[
            "ABSENT",
            "null",
            "1",
            "[]",
            r#"["spiffe://example.org/w"]"#,
            r#""""#,
            r#""w""#,
            r#""spiffe://example.org""#,
            r#""spiffe://example.org/""#,
            r#""spiffe://example.org/w/""#,
            r#""spiffe://example.org//w""#,
            r#""spiffe://example.org/./w""#,
            r#""spiffe://example.org/%77""#,
            r#""spiffe://example.org/w?a""#,
            r#""spiffe://example.org/w#a""#,
            r#""spiffe://example.org:1/w""#,
            r#""spiffe://u@example.org/w""#,
            r#""spiffe://Example.org/w""#,
            r#""SPIFFE://example.org/w""#,
            r#""Spiffe://example.org/w""#,
            r#"" spiffe://example.org/w""#,
            r#""spiffe://example.org/w ""#,
            r#""spiffe://example.org/w\u0000""#,
            r#""spiffe://example.org/\u0077""#,
            r#""spiffe:\/\/example.org\/w""#,
            r#""spiffe://other.example/w""#,
            r#""spiffe://nobody.example/w""#,
            r#""spiffe://example.org/é""#,
            r#""spiffe://example.org/\ud800""#,
        ],
    ),
    (
        "aud",
        &[
            "ABSENT",
            "null",
            r#""a""#,
            r#""b""#,
            r#""A""#,
            r#""a ""#,
            r#"["b"]"#,
            r#"["b","a"]"#,
            r#"["a","a"]"#,
            "[]",
            r#"[""]"#,
            r#"["a",1]"#,
            r#"["a",null]"#,
            r#"[["a"]]"#,
            r#"{"a":1}"#,
            "1",
            "true",
            r#""a,b""#,
            r#""\u0061""#,
        ],
    ),
    (
        "exp",
        &[
            "ABSENT",
            "null",
            r#""NOW""#,
            "true",
            "0",
            "-1",
            "1",
            "[4102444800]",
            "4102444800",
            "4102444800.0",
            "4102444800.9",
            "4.1024448e9",
            "41024448e2",
            "253402300799",
            "253402300800",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551616",
            "1e30",
            "1e400",
            "NaN",
            "0x7fffffff",
            "04102444800",
            "+4102444800",
        ],
    ),
    (
        "nbf",
        &[
            "ABSENT",
            "null",
            r#""0""#,
            "0",
            "-1",
            "1.5",
            "4102444800",
            "9223372036854775808",
            "1e400",
            "true",
            "[]",
        ],
    ),
    (
        "iat",
        &[
            "null",
            r#""0""#,
            "0",
            "-1",
            "1.5",
            "4102444800",
            "9223372036854775808",
            "true",
            "{}",
        ],
    ),
    ("iss", &["null", r#""https://example.org""#, r#""""#, "1", "[]"]),
    ("jti", &["null", r#""x""#, "1", "{}"]),
    (
        "other",
        &[
            "null",
            "1",
            r#"{"a":{"a":1}}"#,
            r#"{"a":1,"a":2}"#,
            "1e400",
            "12345678901234567890123",
        ],
    ),
];

/// Ends and beginnings near now, on both sides of what clocks are allowed to differ.
const TIMES: &[(&str, i64)] = &[
    ("exp 10 s ago", -10),
    ("exp 45 s ago", -45),
    ("exp 90 s ago", -90),
    ("nbf in 10 s", 10),
    ("nbf in 45 s", 45),
    ("nbf in 90 s", 90),
];

type Payload = (&'static str, fn(&str) -> Vec<u8>);

/// Payloads that are no clean JSON, or another one than they seem.
const PAYLOADS: &[Payload] = &[
    ("payload: spaces", |good| format!(" \n\t{good}\r\n ").into_bytes()),
    ("payload: a byte order mark", |good| {
        format!("\u{feff}{good}").into_bytes()
    }),
    ("payload: more behind it", |good| format!("{good}x").into_bytes()),
    ("payload: another object behind it", |good| {
        format!("{good}{{}}").into_bytes()
    }),
    ("payload: a NUL behind it", |good| {
        format!("{good}\0").into_bytes()
    }),
    ("payload: a list", |good| format!("[{good}]").into_bytes()),
    ("payload: a text", |_| b"\"a\"".to_vec()),
    ("payload: empty", |_| vec![]),
    ("payload: null", |_| b"null".to_vec()),
    ("payload: cut", |good| good.as_bytes()[..good.len() - 1].to_vec()),
    ("payload: a comma too many", |good| {
        good.replace('}', ",}").into_bytes()
    }),
    ("payload: a comment", |good| {
        good.replace('}', "/**/}").into_bytes()
    }),
    ("payload: other quotes", |good| {
        good.replace('"', "'").into_bytes()
    }),
    ("payload: a subject twice", |good| {
        good.replace('{', r#"{"sub":"spiffe://example.org/admin","#)
            .into_bytes()
    }),
    ("payload: a subject twice, once with an escape", |good| {
        good.replace('{', r#"{"s\u0075b":"spiffe://example.org/admin","#)
            .into_bytes()
    }),
    ("payload: an end twice", |good| {
        good.replace('{', r#"{"exp":1,"#).into_bytes()
    }),
    ("payload: a subject in upper case beside", |good| {
        good.replace('{', r#"{"SUB":"spiffe://example.org/admin","#)
            .into_bytes()
    }),
    ("payload: a subject in upper case alone", |good| {
        good.replace("sub", "SUB").into_bytes()
    }),
    ("payload: an audience in upper case alone", |good| {
        good.replace("aud", "AUD").into_bytes()
    }),
    ("payload: an end in upper case alone", |good| {
        good.replace("exp", "EXP").into_bytes()
    }),
    ("payload: a name with an escape", |good| {
        good.replace("sub", "s\\u0075b").into_bytes()
    }),
    ("payload: an unknown name twice", |good| {
        good.replace('{', r#"{"x":1,"x":2,"#).into_bytes()
    }),
    ("payload: not UTF-8", |good| {
        let mut bytes = good.replace('{', r#"{"x":"?","#).into_bytes();
        let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
        bytes[at] = 0xff;
        bytes
    }),
    ("payload: a subject not UTF-8", |good| {
        let mut bytes = good.replace("/w", "/?").into_bytes();
        let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
        bytes[at] = 0xff;
        bytes
    }),
    ("payload: a control character", |good| {
        good.replace('{', "{\"x\":\"\n\",").into_bytes()
    }),
    ("payload: half a character", |good| {
        good.replace('{', r#"{"x":"\ud800","#).into_bytes()
    }),
    ("payload: 60 lists in lists", |good| nested(good, 60)),
    ("payload: 500 lists in lists", |good| nested(good, 500)),
    ("payload: 20,000 lists in lists", |good| nested(good, 20_000)),
    ("payload: 60,000 bytes", |good| {
        good.replace('{', &format!("{{\"x\":\"{}\",", "y".repeat(60_000)))
            .into_bytes()
    }),
];

fn nested(good: &str, depth: usize) -> Vec<u8> {
    let lists = format!("{{\"x\":{}{},", "[".repeat(depth), "]".repeat(depth));
    good.replacen('{', &lists, 1).into_bytes()
}

/// The text round the parts: what base64url, dots and signatures can look like.
fn encodings(keys: &Keys, payload: &str) -> Vec<Token> {
    let good = keys.signed(HEADER.as_bytes(), payload.as_bytes());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, body) = message.split_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut all = vec![];
    let mut add = |what: &str, text: String| all.push(keys.token(&format!("text: {what}"), text));
    add("a line's end behind", format!("{good}\n"));
    add("a space in front", format!(" {good}"));
    add("a space within", good.replacen('.', " .", 1));
    add(
        "a line's end within the signature",
        format!("{message}.{}\n{}", &signature[..9], &signature[9..]),
    );
    add("four parts", format!("{good}."));
    add("five parts", format!("{good}.."));
    add("two parts", message.to_owned());
    add("one part", header.to_owned());
    add("nothing", String::new());
    add("no signature", format!("{message}."));
    add("no payload", format!("{header}..{signature}"));
    add("no header", format!(".{body}.{signature}"));
    add(
        "padding at the signature",
        format!("{message}.{}", URL_SAFE.encode(&raw)),
    );
    add(
        "the other alphabet",
        format!("{message}.{}", signature.replace('-', "+").replace('_', "/")),
    );
    // The last character of 64 bytes carries two bits; the four below it should be zero.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap();
    let next = &alphabet[at + 1..at + 2];
    add(
        "bits left over in the signature",
        format!("{message}.{}{next}", &signature[..signature.len() - 1]),
    );
    for spaces in 0..3 {
        // With one of three lengths the payload ends in bits left over, which are set here and signed so.
        let mut body = URL_SAFE_NO_PAD.encode(format!("{payload}{}", " ".repeat(spaces)));
        let last = body.pop().unwrap();
        let at = alphabet.find(last).unwrap();
        body.push_str(&alphabet[at + 1..at + 2]);
        let text = keys.signed_parts(header, &body, &keys.ec);
        all_if_left_over(&mut add, text, body.len());
    }
    add("a payload in the other alphabet, signed so", {
        let body = URL_SAFE_NO_PAD.encode(payload.replace('{', "{\"x\":\"~~~???>>>\","));
        let body = body.replace('-', "+").replace('_', "/");
        keys.signed_parts(header, &body, &keys.ec)
    });
    add("a payload with padding, signed so", {
        let body = format!("{}==", URL_SAFE_NO_PAD.encode(format!("{payload:<100}")));
        keys.signed_parts(header, &body, &keys.ec)
    });
    add("an ASN.1 signature", {
        let asn1 = keys
            .ec
            .sign(SignatureScheme::EcdsaSha256, message.as_bytes())
            .unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(asn1))
    });
    add(
        "a signature of zeros",
        format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
    );
    add(
        "a signature with a byte more",
        format!("{message}.{}", URL_SAFE_NO_PAD.encode([&raw[..], &[0]].concat())),
    );
    add(
        "a signature with a byte less",
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(&raw[..63])),
    );
    add(
        "signed by a stranger",
        keys.signed_parts(header, body, &keys.stranger),
    );
    add(
        "signed by RSA under the name of EC",
        keys.signed_parts(header, body, &keys.rsa),
    );
    let rs256 = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"rsa"}"#);
    add("signed by RSA", keys.signed_parts(&rs256, body, &keys.rsa));
    let ps256 = URL_SAFE_NO_PAD.encode(r#"{"alg":"PS256","kid":"rsa"}"#);
    add(
        "signed by RSA in the older way under the name of the newer",
        keys.signed_parts(&ps256, body, &keys.rsa),
    );
    let token = jws::sign_compact(
        &keys.rsa,
        jws::Algorithm::Ps256,
        Some("rsa"),
        None,
        payload.as_bytes(),
    );
    add("signed by RSA-PSS", token.unwrap());
    let hs256 = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"ec"}"#);
    add("the public key as a secret", {
        let message = format!("{hs256}.{body}");
        let secret = hmac::Key::new(hmac::HMAC_SHA256, keys.spki("ec"));
        let tag = hmac::sign(&secret, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    });
    add(
        "as JSON",
        format!(r#"{{"protected":"{header}","payload":"{body}","signature":"{signature}"}}"#),
    );
    all
}

fn all_if_left_over(add: &mut impl FnMut(&str, String), text: String, length: usize) {
    if !length.is_multiple_of(4) {
        add("bits left over in the payload, signed so", text);
    }
}

/// Bytes changed in header or payload and signed again, or anywhere in the text.
pub(crate) fn mutated(keys: &Keys, count: u64, random: &mut Random) -> Vec<Token> {
    let good = keys.payload();
    let tokens = (0..count).map(|_| {
        let (mut header, mut payload) = (HEADER.as_bytes().to_vec(), good.as_bytes().to_vec());
        let (what, text) = match random.below(4) {
            0 => {
                random.mutate(&mut header);
                ("header mutated, signed so", keys.signed(&header, &payload))
            }
            1 | 2 => {
                random.mutate(&mut payload);
                ("payload mutated, signed so", keys.signed(&header, &payload))
            }
            _ => {
                let mut text = keys.signed(&header, &payload).into_bytes();
                random.mutate(&mut text);
                ("text mutated", String::from_utf8_lossy(&text).into_owned())
            }
        };
        keys.token(what, text)
    });
    tokens.collect()
}

/// A signature that was bent: what it is by, the message, and the bytes.
pub(crate) struct Signature {
    pub(crate) token: Token,
    pub(crate) kid: &'static str,
    pub(crate) options: &'static [&'static str],
    pub(crate) message: String,
    /// As OpenSSL takes it; none where the bytes are no signature of the right length.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Signatures of each kind, good ones and bent ones.
pub(crate) fn signatures(keys: &Keys, count: u64, random: &mut Random) -> Vec<Signature> {
    const PSS: &[&str] = &[
        "-sha256",
        "-sigopt",
        "rsa_padding_mode:pss",
        "-sigopt",
        "rsa_pss_saltlen:32",
    ];
    let good = keys.payload();
    let kinds: [(_, &str, &[&str], _); 3] = [
        (jws::Algorithm::Es256, "ec", &["-sha256"], &keys.ec),
        (jws::Algorithm::Rs256, "rsa", &["-sha256"], &keys.rsa),
        (jws::Algorithm::Ps256, "rsa", PSS, &keys.rsa),
    ];
    let signatures = (0..count).map(|round| {
        let (algorithm, kid, options, key) = kinds[usize::try_from(round).unwrap() % kinds.len()];
        let text = jws::sign_compact(key, algorithm, Some(kid), None, good.as_bytes()).unwrap();
        let (message, signature) = text.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        // One of four stays good, so that both say yes now and then.
        if random.below(4) > 0 {
            random.mutate(&mut bytes);
        }
        let token = keys.token(
            &format!("{algorithm} signature bent"),
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes)),
        );
        Signature {
            token,
            kid,
            options,
            message: message.to_owned(),
            bytes: if kid == "ec" { asn1(&bytes) } else { Some(bytes) },
        }
    });
    signatures.collect()
}

/// r and s side by side as ASN.1 has them; nothing when they are not two numbers of 32 bytes.
fn asn1(fixed: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = (fixed.len() == 64).then(|| fixed.split_at(32))?;
    let number = |bytes: &[u8]| {
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(31);
        let sign: &[u8] = if bytes[first] >= 0x80 { &[0] } else { &[] };
        crate::der::value(2, &[sign, &bytes[first..]])
    };
    Some(crate::der::sequence(&[&number(r), &number(s)]))
}

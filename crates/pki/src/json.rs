//! JSON read strictly: one object, no member twice at any depth, nothing behind it.
//!
//! RFC 8259 leaves open what a member that occurs twice means, and readers differ. Where two readers of one signed
//! document can see two contents, the document is refused (RFC 7515 4, RFC 7519 4; TB 6.3).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deeply values may be nested. Tokens and bundles need four levels.
const MAX_DEPTH: usize = 64;

/// Why a text is not read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        // The one message of the parser that quotes its input, which may be a secret.
        let quotes = text.starts_with("invalid type") || text.starts_with("invalid value");
        Self(if quotes { "not an object".to_owned() } else { text })
    }
}

/// Reads one object that fills `bytes`.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let object = reader.deserialize_map(Object { depth: 0 })?;
    reader.end()?;
    Ok(object)
}

#[derive(Clone, Copy)]
struct Object {
    depth: usize,
}

impl<'de> Visitor<'de> for Object {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Strict {
                depth: self.depth + 1,
            })?;
            if object.insert(name, value).is_some() {
                // The name is the sender's text and stays out of the message.
                return Err(A::Error::custom("a member occurs twice"));
            }
        }
        Ok(object)
    }
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom("nested too deeply"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self {
            depth: self.depth + 1,
        })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Value, A::Error> {
        Object { depth: self.depth }.visit_map(members).map(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(object(br#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#).is_ok());
    }

    #[test]
    fn only_one_object_is_read() {
        for text in [
            "",
            "[]",
            "null",
            "1",
            r#""a""#,
            "{} {}",
            "{}x",
            "{",
            r#"{"a":}"#,
            "\u{feff}{}",
        ] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(object(br#""a secret""#).unwrap_err().to_string(), "not an object");
        assert!(object(b" {} \n").is_ok());
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
        assert!(object(br#"{"a":"\ud800"}"#).is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
        assert!(object(nested(63).as_bytes()).is_ok());
        assert!(object(nested(64).as_bytes()).is_err());
        assert!(object(nested(100_000).as_bytes()).is_err());
    }

    #[test]
    fn integers_keep_every_digit() {
        let read =
            object(br#"{"a":9007199254740993,"b":18446744073709551615,"c":-9223372036854775808}"#).unwrap();
        assert_eq!(read["a"].as_u64(), Some(9_007_199_254_740_993));
        assert_eq!(read["b"].as_u64(), Some(u64::MAX));
        assert_eq!(read["c"].as_i64(), Some(i64::MIN));
        assert!(object(br#"{"a":1e400}"#).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            let _ = object(&bytes);
        }
    }
}

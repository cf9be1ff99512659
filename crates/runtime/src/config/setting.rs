//! What can stand in a configuration, and what a person is told when something else does.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use muster_identity::{SpiffeId, TrustDomain};
use toml::Value;

use crate::logging::{Format, Level};

/// A type that a configuration value is read into.
pub trait Setting: Sized {
    /// What is expected, as the end of the sentence «expected …».
    const EXPECTED: &'static str;

    /// The value, if it is one.
    fn from_value(value: &Value) -> Option<Self>;
}

/// The permission bits of a file or socket, written as a text of octal digits such as `"0770"`: a TOML number would be read as decimal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileMode(pub u32);

impl Setting for String {
    const EXPECTED: &'static str = "a text that is not empty";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Setting for u16 {
    const EXPECTED: &'static str = "a whole number from 0 to 65535";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_integer()?.try_into().ok()
    }
}

impl Setting for u32 {
    const EXPECTED: &'static str = "a whole number from 0 to 4294967295";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_integer()?.try_into().ok()
    }
}

impl Setting for u64 {
    const EXPECTED: &'static str = "a whole number, 0 or more";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_integer()?.try_into().ok()
    }
}

impl Setting for usize {
    const EXPECTED: &'static str = "a whole number, 0 or more";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_integer()?.try_into().ok()
    }
}

impl Setting for NonZeroUsize {
    const EXPECTED: &'static str = "a whole number, 1 or more";

    fn from_value(value: &Value) -> Option<Self> {
        Self::new(usize::from_value(value)?)
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "an absolute path";

    fn from_value(value: &Value) -> Option<Self> {
        // A relative path would mean another file for each directory that the daemon is started in.
        value.as_str().map(Self::from).filter(|path| path.is_absolute())
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str = "an address with a port, such as \"0.0.0.0:8081\" or \"[::1]:8081\"";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

impl Setting for Duration {
    const EXPECTED: &'static str =
        "a duration longer than zero, such as \"90s\", \"5m\", \"1h 30m\" or \"7d\"";

    fn from_value(value: &Value) -> Option<Self> {
        humantime::parse_duration(value.as_str()?)
            .ok()
            .filter(|duration| !duration.is_zero())
    }
}

impl Setting for FileMode {
    const EXPECTED: &'static str = "permission bits as a text of octal digits, such as \"0770\"";

    fn from_value(value: &Value) -> Option<Self> {
        let text = value.as_str().filter(|text| (3..=4).contains(&text.len()))?;
        u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .map(Self)
    }
}

impl Setting for TrustDomain {
    const EXPECTED: &'static str = "a trust domain name in lower case, such as \"example.org\"";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

impl Setting for SpiffeId {
    const EXPECTED: &'static str = "a SPIFFE ID, such as \"spiffe://example.org/billing\"";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

impl Setting for Level {
    const EXPECTED: &'static str = "one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

impl Setting for Format {
    const EXPECTED: &'static str = "\"text\" or \"json\"";

    fn from_value(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Splits `host:port`, where the host may be a name, an IPv4 address or an IPv6 address in brackets.
pub fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .map_or(Some(host), |rest| rest.strip_suffix(']'))?;
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let valid = if bare.len() == host.len() {
        !host.is_empty() && host.len() <= 253 && host.bytes().all(is_host)
    } else {
        bare.parse::<std::net::Ipv6Addr>().is_ok()
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if valid && digits {
        Some((bare, port.parse().ok()?))
    } else {
        None
    }
}

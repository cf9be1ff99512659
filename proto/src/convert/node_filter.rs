use muster_identity::{SelectorSet, UnixTime};

use super::{FieldError, SelectorMatch};
use crate::spire::types;

/// Which nodes to list or count: those that every condition holds for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeFilter {
    /// By which attestor it got in.
    pub attestation_type: Option<String>,
    /// What its attestor found.
    pub selectors: Option<SelectorMatch>,
    /// Whether it is shut out.
    pub banned: Option<bool>,
    /// Whether its attestor lets it in again.
    pub can_reattest: Option<bool>,
    /// Its certificate ends before this moment.
    pub expires_before: Option<UnixTime>,
}

impl NodeFilter {
    /// Whether a node with these properties is meant.
    pub fn matches(
        &self,
        attestation_type: &str,
        selectors: &SelectorSet,
        banned: bool,
        can_reattest: bool,
        expires_at: UnixTime,
    ) -> bool {
        self.attestation_type
            .as_ref()
            .is_none_or(|wanted| attestation_type == wanted)
            && self
                .selectors
                .as_ref()
                .is_none_or(|wanted| wanted.matches(selectors))
            && self.banned.is_none_or(|wanted| banned == wanted)
            && self.can_reattest.is_none_or(|wanted| can_reattest == wanted)
            && self.expires_before.is_none_or(|moment| expires_at < moment)
    }

    fn from_parts(
        by_attestation_type: &str,
        by_selector_match: Option<&types::SelectorMatch>,
        by_banned: Option<bool>,
        by_can_reattest: Option<bool>,
        by_expires_before: &str,
    ) -> Result<Self, FieldError> {
        Ok(Self {
            attestation_type: (!by_attestation_type.is_empty()).then(|| by_attestation_type.to_owned()),
            selectors: by_selector_match
                .map(|m| SelectorMatch::from_wire("by_selector_match", m))
                .transpose()?,
            banned: by_banned,
            can_reattest: by_can_reattest,
            expires_before: match by_expires_before {
                "" => None,
                text => Some(parse_moment(text).ok_or_else(|| {
                    FieldError::new(
                        "by_expires_before",
                        "is not a time such as \"2026-01-31 08:00:00 +0000 UTC\"",
                    )
                })?),
            },
        })
    }
}

/// `2026-01-31 08:00:00 +0100 CET`, the form in which Go prints a time. The zone's name, if there is one, says
/// nothing that the offset does not.
fn parse_moment(text: &str) -> Option<UnixTime> {
    let mut words = text.split_ascii_whitespace();
    let (date, time, offset) = (words.next()?, words.next()?, words.next()?);
    if words.count() > 1 {
        return None;
    }
    let [year, month, day] = numbers::<3>(date, '-', &[4, 2, 2])?;
    let [hour, minute, second] = numbers::<3>(time.split('.').next()?, ':', &[2, 2, 2])?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (sign, digits) = match offset.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: i64 = digits.parse().ok()?;
    let offset = sign * (digits / 100 * 3600 + digits % 100 * 60);
    Some(UnixTime::from_secs(
        days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset,
    ))
}

fn numbers<const N: usize>(text: &str, separator: char, widths: &[usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (number, width) in found.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != *width || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counting years from March so that the leap day is
/// a year's last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The contract has one message for each call, alike but for their names.
macro_rules! read_filter {
    ($request:ident) => {
        #[cfg(feature = "spire-server")]
        impl TryFrom<Option<&crate::spire::server::agent::$request::Filter>> for NodeFilter {
            type Error = FieldError;

            fn try_from(
                filter: Option<&crate::spire::server::agent::$request::Filter>,
            ) -> Result<Self, FieldError> {
                let Some(filter) = filter else {
                    return Ok(Self::default());
                };
                Self::from_parts(
                    &filter.by_attestation_type,
                    filter.by_selector_match.as_ref(),
                    filter.by_banned,
                    filter.by_can_reattest,
                    &filter.by_expires_before,
                )
                .map_err(|error| error.within("filter"))
            }
        }
    };
}
read_filter!(count_agents_request);
read_filter!(list_agents_request);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_go_prints_them() {
        for (text, seconds) in [
            ("1970-01-01 00:00:00 +0000 UTC", Some(0)),
            ("2026-11-23 20:21:00 +0000 UTC", Some(1_795_465_260)),
            ("2026-11-23 21:21:00 +0100 CET", Some(1_795_465_260)),
            ("2000-02-29 00:00:00.123 -0000", Some(951_782_400)),
            ("2026-11-23", None),
            ("2026-13-23 20:21:00 +0000 UTC", None),
            ("2026-11-23T20:21:00Z", None),
            ("2026-11-23 20:21:00 0000 UTC", None),
            ("2026-11-23 20:21:00 +0000 UTC m=+0.1", None),
        ] {
            assert_eq!(parse_moment(text).map(UnixTime::as_secs), seconds, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_that_is_printed_is_read(seconds in 0..253_402_300_799i64) {
            let printed = UnixTime::from_secs(seconds).to_string().replace('T', " ").replace('Z', " +0000 UTC");
            prop_assert_eq!(parse_moment(&printed), Some(UnixTime::from_secs(seconds)));
        }

        #[test]
        fn no_text_breaks_the_reader(text in ".{0,40}") {
            let _ = parse_moment(&text);
        }
    }
}

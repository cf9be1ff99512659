//! The time a certificate counts.

use muster_identity::UnixTime;

use crate::der::{NotDer, Reader};

/// Tag of `UTCTime`.
pub(super) const UTC_TIME: u8 = 0x17;
/// Tag of `GeneralizedTime`.
pub(super) const GENERALIZED_TIME: u8 = 0x18;

/// First and last second at which a certificate counts, both included (RFC 5280 4.1.2.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// The first second.
    pub not_before: UnixTime,
    /// The last second.
    pub not_after: UnixTime,
}

impl Validity {
    /// Whether it counts at that moment.
    #[must_use]
    pub fn contains(&self, moment: UnixTime) -> bool {
        self.not_before <= moment && moment <= self.not_after
    }

    pub(super) fn parse(content: &[u8]) -> Result<Self, NotDer> {
        let mut fields = Reader::new(content);
        let validity = Self {
            not_before: time(&mut fields)?,
            not_after: time(&mut fields)?,
        };
        fields.finish()?;
        Ok(validity)
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`: the only forms that RFC 5280 4.1.2.5 leaves.
pub(super) fn time(fields: &mut Reader<'_>) -> Result<UnixTime, NotDer> {
    let (tag, text) = fields.read_any()?;
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 13) => {
            let year = number(&text[..2])?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 15) => (number(&text[..4])?, &text[4..]),
        _ => return Err(NotDer),
    };
    let (month, day) = (number(&rest[..2])?, number(&rest[2..4])?);
    let (hour, minute, second) = (number(&rest[4..6])?, number(&rest[6..8])?, number(&rest[8..10])?);
    let in_range = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && rest[10] == b'Z';
    if !in_range {
        return Err(NotDer);
    }
    Ok(UnixTime::from_secs(
        days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second,
    ))
}

fn number(digits: &[u8]) -> Result<i64, NotDer> {
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'9' => Ok(value * 10 + i64::from(digit - b'0')),
        _ => Err(NotDer),
    })
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, years counted from March.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(tag: u8, text: &str) -> Result<UnixTime, NotDer> {
        time(&mut Reader::new(&crate::der::value(tag, &[text.as_bytes()])))
    }

    #[test]
    fn both_forms_are_read() {
        for (tag, text, printed) in [
            (UTC_TIME, "700101000000Z", "1970-01-01T00:00:00Z"),
            (UTC_TIME, "491231235959Z", "2049-12-31T23:59:59Z"),
            (UTC_TIME, "500101000000Z", "1950-01-01T00:00:00Z"),
            (GENERALIZED_TIME, "20900101000000Z", "2090-01-01T00:00:00Z"),
            (GENERALIZED_TIME, "20000229120000Z", "2000-02-29T12:00:00Z"),
            (GENERALIZED_TIME, "99991231235959Z", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(parse(tag, text).expect(text).to_string(), printed);
        }
    }

    #[test]
    fn other_forms_and_impossible_dates_are_refused() {
        for (tag, text) in [
            (UTC_TIME, "7001010000Z"),
            (UTC_TIME, "700101000000+0000"),
            (UTC_TIME, "20900101000000Z"),
            (GENERALIZED_TIME, "20900101000000.5Z"),
            (GENERALIZED_TIME, "209001010000000"),
            (GENERALIZED_TIME, "19000229000000Z"),
            (GENERALIZED_TIME, "20901301000000Z"),
            (GENERALIZED_TIME, "20900100000000Z"),
            (GENERALIZED_TIME, "20900101240000Z"),
            (GENERALIZED_TIME, "20900101000060Z"),
            (GENERALIZED_TIME, "2090010100000-Z"),
            (0x0c, "20900101000000Z"),
        ] {
            assert_eq!(parse(tag, text), Err(NotDer), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_calendar_agrees_with_the_one_that_prints(secs in 0i64..253_402_300_799) {
            let moment = UnixTime::from_secs(secs);
            let text: String = moment.to_string().chars().filter(|c| c.is_ascii_digit()).collect();
            prop_assert_eq!(parse(GENERALIZED_TIME, &format!("{text}Z")), Ok(moment));
        }
    }
}

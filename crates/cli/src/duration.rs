//! Lifetimes and moments on the command line.

use std::time::Duration;

use muster_identity::UnixTime;

/// `90s`, `5m`, `1h 30m`, or a number of seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|_| format!("{text:?} is not a time such as 90s, 5m or 1h"))
}

/// The same, as the seconds of a wire field.
pub(crate) fn parse_seconds(text: &str) -> Result<i32, String> {
    let duration = parse(text)?;
    if duration.subsec_nanos() != 0 || duration.is_zero() {
        return Err(format!("{text:?} is not a number of whole seconds from 1"));
    }
    i32::try_from(duration.as_secs()).map_err(|_| format!("{text:?} is longer than 68 years"))
}

/// `2026-01-31T08:00:00Z`, or Unix seconds.
pub(crate) fn parse_moment(text: &str) -> Result<UnixTime, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(UnixTime::from_secs(seconds));
    }
    let moment = humantime::parse_rfc3339_weak(text)
        .map_err(|_| format!("{text:?} is not a moment such as 2026-01-31T08:00:00Z"))?;
    let since = moment
        .duration_since(std::time::UNIX_EPOCH)
        .map_err(|_| format!("{text:?} lies before 1970"))?;
    Ok(UnixTime::from_secs(
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_whole_seconds() {
        assert_eq!(parse_seconds("1h 30m"), Ok(5_400));
        assert_eq!(parse_seconds("90"), Ok(90));
        for text in ["0", "1ms", "-1", "soon", "100000d"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_are_dates_or_seconds() {
        assert_eq!(parse_moment("2026-11-23T20:21:00Z"), parse_moment("1795465260"));
        assert!(parse_moment("tomorrow").is_err());
    }
}

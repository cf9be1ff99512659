use std::{fmt, time::Duration};

/// A moment in whole seconds since 1970-01-01 00:00:00 UTC: the resolution of certificates and tokens.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnixTime(i64);

impl UnixTime {
    /// The first second of 1970.
    pub const EPOCH: Self = Self(0);
    /// The last second of the year 9999: nothing later can be written into a certificate (RFC 5280 4.1.2.5).
    pub const MAX: Self = Self(253_402_300_799);

    /// The moment `secs` seconds after the epoch. Every value is a moment; past [`UnixTime::MAX`] it is cut to that.
    pub fn from_secs(secs: i64) -> Self {
        Self(secs).min(Self::MAX)
    }

    /// Seconds since the epoch.
    pub fn as_secs(self) -> i64 {
        self.0
    }

    /// This moment and `duration` (whole seconds of it) later, at most [`UnixTime::MAX`].
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self::from_secs(self.0.saturating_add(whole_seconds(duration)))
    }

    /// This moment and `duration` (whole seconds of it) earlier.
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_seconds(duration)))
    }

    /// How long ago `earlier` was; nothing when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for UnixTime {
    /// `2026-11-23T20:21:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, secs) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (year, month, day) = civil_date(days);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            secs / 3600,
            secs / 60 % 60,
            secs % 60
        )
    }
}

/// How long a credential lives: whole seconds, at least one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lifetime(u32);

impl Lifetime {
    /// A lifetime of `secs` seconds; none of zero.
    pub fn from_secs(secs: u32) -> Result<Self, ZeroLifetime> {
        if secs == 0 {
            Err(ZeroLifetime)
        } else {
            Ok(Self(secs))
        }
    }

    /// The lifetime in seconds.
    pub fn as_secs(self) -> u32 {
        self.0
    }

    /// The lifetime as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

/// A lifetime of nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("lifetime is zero, at least one second is needed")]
pub struct ZeroLifetime;

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Days since the epoch to a date of the proleptic Gregorian calendar. Years are counted from March, so that the leap
/// day is a year's last, in eras of 400 years (146,097 days).
fn civil_date(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_print_as_dates() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_378_860, "2026-11-22T20:21:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(UnixTime::from_secs(secs).to_string(), text);
        }
    }

    #[test]
    fn sums_never_leave_the_range() {
        assert_eq!(UnixTime::MAX.saturating_add(Duration::MAX), UnixTime::MAX);
        assert_eq!(UnixTime::EPOCH.since(UnixTime::MAX), Duration::ZERO);
        assert!(Lifetime::from_secs(0).is_err());
    }
}

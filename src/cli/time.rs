//! Moments on the command line: `2026-11-25T22:04:05.678Z`, with less of it, or with an offset.

use crate::base::calendar;

const DAY_MS: i64 = 86_400_000;

/// What a moment may look like, for messages.
pub const FORMS: &str = "2026-11-25T22:04:05Z, 2026-11-25T22:04+01:00, 2026-11-25 (UTC where no offset is given), \
                         or @ and milliseconds since 1970";

/// Milliseconds since 1970.
pub fn parse(text: &str) -> Result<i64, String> {
    let found = match text.strip_prefix('@') {
        Some(ms) => ms.parse().ok().filter(|ms| *ms >= 0),
        None => moment(text),
    };
    found.ok_or_else(|| format!("no moment in time: expected {FORMS}"))
}

fn moment(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) =
        (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() {
        return None;
    }
    let midnight = calendar::day_of_date(year, month, day)? * DAY_MS;
    Some(midnight + time.map_or(Some(0), time_of_day)?)
}

/// `hh:mm`, `:ss`, `.fraction`, and `Z` or `+hh:mm`, in milliseconds since midnight UTC.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, offset_ms) = match text.find(['Z', 'z', '+', '-']) {
        None => (text, 0),
        Some(at) => (&text[..at], zone(&text[at..])?),
    };
    let (clock, fraction_ms) = match clock.split_once('.') {
        None => (clock, 0),
        Some((clock, fraction)) => {
            let three: String = fraction.chars().chain("000".chars()).take(3).collect();
            digits(fraction, fraction.len())?;
            (clock, digits(&three, 3)?)
        }
    };
    let mut parts = clock.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |text| digits(text, 2))?;
    let valid = parts.next().is_none() && hour < 24 && minute < 60 && second < 60;
    valid.then_some((hour * 3600 + minute * 60 + second) * 1000 + fraction_ms - offset_ms)
}

fn zone(text: &str) -> Option<i64> {
    let sign = match text.chars().next()? {
        'Z' | 'z' => return (text.len() == 1).then_some(0),
        '-' => -1,
        _ => 1,
    };
    let (hours, minutes) = text[1..].split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

fn digits(text: &str, count: usize) -> Option<i64> {
    let plain = text.len() == count && count > 0 && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// A moment as people read it; `-` for none, which is -1.
pub fn format(ms: i64) -> String {
    if ms < 0 {
        return "-".to_owned();
    }
    let (year, month, day) = calendar::date_of_day(ms / DAY_MS);
    let of_day = ms % DAY_MS;
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:00Z", 0),
            ("1970-01-02 01:02:03", 90_123_000),
            ("1970-01-01T01:00:00.5+01:00", 500),
            ("1970-01-01T00:00:00.1234-00:30", 1_800_123),
            ("2026-11-25T22:04:05.678Z", 1_795_644_245_678),
            ("@1795644245678", 1_795_644_245_678),
        ] {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
        assert_eq!(format(1_795_644_245_678), "2026-11-25T22:04:05.678Z");
        assert_eq!(format(-1), "-");
    }

    #[test]
    fn what_is_no_moment() {
        for text in [
            "",
            "yesterday",
            "2026",
            "2026-02-30",
            "2026-1-1",
            "2026-01-01T",
            "2026-01-01T24:00",
            "2026-01-01T10",
            "2026-01-01T10:00:00.",
            "2026-01-01T10:00+1",
            "2026-01-01T10:00Zulu",
            "2026-01-01T10:00:00:00",
            "@-1",
            "@",
            "2026-01-01-01",
            "2026-01-01T1é:00",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

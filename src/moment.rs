//! Times of day as RFC 3339 has them, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time, to the second: `2026-11-21T09:08:07Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let mut text = up_to_seconds(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    text.push('Z');
    text
}

/// A time, to the millisecond: `2026-11-21T09:08:07.006Z`.
pub fn rfc3339_millis(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = up_to_seconds(since);
    text.push('.');
    digits(&mut text, since.subsec_millis().into(), 3);
    text.push('Z');
    text
}

fn up_to_seconds(since: Duration) -> String {
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(i64::try_from(days).unwrap_or(0));
    let mut text = String::with_capacity(24);
    digits(&mut text, year.unsigned_abs(), 4);
    let parts = [
        ('-', month.unsigned_abs()),
        ('-', day.unsigned_abs()),
        ('T', seconds / 3600),
        (':', seconds / 60 % 60),
        (':', seconds % 60),
    ];
    for (before, value) in parts {
        text.push(before);
        digits(&mut text, value, 2);
    }
    text
}

/// Appends a number with that many digits.
pub fn digits(text: &mut String, value: u64, count: u32) {
    for place in (0..count).rev() {
        let digit = value / 10_u64.pow(place) % 10;
        text.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
    }
}

/// Days since 1970-01-01 to a date of the Gregorian calendar, counting years from March so that the leap day is last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The day of a time, counted from 1970-01-01.
pub fn day_of(time: SystemTime) -> u32 {
    let days = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    u32::try_from(days).unwrap_or(u32::MAX)
}

/// The month of a time, counted from January of the year 0.
pub fn month_of(time: SystemTime) -> u32 {
    let (year, month, _) = civil(day_of(time).into());
    u32::try_from(year * 12 + month - 1).unwrap_or(0)
}

/// When that month begins, by its number.
pub fn month_start(month: u32) -> SystemTime {
    let (year, month) = (u64::from(month / 12), u64::from(month % 12 + 1));
    UNIX_EPOCH + Duration::from_secs(days_to(year, month, 1) * 86_400)
}

/// The days from 1970-01-01 to a date that is not before.
fn days_to(year: u64, month: u64, day: u64) -> u64 {
    // Years are counted from March, so that the leap day is the last of one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    (year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day).saturating_sub(719_469)
}

/// Reads a time in UTC, `2026-11-21T09:08:07Z`. Fractions of a second are passed over.
pub fn read_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let whole = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (hour < 24 && minute < 60 && second <= 60)
        && (!fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit()));
    if !whole {
        return None;
    }
    let days = days_to(year, month, day);
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Three numbers of a date or a clock.
fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let mut parts = text.split(between).map(|part| {
        let digits = matches!(part.len(), 2 | 4) && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    });
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_have_numbers_that_lead_back() {
        for (text, day, month, start) in [
            ("1970-01-01T00:00:00Z", 0, 1970 * 12, "1970-01-01T00:00:00Z"),
            ("2024-02-29T23:59:59Z", 19_782, 2024 * 12 + 1, "2024-02-01T00:00:00Z"),
            ("2024-12-31T12:00:00Z", 20_088, 2024 * 12 + 11, "2024-12-01T00:00:00Z"),
            ("2026-11-21T00:00:00Z", 20_778, 2026 * 12 + 10, "2026-11-01T00:00:00Z"),
        ] {
            let time = read_rfc3339(text).unwrap();
            assert_eq!((day_of(time), month_of(time)), (day, month), "{text}");
            assert_eq!(rfc3339(month_start(month)), start);
        }
    }

    #[test]
    fn times_are_written() {
        let at = |seconds, millis: u32| UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000);
        assert_eq!(rfc3339_millis(at(0, 0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_millis(at(951_782_400, 7)), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339_millis(at(1_795_219_199, 999)), "2026-11-20T23:59:59.999Z");
        for (seconds, date) in [
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(at(seconds, 999)), date);
            assert_eq!(read_rfc3339(date), Some(at(seconds, 0)));
        }
    }

    #[test]
    fn times_are_read() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", at(0)),
            ("2000-02-29T00:00:00.007Z", at(951_782_400)),
            ("2026-11-21T09:08:07Z", at(1_795_252_087)),
            ("2100-02-28T23:59:59Z", at(4_107_542_399)),
            ("2100-03-01T00:00:00.000Z", at(4_107_542_400)),
            ("2026-11-21T09:08:07", None),
            ("2026-11-21T09:08:07+00:00", None),
            ("2026-11-21 09:08:07Z", None),
            ("2026-13-21T09:08:07Z", None),
            ("2026-00-21T09:08:07Z", None),
            ("2026-11-00T09:08:07Z", None),
            ("2026-11-21T24:08:07Z", None),
            ("2026-11-21T09:08Z", None),
            ("2026-11-21T09:08:07:01Z", None),
            ("2026-11-21T09:08:07.Z", None),
            ("2026-11-21T09:08:07.xZ", None),
            ("1969-12-31T23:59:59Z", None),
            ("+026-11-21T09:08:07Z", None),
            ("", None),
        ] {
            assert_eq!(read_rfc3339(text), expected, "{text}");
        }
    }
}

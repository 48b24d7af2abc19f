//! Decimal numbers as whole numbers of a power of ten: money is never held in a float.

/// The most digits that a number may have, behind its point or after its exponent has moved it.
const DIGITS: i32 = 36;

/// What a decimal number comes to in units of ten to the power of minus `places`: `"1.25"` with 6 places is 1,250,000.
/// An exponent, as JSON has it, is taken. Nothing where it is no number, is below zero, does not fit, or is finer than the
/// unit.
pub fn scaled(text: &str, places: u32) -> Option<u128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || mantissa.ends_with('.') {
        return None;
    }
    // What is naught behind the point says nothing.
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}").parse::<u128>().ok()?;
    let behind = i32::try_from(fraction.len()).ok()?;
    let shift = i32::try_from(places).ok()?.checked_add(exponent)?.checked_sub(behind)?;
    match shift {
        _ if digits == 0 => Some(0),
        0..=DIGITS => digits.checked_mul(10_u128.checked_pow(shift.unsigned_abs())?),
        ..0 if shift >= -DIGITS => {
            let unit = 10_u128.checked_pow(shift.unsigned_abs())?;
            digits.is_multiple_of(unit).then(|| digits / unit)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_taken_as_it_is_written() {
        for (text, places, is) in [
            ("1.25", 6, 1_250_000),
            ("0.0028", 6, 2_800),
            ("10", 6, 10_000_000),
            ("0", 6, 0),
            ("0.000427", 12, 427_000_000),
            ("6.306e-4", 12, 630_600_000),
            ("1e-05", 12, 10_000_000),
            ("1.7E-05", 12, 17_000_000),
            ("100e-2", 0, 1),
            ("1.500000000000000", 6, 1_500_000),
            ("0e99999", 6, 0),
        ] {
            assert_eq!(scaled(text, places), Some(is), "{text}");
        }
    }

    #[test]
    fn what_is_no_sum_of_money_is_none() {
        for text in
            ["", "-1", ".5", "5.", "1e", "1e400", "1e-40", "0.0000001", "1,5", "NaN", "1_0", "+1", "1.2.3"]
        {
            assert_eq!(scaled(text, 6), None, "{text}");
        }
        assert_eq!(scaled(&"9".repeat(60), 6), None);
    }
}

//! Durations as people write them.

/// `500ms`, `30s`, `5m`, `1h`, `7d` as milliseconds.
///
/// # Errors
/// What is allowed, if it is something else.
pub fn duration_ms(text: &str) -> Result<i64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("{text:?} is no duration: a whole number with ms, s, m, h or d is allowed, like 5m")),
    };
    let number: i64 = number.parse().map_err(|_| format!("{text:?} is no duration: a number is missing, like 5m"))?;
    number.checked_mul(factor).filter(|ms| *ms > 0).ok_or_else(|| format!("{text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::duration_ms;

    #[test]
    fn durations() {
        assert_eq!(duration_ms("5m"), Ok(300_000));
        assert_eq!(duration_ms("500ms"), Ok(500));
        for wrong in ["", "5", "m", "-5m", "5 m", "0s", "99999999999999d"] {
            assert!(duration_ms(wrong).is_err(), "{wrong}");
        }
    }
}

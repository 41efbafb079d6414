//! Durations: `90s`, `10m`, `2h`.

use super::Refusal;

/// Seconds of a duration with one of the units `s`, `m`, `h`; at least one second.
pub(crate) fn seconds(text: &str) -> Result<u64, Refusal> {
    let refusal = || Refusal::new(format!("`{text}` is not a duration"), "a whole number with s, m or h");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let factor: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ if number.is_empty() => return Err(refusal().advice("for example \"90s\", \"10m\" or \"2h\"")),
        _ => {
            let unit = match unit.trim().to_ascii_lowercase().chars().next() {
                Some('m') if unit.trim() != "ms" => "m",
                Some('h') => "h",
                None | Some('s') => "s",
                Some(_) => return Err(refusal().advice("for example \"90s\", \"10m\" or \"2h\"")),
            };
            return Err(refusal().instead(format!("{number}{unit}")));
        }
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    match seconds {
        Some(0) => Err(Refusal::new("a duration of nothing", "must be at least 1s")),
        Some(seconds) => Ok(seconds),
        None => Err(refusal().advice("for example \"90s\", \"10m\" or \"2h\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        for (text, expected) in [("1s", 1), ("10m", 600), ("2h", 7200)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for (text, instead) in [
            ("10", Some("10s")),
            ("10min", Some("10m")),
            ("2 hours", Some("2h")),
            ("x", None),
            ("0s", None),
            ("5ms", None),
        ] {
            assert_eq!(seconds(text).unwrap_err().instead.as_deref(), instead, "{text}");
        }
    }
}

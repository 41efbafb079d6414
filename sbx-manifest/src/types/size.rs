//! Sizes of memory and disk: `512MiB`, `8GiB`.

use super::Refusal;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bytes of a size with one of the units `KiB`, `MiB`, `GiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, Refusal> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let factor = match unit {
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => GIB,
        _ => return Err(wrong_unit(text, number, unit)),
    };
    let too_large = || Refusal::new(format!("`{text}` is larger than any machine"), "too large");
    number
        .parse::<u64>()
        .map_err(|_| if number.is_empty() { wrong_unit(text, number, unit) } else { too_large() })?
        .checked_mul(factor)
        .ok_or_else(too_large)
}

/// The shortest exact spelling of `bytes`.
pub(crate) fn display_bytes(bytes: u64) -> String {
    for (factor, unit) in [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
        if bytes > 0 && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes.checked_div(factor).unwrap_or_default());
        }
    }
    format!("{bytes}B")
}

fn wrong_unit(text: &str, number: &str, unit: &str) -> Refusal {
    let refusal = Refusal::new(
        format!("`{text}` is not a size"),
        if unit.is_empty() { "the unit is missing" } else { "not a whole number of KiB, MiB or GiB" },
    );
    if number.is_empty() {
        return refusal.advice("a size is a whole number and a unit, for example \"8GiB\"");
    }
    match unit.trim().to_ascii_lowercase().as_str() {
        "" | "g" | "gb" | "gib" => refusal.instead(format!("{number}GiB")),
        "m" | "mb" | "mib" => refusal.instead(format!("{number}MiB")),
        "k" | "kb" | "kib" => refusal.instead(format!("{number}KiB")),
        "t" | "tb" | "tib" => match number.parse::<u64>().ok().and_then(|number| number.checked_mul(1024)) {
            Some(gib) => refusal.instead(format!("{gib}GiB")),
            None => refusal,
        },
        unit if unit.starts_with('.') => fraction(refusal, number, unit),
        _ => refusal.advice("a size is a whole number and a unit, for example \"8GiB\""),
    }
}

/// `1.5GiB` is 1536MiB.
fn fraction(refusal: Refusal, whole: &str, rest: &str) -> Refusal {
    let digits: String = rest.chars().skip(1).take_while(char::is_ascii_digit).take(3).collect();
    let gib = rest
        .trim_start_matches(|character: char| character == '.' || character.is_ascii_digit())
        .starts_with('g');
    let exact = || -> Option<u64> {
        let scale = 10_u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
        let thousandths = whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(digits.parse().ok()?)?;
        thousandths.checked_mul(1024)?.checked_div(scale)
    };
    match exact() {
        Some(mib) if gib && mib > 0 => refusal.instead(format!("{mib}MiB")),
        _ => refusal.advice("a size is a whole number and a unit, for example \"1536MiB\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, expected) in [("1KiB", KIB), ("512MiB", 512 * MIB), ("8GiB", 8 * GIB), ("0GiB", 0)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_units_are_refused_with_the_right_one() {
        for (text, instead) in [
            ("8GB", Some("8GiB")),
            ("8g", Some("8GiB")),
            ("8", Some("8GiB")),
            ("512 MB", Some("512MiB")),
            ("1T", Some("1024GiB")),
            ("1.5GiB", Some("1536MiB")),
            ("lots", None),
            ("-1GiB", None),
            ("8GiB ", Some("8GiB")),
            ("", None),
            ("8 parsecs", None),
            ("99999999999999999999GiB", None),
            ("18446744073709551615GiB", None),
        ] {
            assert_eq!(bytes(text).unwrap_err().instead.as_deref(), instead, "{text}");
        }
    }

    #[test]
    fn the_spelling_is_the_shortest_exact_one() {
        for (bytes, text) in
            [(8 * GIB, "8GiB"), (1536 * MIB, "1536MiB"), (4096, "4KiB"), (1, "1B"), (0, "0B")]
        {
            assert_eq!(display_bytes(bytes), text);
        }
    }
}

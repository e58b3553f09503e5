//! Kubernetes' quantities (apimachinery, `resource.Quantity`): a decimal number with a suffix.

use super::types::Quantity;

/// The quantity times `scale`, rounded up: `scale` 1000 gives thousandths.
///
/// # Errors
/// In words.
pub(super) fn scaled(quantity: &Quantity, scale: u64) -> Result<i64, String> {
    let text = match quantity {
        Quantity::Text(text) => text.clone(),
        Quantity::Whole(number) => number.to_string(),
        Quantity::Fraction(number) => number.to_string(),
    };
    parse(&text, scale).ok_or_else(|| format!("{text:?} is not a quantity such as 500m, 2 or 64Mi"))
}

fn parse(text: &str, scale: u64) -> Option<i64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (multiply, divide): (u128, u128) = match suffix {
        "" => (1, 1),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1000u128.pow(2), 1),
        "G" => (1000u128.pow(3), 1),
        "T" => (1000u128.pow(4), 1),
        "P" => (1000u128.pow(5), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let divide = divide.checked_mul(10u128.pow(u32::try_from(fraction.len()).ok()?))?;
    let value = digits.checked_mul(multiply)?.checked_mul(scale.into())?.div_ceil(divide);
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact_and_rounded_up() {
        for (text, scale, expected) in [
            ("500m", 1000, Some(500)),
            ("1.5", 1000, Some(1500)),
            ("0.0001", 1000, Some(1)),
            ("2", 1, Some(2)),
            ("64Mi", 1, Some(64 << 20)),
            ("1.5Gi", 1, Some(3 << 29)),
            ("1G", 1, Some(1_000_000_000)),
            (".5", 1000, Some(500)),
            ("", 1, None),
            (".", 1, None),
            ("-1", 1, None),
            ("1e3", 1, None),
            ("9999999999999999999999P", 1, None),
            ("1.0000000000001", 1, None),
        ] {
            assert_eq!(parse(text, scale), expected, "{text}");
        }
        assert_eq!(scaled(&Quantity::Whole(2), 1000), Ok(2000));
        assert_eq!(scaled(&Quantity::Fraction(0.5), 1000), Ok(500));
    }
}

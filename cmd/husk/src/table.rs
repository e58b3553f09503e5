//! Text for people.

/// Prints rows with aligned columns.
pub(crate) fn print<const N: usize>(rows: &[[String; N]]) {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        println!("{}", line.trim_end());
    }
}

/// A number of bytes in the unit that leaves one to three digits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.5 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_three_digits() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (212_000_000, "212 MB"), (999_600, "1.0 MB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}

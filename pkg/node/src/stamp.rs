//! RFC 3339 time with nanoseconds, in UTC. The part down to the second is formatted once a second.

use rustix::time::{ClockId, clock_gettime};

/// `2026-11-23T12:41:55.123456789Z`
const LENGTH: usize = 30;

/// A formatted time.
#[derive(Debug)]
pub struct Stamp {
    second: i64,
    text: [u8; LENGTH],
}

impl Default for Stamp {
    fn default() -> Self {
        Self { second: i64::MIN, text: *b"0000-00-00T00:00:00.000000000Z" }
    }
}

impl Stamp {
    /// The present.
    pub fn now(&mut self) -> &[u8] {
        let now = clock_gettime(ClockId::Realtime);
        self.at(now.tv_sec, now.tv_nsec as u32)
    }

    fn at(&mut self, second: i64, nanos: u32) -> &[u8] {
        if second != self.second {
            self.second = second;
            self.format_second();
        }
        digits(&mut self.text[20..29], nanos);
        &self.text
    }

    fn format_second(&mut self) {
        let (days, rest) = (self.second.div_euclid(86_400), self.second.rem_euclid(86_400) as u32);
        let (year, month, day) = civil(days);
        digits(&mut self.text[0..4], year);
        digits(&mut self.text[5..7], month);
        digits(&mut self.text[8..10], day);
        digits(&mut self.text[11..13], rest / 3600);
        digits(&mut self.text[14..16], rest / 60 % 60);
        digits(&mut self.text[17..19], rest % 60);
    }
}

fn digits(field: &mut [u8], mut value: u32) {
    for byte in field.iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Gregorian date of a day count since 1970-01-01. Years begin in March here, so that the leap day comes last; an era
/// is 400 years of 146,097 days (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (u32, u32, u32) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_are_formatted_as_date_does() {
        let mut stamp = Stamp::default();
        for (second, nanos, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, 999_999_999, "2000-02-28T23:59:59.999999999Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (951_868_800, 5, "2000-03-01T00:00:00.000000005Z"),
            (1_795_437_715, 123_456_789, "2026-11-23T12:41:55.123456789Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(std::str::from_utf8(stamp.at(second, nanos)).unwrap(), expected);
        }
    }
}

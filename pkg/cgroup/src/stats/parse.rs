//! Parsers for the kernel's stat files. Unknown keys are skipped: every kernel adds some.

use super::usage::{IoDeviceStats, Pressure, PressureLine};

/// `key value` lines of a flat keyed file.
pub(crate) fn keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// One number; `max` is `None`, and so is v1's "unlimited", which is i64::MAX rounded down to a page.
pub(crate) fn limit(text: &str) -> Option<u64> {
    let number = text.trim().parse().ok()?;
    (number < (i64::MAX as u64) & !0xffff).then_some(number)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, then the `full` line, which older kernels leave out for the CPU.
pub(crate) fn pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("some", rest)) => pressure.some = pressure_line(rest),
            Some(("full", rest)) => pressure.full = pressure_line(rest),
            _ => {}
        }
    }
    pressure
}

fn pressure_line(text: &str) -> PressureLine {
    let mut line = PressureLine::default();
    for (key, value) in text.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
        match key {
            "avg10" => line.avg10 = value.parse().unwrap_or_default(),
            "avg60" => line.avg60 = value.parse().unwrap_or_default(),
            "avg300" => line.avg300 = value.parse().unwrap_or_default(),
            "total" => line.total = value.parse().unwrap_or_default(),
            _ => {}
        }
    }
    line
}

/// The entry of device `8:0`, made if needed.
pub(crate) fn device<'d>(devices: &'d mut Vec<IoDeviceStats>, name: &str) -> Option<&'d mut IoDeviceStats> {
    let (major, minor) = name.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    let at = match devices.iter().position(|device| (device.major, device.minor) == (major, minor)) {
        Some(at) => at,
        None => {
            devices.push(IoDeviceStats { major, minor, ..IoDeviceStats::default() });
            devices.len() - 1
        }
    };
    devices.get_mut(at)
}

/// v2 `io.stat`: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
pub(crate) fn io_v2(text: &str) -> Vec<IoDeviceStats> {
    let mut devices = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(device) = words.next().and_then(|name| device(&mut devices, name)) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => device.read_bytes = value,
                "wbytes" => device.write_bytes = value,
                "rios" => device.reads = value,
                "wios" => device.writes = value,
                _ => {}
            }
        }
    }
    devices
}

/// v1 `blkio.throttle.io_service_bytes_recursive` and `io_serviced_recursive`: `8:0 Read 4096` lines, then a total.
pub(crate) fn io_v1(devices: &mut Vec<IoDeviceStats>, text: &str, bytes: bool) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(operation), Some(value)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let Ok(value) = value.parse() else { continue };
        let Some(device) = device(devices, name) else { continue };
        match (operation, bytes) {
            ("Read", true) => device.read_bytes = value,
            ("Write", true) => device.write_bytes = value,
            ("Read", false) => device.reads = value,
            ("Write", false) => device.writes = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlimited_is_none_in_both_spellings() {
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit("9223372036854710272\n"), None); // 64 KiB pages
        assert_eq!(limit("15728640\n"), Some(15_728_640));
    }

    #[test]
    fn both_lines_of_a_pressure_file_are_read() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.25 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let pressure = pressure(text);
        assert_eq!((pressure.some.avg10, pressure.some.avg300, pressure.some.total), (1.5, 0.25, 77));
        assert_eq!(pressure.full.total, 3);
    }

    #[test]
    fn io_is_collected_by_device_from_either_version() {
        let v2 = io_v2("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n254:1\n");
        let mut v1 = Vec::new();
        io_v1(&mut v1, "8:0 Read 1\n8:0 Write 2\n8:0 Sync 9\nTotal 3\n", true);
        io_v1(&mut v1, "8:0 Read 3\n8:0 Write 4\nTotal 7\n", false);
        assert_eq!(v2[0], v1[0]);
        assert_eq!((v1[0].read_bytes, v1[0].write_bytes, v1[0].reads, v1[0].writes), (1, 2, 3, 4));
    }
}

//! The flags of `update`.

use std::path::Path;

use husk_oci::{Error, Result, Update, bounded};

use crate::cli;

/// What is to be changed.
///
/// # Errors
/// A value that is none, or one that husk has no place for.
pub(crate) fn wanted(options: &cli::Update) -> Result<Update> {
    if options.l3_cache_schema.is_some() || options.mem_bw_schema.is_some() {
        return Err(Error::Invalid("Intel RDT is not supported by husk".into()));
    }
    if let Some(path) = &options.resources {
        if path == Path::new("-") {
            return Update::parse(&bounded(std::io::stdin(), path)?);
        }
        let file = std::fs::File::open(path);
        let file = file.map_err(|error| Error::Invalid(format!("read {}: {error}", path.display())))?;
        return Update::parse(&bounded(file, path)?);
    }
    let mut update = Update::default();
    let mut set = |section, name, value: Option<serde_json::Value>| {
        if let Some(value) = value {
            update.set(section, name, value);
        }
    };
    set("blockIO", "weight", options.blkio_weight.map(Into::into));
    set("cpu", "period", options.cpu_period.map(Into::into));
    set("cpu", "quota", options.cpu_quota.map(Into::into));
    set("cpu", "burst", options.cpu_burst.map(Into::into));
    set("cpu", "shares", options.cpu_share.map(Into::into));
    set("cpu", "realtimePeriod", options.cpu_rt_period.map(Into::into));
    set("cpu", "realtimeRuntime", options.cpu_rt_runtime.map(Into::into));
    set("cpu", "cpus", options.cpuset_cpus.clone().map(Into::into));
    set("cpu", "mems", options.cpuset_mems.clone().map(Into::into));
    set("cpu", "idle", options.cpu_idle.map(Into::into));
    set("pids", "limit", options.pids_limit.map(Into::into));
    for (name, flag, size) in [
        ("limit", "memory", &options.memory),
        ("reservation", "memory-reservation", &options.memory_reservation),
        ("swap", "memory-swap", &options.memory_swap),
    ] {
        set("memory", name, size.as_deref().map(|size| bytes(flag, size)).transpose()?.map(Into::into));
    }
    Ok(update)
}

/// A size as Docker writes it: `1024`, `64m`, `1.5G`, `512KiB`; -1 is no limit.
fn bytes(flag: &str, text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let refuse = || Error::Invalid(format!("invalid value for {flag}: {text:?} is no size"));
    let at = text.find(|c: char| c.is_ascii_alphabetic() || c == ' ').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let power = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(refuse()),
    };
    let scale = 1_i64 << (10 * power);
    if let Ok(whole) = number.parse::<u32>() {
        return i64::from(whole).checked_mul(scale).ok_or_else(refuse);
    }
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(scale).filter(|size| *size >= 0).ok_or_else(refuse);
    }
    let fraction: f64 = number.parse().map_err(|_| refuse())?;
    let size = fraction * scale as f64;
    if (0.0..9.0e18).contains(&size) { Ok(size as i64) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_docker_writes_them() {
        for (text, size) in
            [("1024", 1024), ("64M", 64 << 20), ("1.5g", 3 << 29), ("512KiB", 512 << 10), ("-1", -1)]
        {
            assert_eq!(bytes("memory", text).unwrap(), size, "{text}");
        }
        for bad in ["", "x", "-5", "1q", "99999999999g"] {
            assert!(bytes("memory", bad).is_err(), "{bad:?}");
        }
    }
}

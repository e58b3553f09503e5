//! Block I/O weights and throttles.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};
use rustix::io::Errno;

use super::Apply;
use crate::{Controller, Result, place::Place};

/// The v2 `io.weight` (1-10000) for a v1 `blkio.weight` (10-1000), on the straight line between the ends.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

impl Apply<'_> {
    pub(super) fn block_io(&mut self, io: &LinuxBlockIo) -> Result<()> {
        let weights = io.weight_device().as_deref().unwrap_or_default();
        if let Some(weight) = io.weight().filter(|weight| *weight != 0)
            && let Some(home) = self.prefer(Controller::Io, "blockIO.weight")
        {
            self.weight(home, None, weight)?;
        }
        for device in weights {
            if let Some(weight) = device.weight().filter(|weight| *weight != 0)
                && let Some(home) = self.prefer(Controller::Io, "blockIO.weightDevice")
            {
                self.weight(home, Some((device.major(), device.minor())), weight)?;
            }
        }
        if io.leaf_weight().is_some_and(|weight| weight != 0) {
            self.degrade("blockIO.leafWeight", "the kernel dropped it with CFQ (Linux 5.0)");
        }
        let throttles = [
            (io.throttle_read_bps_device(), "blkio.throttle.read_bps_device", "rbps"),
            (io.throttle_write_bps_device(), "blkio.throttle.write_bps_device", "wbps"),
            (io.throttle_read_iops_device(), "blkio.throttle.read_iops_device", "riops"),
            (io.throttle_write_iops_device(), "blkio.throttle.write_iops_device", "wiops"),
        ];
        for (devices, v1_file, v2_key) in throttles {
            for device in devices.as_deref().unwrap_or_default() {
                self.throttle(device, v1_file, v2_key)?;
            }
        }
        Ok(())
    }

    /// BFQ's own file where that scheduler is built in, else the general one (iocost, or the v1 name of older kernels).
    fn weight(&mut self, home: Place<'_>, device: Option<(i64, i64)>, weight: u16) -> Result<()> {
        let bfq =
            if device.is_some() && !home.is_v2() { "blkio.bfq.weight_device" } else { "blkio.bfq.weight" };
        let plain = if device.is_some() { "blkio.weight_device" } else { "blkio.weight" };
        let files = match (home.is_v2(), device) {
            (true, _) => [("io.bfq.weight", u64::from(weight)), ("io.weight", io_weight(weight))],
            (false, _) => [(bfq, u64::from(weight)), (plain, u64::from(weight))],
        };
        for (file, weight) in files {
            let value = match device {
                Some((major, minor)) => format!("{major}:{minor} {weight}"),
                None => weight.to_string(),
            };
            match home.try_write(file, &value) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(home.write_error(file, &value, errno)),
            }
        }
        self.degrade("blockIO.weight", "this kernel has no I/O scheduler with weights");
        Ok(())
    }

    fn throttle(&mut self, device: &LinuxThrottleDevice, v1_file: &str, v2_key: &str) -> Result<()> {
        let (major, minor, rate) = (device.major(), device.minor(), device.rate());
        // It keeps one container from starving the disk of the others.
        let home = self.require(Controller::Io, "blockIO.throttle")?;
        if !home.is_v2() {
            return home.write(v1_file, &format!("{major}:{minor} {rate}"));
        }
        let rate = if rate == 0 { "max".to_owned() } else { rate.to_string() };
        home.write("io.max", &format!("{major}:{minor} {v2_key}={rate}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_span_the_range_of_v2() {
        assert_eq!((io_weight(0), io_weight(10), io_weight(1000)), (1, 1, 10_000));
        assert_eq!(io_weight(100), 910);
    }
}

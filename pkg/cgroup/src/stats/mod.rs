//! Statistics of a group: [`usage`] is what there is to know, [`files`] reads the kernel's files, [`v1`] and [`v2`] know what
//! is in them, and the [`reader`] chooses.

mod files;
pub(crate) mod parse;
mod reader;
mod usage;
mod v1;
mod v2;

pub use reader::StatsReader;
pub use usage::{
    CgroupStats, CpuStats, HugetlbStats, IoDeviceStats, MemoryStats, PidsStats, Pressure, PressureLine,
    PressureSet,
};

//! The architectures a filter meets, and which of them one kernel runs.

use oci_spec::runtime::Arch as OciArch;

/// One syscall ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// The ABIs that one kernel can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// x86_64, with i386 and x32.
    X86,
    /// aarch64, with 32-bit ARM.
    Arm,
}

/// `__X32_SYSCALL_BIT`: x32 calls have x86_64's AUDIT_ARCH and this bit in the number.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

impl Family {
    /// The family husk was built for.
    ///
    /// On another architecture there is no table yet, so compiling a profile is an error rather than no protection.
    pub const NATIVE: Option<Family> = if cfg!(target_arch = "x86_64") {
        Some(Family::X86)
    } else if cfg!(target_arch = "aarch64") {
        Some(Family::Arm)
    } else {
        None
    };

    /// The 64-bit ABI.
    pub(crate) fn native(self) -> Arch {
        match self {
            Family::X86 => Arch::X86_64,
            Family::Arm => Arch::Aarch64,
        }
    }

    /// Name by which Docker's profiles call the architecture in `includes` and `excludes`.
    pub(crate) fn docker_name(self) -> &'static str {
        match self {
            Family::X86 => "amd64",
            Family::Arm => "arm64",
        }
    }

    /// The ABIs of the default profile. Not x32: no distribution runs it by default, and its numbers would double the
    /// time that each start and exec spends on loading the filter.
    pub(crate) fn usual(self) -> Vec<OciArch> {
        match self {
            Family::X86 => vec![OciArch::ScmpArchX86_64, OciArch::ScmpArchX86],
            Family::Arm => vec![OciArch::ScmpArchAarch64, OciArch::ScmpArchArm],
        }
    }

    /// The ABI that `arch` names, if this family's kernels run it.
    pub(crate) fn resolve(self, arch: OciArch) -> Option<Arch> {
        match (self, arch) {
            (_, OciArch::ScmpArchNative) => Some(self.native()),
            (Family::X86, OciArch::ScmpArchX86_64) => Some(Arch::X86_64),
            (Family::X86, OciArch::ScmpArchX86) => Some(Arch::X86),
            (Family::X86, OciArch::ScmpArchX32) => Some(Arch::X32),
            (Family::Arm, OciArch::ScmpArchAarch64) => Some(Arch::Aarch64),
            (Family::Arm, OciArch::ScmpArchArm) => Some(Arch::Arm),
            _ => None,
        }
    }
}

impl Arch {
    /// `AUDIT_ARCH_*` of linux/audit.h, as `seccomp_data.arch` has it.
    pub(crate) fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 64 bits. As in libseccomp, only the low half counts elsewhere.
    pub(crate) fn is_64bit(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::Aarch64)
    }
}

//! Our filters against libseccomp's for the same profiles, on an interpreter.
//!
//! Only where both mean to agree: no syscall with both conditional and unconditional rules or with several actions, and
//! no number newer than the library. Needs a C compiler and libseccomp's header; skips loudly otherwise.

mod common;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use common::{Call, I386, Random, X86_64, action, decide, run};
use husk_seccomp::{Context, Family, compile_for, runtime_default};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscallBuilder,
};

/// libseccomp 2.5 ends here.
const NEWEST: u32 = 449;
const VALUES: [u64; 8] =
    [0, 1, 0xfffe, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0xffff_ffff_0000_0000, u64::MAX];

/// The helper program, if it can be built here.
fn helper(dir: &Path) -> Option<PathBuf> {
    if cfg!(not(target_arch = "x86_64")) {
        husk_test_support::skip("an x86-64 node");
        return None;
    }
    let out = dir.join("libseccomp-helper");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/libseccomp.c");
    let built = Command::new("cc").arg(source).arg("-o").arg(&out).arg("-lseccomp").output();
    if built.is_ok_and(|output| output.status.success()) {
        return Some(out);
    }
    husk_test_support::skip("cc and libseccomp-dev");
    None
}

/// What libseccomp makes of a profile.
fn theirs(helper: &Path, profile: &LinuxSeccomp) -> Vec<u8> {
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut text = format!("default {default:x}\n");
    for arch in profile.architectures().iter().flatten() {
        text += match arch {
            Arch::ScmpArchX86 => "arch x86\n",
            Arch::ScmpArchX32 => "arch x32\n",
            _ => "",
        };
    }
    for rule in profile.syscalls().iter().flatten() {
        let value = action(rule.action(), rule.errno_ret());
        if value == default {
            continue; // refused by the library; runc leaves it out as well
        }
        let args = rule.args().as_deref().unwrap_or_default();
        for name in rule.names() {
            text += &format!("rule {value:x} {name} {}", args.len());
            for arg in args {
                let second = arg.value_two().unwrap_or_default();
                text += &format!(" {} {} {:x} {second:x}", arg.index(), arg.op() as u32, arg.value());
            }
            text += "\n";
        }
    }
    let mut child = Command::new(helper).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    output.stdout
}

fn compare(helper: &Path, profile: &LinuxSeccomp, but: &[u32], random: &mut Random, rounds: u32) {
    let theirs = theirs(helper, profile);
    let ours = compile_for(profile, Family::X86).unwrap();
    for arch in [X86_64, I386] {
        for nr in (0..=NEWEST).filter(|nr| !but.contains(nr)) {
            for bit in [0, 0x4000_0000] {
                if arch == I386 && bit != 0 {
                    continue;
                }
                for _ in 0..rounds {
                    let mut call = Call::new(arch, nr | bit);
                    for arg in &mut call.args {
                        *arg = random.pick(&VALUES).wrapping_add(random.below(3)).wrapping_sub(1);
                    }
                    if arch == I386 {
                        // The kernel zero-extends the arguments of a 32-bit call.
                        call.args.iter_mut().for_each(|arg| *arg &= u64::from(u32::MAX));
                    }
                    let rules = || {
                        let rules = profile.syscalls().iter().flatten();
                        let of_call =
                            rules.filter(|rule| rule.names().len() == 1).map(|rule| format!("{rule:x?}\n"));
                        of_call.collect::<String>()
                    };
                    assert_eq!(
                        decide(&ours, &call),
                        run(&theirs, &call),
                        "ours, theirs; {call:x?}\n{}",
                        rules()
                    );
                }
            }
        }
    }
    assert_eq!(decide(&ours, &Call::new(0xdead, 0)), run(&theirs, &Call::new(0xdead, 0)));
}

#[test]
fn the_default_profile_decides_as_libseccomp_would() {
    let dir = tempfile::tempdir().unwrap();
    let Some(helper) = helper(dir.path()) else { return };
    // socket and socketcall (102 of i386) have conditional refusals beside their allowance, which libseccomp drops;
    // uretprobe is new to it.
    let but = [41, 359, 335, 102];
    for capabilities in [&["CHOWN"][..], &["SYS_ADMIN", "SYS_PTRACE", "BPF"][..]] {
        let profile = runtime_default(&Context::of(Family::X86, capabilities, "6.1")).unwrap();
        compare(&helper, &profile, &but, &mut Random(7), 8);
    }
}

#[test]
fn random_profiles_decide_as_libseccomp_would() {
    let dir = tempfile::tempdir().unwrap();
    let Some(helper) = helper(dir.path()) else { return };
    let names = ["read", "write", "open", "clone", "personality", "openat", "ioctl", "prctl", "getpid"];
    let actions = [
        LinuxSeccompAction::ScmpActErrno,
        LinuxSeccompAction::ScmpActKillProcess,
        LinuxSeccompAction::ScmpActTrap,
        LinuxSeccompAction::ScmpActLog,
    ];
    let ops = [
        LinuxSeccompOperator::ScmpCmpNe,
        LinuxSeccompOperator::ScmpCmpLt,
        LinuxSeccompOperator::ScmpCmpLe,
        LinuxSeccompOperator::ScmpCmpEq,
        LinuxSeccompOperator::ScmpCmpGe,
        LinuxSeccompOperator::ScmpCmpGt,
        LinuxSeccompOperator::ScmpCmpMaskedEq,
    ];
    for seed in 1..=16u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Masks and values that do not fit make libseccomp's rules for 32-bit calls overlap in odd ways.
        let (archs, values) = match seed % 2 {
            0 => (vec![Arch::ScmpArchX86_64], &VALUES[..]),
            _ => (vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32], &VALUES[..4]),
        };
        // The newest call has a rule, so that ENOSYS for newer ones (runc's addition) stays out of the comparison.
        let newest = LinuxSyscallBuilder::default().names(vec!["futex_waitv".to_owned()]);
        let mut rules = vec![newest.action(LinuxSeccompAction::ScmpActTrap).build().unwrap()];
        for name in names {
            let chosen = random.pick(&actions);
            let conditional = random.below(3) != 0;
            // Either several rules about one argument or one rule about several: for overlapping rules about several,
            // libseccomp's tree takes the first branch that fits and does not come back.
            let (rules_of_call, args_of_rule) = match (conditional, random.below(2)) {
                (false, _) => (1, 0),
                (true, 0) => (1 + random.below(3), 1),
                (true, _) => (1, 1 + random.below(3)),
            };
            for _ in 0..rules_of_call {
                let mut args = Vec::new();
                for index in 0..args_of_rule {
                    args.push(
                        LinuxSeccompArgBuilder::default()
                            .index(index as usize)
                            .op(random.pick(&ops))
                            .value(random.pick(values))
                            .value_two(random.pick(values))
                            .build()
                            .unwrap(),
                    );
                }
                let rule =
                    LinuxSyscallBuilder::default().names(vec![name.to_owned()]).action(chosen).args(args);
                rules.push(rule.build().unwrap());
            }
        }
        let profile = LinuxSeccompBuilder::default()
            .default_action(LinuxSeccompAction::ScmpActAllow)
            .architectures(archs)
            .syscalls(rules)
            .build()
            .unwrap();
        compare(&helper, &profile, &[], &mut random, 2);
    }
}

//! Compiled filters against the meaning of their profiles, on an interpreter.

mod common;

use common::{Call, I386, Random, X86_64, decide, meaning};
use husk_seccomp::{Context, Family, compile_for, parse, runtime_default};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscallBuilder,
};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL_PROCESS: u32 = 0x8000_0000;
const X32_BIT: u32 = 0x4000_0000;
const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;

/// Some calls with their x86_64 and i386 numbers, spread over the table.
const CALLS: [(&str, u32, u32); 8] = [
    ("read", 0, 3),
    ("write", 1, 4),
    ("open", 2, 5),
    ("clone", 56, 120),
    ("personality", 135, 136),
    ("openat", 257, 295),
    ("openat2", 437, 437),
    ("mseal", 462, 462),
];
const VALUES: [u64; 10] =
    [0, 1, 2, 39, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x7fff_ffff_ffff_ffff, 1 << 63, u64::MAX];

fn random_profile(random: &mut Random) -> LinuxSeccomp {
    let actions = [
        LinuxSeccompAction::ScmpActAllow,
        LinuxSeccompAction::ScmpActErrno,
        LinuxSeccompAction::ScmpActKillProcess,
        LinuxSeccompAction::ScmpActKill,
        LinuxSeccompAction::ScmpActTrap,
        LinuxSeccompAction::ScmpActLog,
        LinuxSeccompAction::ScmpActTrace,
    ];
    // Newer than every call asked about, so that none of them is "newer than the profile".
    let newest = LinuxSyscallBuilder::default().names(vec!["setxattrat".to_owned()]);
    let mut syscalls = vec![newest.action(LinuxSeccompAction::ScmpActLog).build().unwrap()];
    for _ in 0..random.below(12) {
        let mut names = Vec::new();
        for _ in 0..1 + random.below(3) {
            names.push(random.pick(&CALLS).0.to_owned());
        }
        let args: Vec<LinuxSeccompArg> = (0..random.below(4)).map(|_| random_arg(random)).collect();
        let mut rule = LinuxSyscallBuilder::default().names(names).action(random.pick(&actions)).args(args);
        if random.below(2) == 0 {
            rule = rule.errno_ret(random.below(100) as u32);
        }
        syscalls.push(rule.build().unwrap());
    }
    let mut archs = vec![Arch::ScmpArchX86_64];
    for arch in [Arch::ScmpArchX86, Arch::ScmpArchX32, Arch::ScmpArchS390x] {
        if random.below(2) == 0 {
            archs.push(arch);
        }
    }
    LinuxSeccompBuilder::default()
        .default_action(random.pick(&actions))
        .architectures(archs)
        .syscalls(syscalls)
        .build()
        .unwrap()
}

fn random_arg(random: &mut Random) -> LinuxSeccompArg {
    let ops = [
        LinuxSeccompOperator::ScmpCmpNe,
        LinuxSeccompOperator::ScmpCmpLt,
        LinuxSeccompOperator::ScmpCmpLe,
        LinuxSeccompOperator::ScmpCmpEq,
        LinuxSeccompOperator::ScmpCmpGe,
        LinuxSeccompOperator::ScmpCmpGt,
        LinuxSeccompOperator::ScmpCmpMaskedEq,
    ];
    LinuxSeccompArgBuilder::default()
        .index(random.below(6) as usize)
        .op(random.pick(&ops))
        .value(random.pick(&VALUES))
        .value_two(random.pick(&VALUES))
        .build()
        .unwrap()
}

#[test]
fn a_filter_decides_as_its_profile_says() {
    for seed in 1..=150u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let profile = random_profile(&mut random);
        let program = compile_for(&profile, Family::X86).unwrap();
        let archs = profile.architectures().as_ref().unwrap();
        for (name, nr64, nr32) in CALLS {
            for _ in 0..25 {
                let mut args = [0; 6];
                for arg in &mut args {
                    let base = random.pick(&VALUES);
                    *arg = match random.below(4) {
                        0 => base.wrapping_add(1),
                        1 => base.wrapping_sub(1),
                        _ => base,
                    };
                }
                let native = Call { nr: nr64, arch: X86_64, args };
                assert_eq!(
                    decide(&program, &native),
                    meaning(&profile, name, &native),
                    "seed {seed} {native:x?}"
                );
                let x32 = Call { nr: nr64 | X32_BIT, arch: X86_64, args };
                let want = if archs.contains(&Arch::ScmpArchX32) {
                    meaning(&profile, name, &x32)
                } else {
                    KILL_PROCESS
                };
                assert_eq!(decide(&program, &x32), want, "seed {seed} {x32:x?}");
                let i386 = Call { nr: nr32, arch: I386, args };
                let want = if archs.contains(&Arch::ScmpArchX86) {
                    meaning(&profile, name, &i386)
                } else {
                    KILL_PROCESS
                };
                assert_eq!(decide(&program, &i386), want, "seed {seed} {i386:x?}");
                assert_eq!(decide(&program, &Call { arch: 0x8000_0016, ..native }), KILL_PROCESS);
            }
        }
    }
}

fn default_with(capabilities: &[&str], family: Family) -> husk_seccomp::Program {
    let context = Context::of(family, capabilities, "6.1");
    compile_for(&runtime_default(&context).unwrap(), family).unwrap()
}

#[test]
fn the_default_profile_is_small() {
    for family in [Family::X86, Family::Arm] {
        let program = default_with(&["CHOWN"], family);
        assert!(program.len() < 300, "{family:?}: {}", program.len());
        assert_eq!(program.unknown(), [""; 0]);
    }
}

#[test]
fn a_denied_call_is_eperm_and_a_newer_one_enosys() {
    let program = default_with(&["CHOWN"], Family::X86);
    for (nr, want) in [
        (0, ALLOW),
        (59, ALLOW),   // execve
        (165, EPERM),  // mount
        (425, EPERM),  // io_uring_setup
        (435, ENOSYS), // clone3
        (466, ALLOW),  // removexattrat, the newest of the list
        (467, ENOSYS), // open_tree_attr
        (9999, ENOSYS),
        (u32::MAX, EPERM),
        (X32_BIT | 520, KILL_PROCESS), // execve of x32
    ] {
        assert_eq!(decide(&program, &Call::new(X86_64, nr)), want, "{nr}");
    }
    assert_eq!(decide(&program, &Call::new(I386, 11)), ALLOW);
    // A profile that lists x32 gets it.
    let context = Context::of(Family::X86, ["CHOWN"], "6.1");
    let mut with_x32 = runtime_default(&context).unwrap();
    with_x32.set_architectures(Some(vec![Arch::ScmpArchX32]));
    let program = compile_for(&with_x32, Family::X86).unwrap();
    for (nr, want) in [(59, ALLOW), (X32_BIT | 520, ALLOW), (X32_BIT | 59, EPERM), (X32_BIT | 9999, ENOSYS)] {
        assert_eq!(decide(&program, &Call::new(X86_64, nr)), want, "{nr:x}");
    }
    assert_eq!(decide(&program, &Call::new(AARCH64, 63)), KILL_PROCESS);
    let arm = default_with(&["CHOWN"], Family::Arm);
    assert_eq!(decide(&arm, &Call::new(AARCH64, 63)), ALLOW);
    assert_eq!(decide(&arm, &Call::new(ARM, 3)), ALLOW);
    assert_eq!(decide(&arm, &Call::new(ARM, 0xf_0005)), ALLOW); // set_tls
    assert_eq!(decide(&arm, &Call::new(ARM, 0xf_0003)), EPERM);
    assert_eq!(decide(&arm, &Call::new(ARM, 9999)), ENOSYS);
    assert_eq!(decide(&arm, &Call::new(X86_64, 0)), KILL_PROCESS);
}

#[test]
fn the_default_profile_keeps_clone_sockets_and_personality_in_their_bounds() {
    let plain = default_with(&["CHOWN"], Family::X86);
    let admin = default_with(&["CAP_SYS_ADMIN"], Family::X86);
    let call = |program, nr, arg: u64| {
        decide(program, &Call { args: [arg, 0, 0, 0, 0, 0], ..Call::new(X86_64, nr) })
    };
    let (clone, socket, personality) = (56, 41, 135);
    assert_eq!(call(&plain, clone, 0x003d_0f00), ALLOW); // a thread
    for flag in [0x0002_0000u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
    {
        assert_eq!(call(&plain, clone, flag), EPERM, "{flag:x}");
        assert_eq!(call(&admin, clone, flag), ALLOW, "{flag:x}");
    }
    assert_eq!(call(&admin, 435, 0), ALLOW);
    assert_eq!(call(&admin, 165, 0), ALLOW);
    for family in 0..46u64 {
        let want = if family == 38 || family == 40 { EPERM } else { ALLOW };
        assert_eq!(call(&plain, socket, family), want, "{family}");
        // The kernel takes an int: the high half must not hide the family.
        assert_eq!(call(&plain, socket, family | 1 << 32), want, "{family}");
    }
    // By socketcall(2) of i386 no family can be told, so it makes no socket at all; everything else it does goes on.
    for operation in 0..21u64 {
        let call = Call { args: [operation, 0, 0, 0, 0, 0], ..Call::new(I386, 102) };
        let want = if operation == 1 { ENOSYS } else { ALLOW };
        assert_eq!(decide(&plain, &call), want, "{operation}");
        assert_eq!(decide(&admin, &call), want, "{operation}");
    }
    assert_eq!(decide(&plain, &Call { args: [40, 0, 0, 0, 0, 0], ..Call::new(I386, 359) }), EPERM);
    assert_eq!(decide(&plain, &Call { args: [2, 0, 0, 0, 0, 0], ..Call::new(I386, 359) }), ALLOW);
    for (value, want) in
        [(0, ALLOW), (8, ALLOW), (0x20008, ALLOW), (0xffff_ffff, ALLOW), (0x0040_0000, EPERM)]
    {
        assert_eq!(call(&plain, personality, value), want, "{value:x}");
    }
}

#[test]
fn an_unconditional_rule_leaves_conditional_ones_their_word() {
    let json = br#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
        {"names":["socket"],"action":"SCMP_ACT_ALLOW"},
        {"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":97,"args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}]}"#;
    let profile = parse(json, &Context::of(Family::X86, [""; 0], "6.1")).unwrap();
    let program = compile_for(&profile, Family::X86).unwrap();
    let call = |family| decide(&program, &Call { args: [family, 0, 0, 0, 0, 0], ..Call::new(X86_64, 41) });
    assert_eq!((call(2), call(40)), (ALLOW, 0x0005_0000 | 97));
}

#[test]
fn unknown_names_are_reported_and_foreign_actions_refused() {
    let context = Context::of(Family::X86, [""; 0], "6.1");
    let compiled =
        |json: &str| parse(json.as_bytes(), &context).and_then(|profile| compile_for(&profile, Family::X86));
    let program = compiled(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","frobnicate"],"action":"SCMP_ACT_ERRNO"}]}"#,
    );
    assert_eq!(program.unwrap().unknown(), ["frobnicate"]);
    for bad in [
        r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO",
            "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":70000}]}"#,
    ] {
        assert!(compiled(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_profile_too_long_for_the_kernel_is_refused() {
    let rules: Vec<String> = (0..900)
        .map(|n| {
            format!(
                r#"{{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{{"index":0,"value":{n},"op":"SCMP_CMP_EQ"}},
                    {{"index":1,"value":{n},"op":"SCMP_CMP_EQ"}}]}}"#
            )
        })
        .collect();
    let json = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{}]}}"#, rules.join(","));
    let profile = parse(json.as_bytes(), &Context::of(Family::X86, [""; 0], "6.1")).unwrap();
    assert!(matches!(compile_for(&profile, Family::X86), Err(husk_seccomp::Error::TooLong(_))));
}

#[test]
fn jumps_over_more_than_their_eight_bits_reach_their_targets() {
    let rules: Vec<String> = CALLS
        .iter()
        .flat_map(|(name, ..)| {
            (0..45).map(move |n| {
                format!(
                    r#"{{"names":["{name}"],"action":"SCMP_ACT_ERRNO","errnoRet":{n},"args":[
                        {{"index":0,"value":{n},"op":"SCMP_CMP_EQ"}},{{"index":1,"value":{n},"op":"SCMP_CMP_GE"}}]}}"#
                )
            })
        })
        .collect();
    let json = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{}]}}"#, rules.join(","));
    let profile = parse(json.as_bytes(), &Context::of(Family::X86, [""; 0], "6.1")).unwrap();
    let program = compile_for(&profile, Family::X86).unwrap();
    assert!(program.len() > 2500, "{}", program.len());
    for (name, nr, _) in CALLS {
        for value in 0..50 {
            for second in [0, value, 100] {
                let call = Call { args: [value, second, 0, 0, 0, 0], ..Call::new(X86_64, nr) };
                assert_eq!(decide(&program, &call), meaning(&profile, name, &call), "{call:x?}");
            }
        }
    }
    assert_eq!(decide(&program, &Call::new(X86_64, 59)), ALLOW);
    assert_eq!(decide(&program, &Call::new(I386, 3)), KILL_PROCESS);
}

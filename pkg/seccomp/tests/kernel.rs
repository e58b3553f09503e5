//! A compiled filter in the kernel: a child loads it and tries calls.
//!
//! The child is this test binary again, so that the filter never touches the test runner.
#![expect(clippy::disallowed_methods, reason = "the child must report by its exit code alone")]

use std::process::Command;

use husk_seccomp::{Context, Program, compile, parse, runtime_default};

const ROLE: &str = "HUSK_SECCOMP_TEST_PROFILE";

/// Runs `child` of this file in a process of its own; the profile goes through a file.
fn in_child(profile: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("profile.json");
    std::fs::write(&file, profile).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_side", "--nocapture", "--test-threads=1"])
        .env(ROLE, &file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let from = text.find("RESULT ").unwrap_or_else(|| panic!("{text}\n{:?}", output));
    text[from..].lines().next().unwrap().to_owned()
}

fn program(profile: &str) -> Program {
    let context = Context::new(["CHOWN"]);
    match profile {
        "default" => compile(&runtime_default(&context).unwrap()).unwrap(),
        json => compile(&parse(json.as_bytes(), &context).unwrap()).unwrap(),
    }
}

fn errno(result: std::io::Result<()>) -> i32 {
    result.err().and_then(|err| err.raw_os_error()).unwrap_or(0)
}

/// Not a test of its own: does nothing without the role.
#[test]
fn the_child_side() {
    let Some(file) = std::env::var_os(ROLE) else { return };
    let profile = std::fs::read_to_string(file).unwrap();
    let program = program(&profile);
    rustix::thread::set_no_new_privs(true).unwrap();
    husk_sys::seccomp::load(program.bytes(), program.flags()).unwrap();
    let mkdir = errno(std::fs::create_dir("/dev/null/x"));
    let socket = |family: u16| {
        let family = rustix::net::AddressFamily::from_raw(family);
        errno(rustix::net::socket(family, rustix::net::SocketType::DGRAM, None).map(drop).map_err(Into::into))
    };
    // Without a filter ENOENT, whoever asks.
    let umount =
        errno(rustix::mount::unmount("/nowhere", rustix::mount::UnmountFlags::empty()).map_err(Into::into));
    // A kernel without the crypto API says EAFNOSUPPORT.
    let alg_refused = socket(38) == 1;
    println!("RESULT mkdir={mkdir} alg_refused={alg_refused} unix={} umount={umount}", socket(1));
    std::process::exit(0);
}

#[test]
fn a_denied_call_fails_with_the_errno_of_the_rule() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":30},
        {"names":["socket"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
    assert_eq!(in_child(profile), "RESULT mkdir=30 alg_refused=false unix=1 umount=2");
}

#[test]
fn the_default_profile_lets_a_process_work_and_refuses_mounts_and_af_alg() {
    assert_eq!(in_child("default"), "RESULT mkdir=20 alg_refused=true unix=0 umount=1");
}

//! Links pause without a C library, in the profile that builds it so.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Cargo tells build scripts "release" for every profile that inherits it; its directory has the real name:
    // target/<triple>/monitor/build/husk-pause-<hash>/out. Only `monitor` has panic = "abort", on which main.rs decides
    // whether it is freestanding.
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    let freestanding = std::path::Path::new(&out)
        .ancestors()
        .nth(3)
        .and_then(|profile| profile.file_name())
        .is_some_and(|name| name == "monitor");
    if freestanding {
        for argument in [
            "-nostartfiles",
            "-nodefaultlibs",
            "-static",
            "-no-pie",
            // One page of code and data instead of one per kind of section.
            "-Wl,-z,noseparate-code,-z,norelro,--build-id=none,--no-eh-frame-hdr",
        ] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}

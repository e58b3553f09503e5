//! Who husk is, to Docker's clients.

use husk_images::Platform;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    error::Result,
    http::{Answer, MAX_API, MIN_API, json},
};

/// The version of the engine that speaks this API, and husk's own as build metadata (semver.org, 10). Clients take decisions from
/// the first part, so it must be that of the API.
pub(crate) const ENGINE: &str = concat!("29.8.0+husk.", env!("CARGO_PKG_VERSION"));
/// husk's own version.
pub(super) const HUSK: &str = env!("CARGO_PKG_VERSION");

/// `GET /version`
pub(super) fn version() -> Result<Answer> {
    json(StatusCode::OK, &versions())
}

fn versions() -> Value {
    let kernel = husk_node::kernel_release();
    let architecture = Platform::host().architecture;
    json!({
        "Platform": { "Name": "husk" },
        "Version": ENGINE,
        "ApiVersion": MAX_API,
        "MinAPIVersion": MIN_API,
        "Os": "linux",
        "Arch": architecture,
        "KernelVersion": kernel,
        "GitCommit": "",
        "GoVersion": "",
        "BuildTime": "",
        "Components": [{
            "Name": "Engine",
            "Version": ENGINE,
            "Details": {
                "ApiVersion": MAX_API,
                "MinAPIVersion": MIN_API,
                "Os": "linux",
                "Arch": architecture,
                "KernelVersion": kernel,
                "Experimental": "false",
                "GitCommit": "",
                "GoVersion": "",
                "BuildTime": "",
            },
        }, {
            "Name": "husk",
            "Version": HUSK,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::required::assert_whole;

    #[test]
    fn the_version_begins_as_that_of_the_engine_that_speaks_this_api() {
        let versions = versions();
        assert_whole("SystemVersion", &versions);
        let version = versions["Version"].as_str().unwrap();
        assert!(version.starts_with("29.8."), "{version}");
        assert!(version.ends_with(HUSK), "{version}");
    }
}

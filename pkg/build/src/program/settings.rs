//! buildkitd's configuration.

use std::{net::IpAddr, path::PathBuf};

/// What buildkitd is told.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Build cache, across reboots.
    pub(crate) root: PathBuf,
    /// Its socket.
    pub(crate) socket: PathBuf,
    /// The socket by which clients' traces reach it.
    pub(crate) traces: PathBuf,
    /// husk-oci.
    pub(crate) runtime: PathBuf,
    /// Parent of the cgroups of steps.
    pub(crate) cgroup: String,
    /// Port of husk's own registry.
    pub(crate) port: u16,
    /// Whom steps ask for names, where it is not whom the node asks.
    pub(crate) name_server: Option<IpAddr>,
}

impl Settings {
    /// As buildkitd reads them.
    pub(crate) fn toml(&self) -> String {
        let text = |path: &std::path::Path| quoted(&path.display().to_string());
        let dns =
            self.name_server.map(|ip| format!("[dns]\n  nameservers = [\"{ip}\"]\n")).unwrap_or_default();
        format!(
            "root = {root}\n\
             insecure-entitlements = [\"network.host\"]\n\
             [grpc]\n  address = [{socket}]\n\
             [otel]\n  socketPath = {traces}\n\
             [cdi]\n  disabled = true\n\
             {dns}\
             [worker.containerd]\n  enabled = false\n\
             [worker.oci]\n  enabled = true\n  snapshotter = \"overlayfs\"\n  networkMode = \"host\"\n  binary = {runtime}\n  defaultCgroupParent = {cgroup}\n\
             [registry.\"127.0.0.1:{port}\"]\n  http = true\n  insecure = true\n",
            root = text(&self.root),
            socket = quoted(&format!("unix://{}", self.socket.display())),
            traces = text(&self.traces),
            runtime = text(&self.runtime),
            cgroup = quoted(&self.cgroup),
            port = self.port,
        )
    }
}

/// Text as a string of TOML, whose escapes JSON's are.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_quotes_stay_one_string() {
        let settings = Settings {
            root: "/a\"b\\c".into(),
            socket: "/run/s".into(),
            traces: "/run/t".into(),
            runtime: "/bin/husk-oci".into(),
            cgroup: "/husk/build".into(),
            port: 5,
            name_server: None,
        };
        let toml = settings.toml();
        assert!(toml.starts_with("root = \"/a\\\"b\\\\c\"\n"), "{toml}");
        assert!(toml.contains("address = [\"unix:///run/s\"]"), "{toml}");
        assert!(toml.contains("[registry.\"127.0.0.1:5\"]"), "{toml}");
        assert!(!toml.contains("[dns]"), "{toml}");
        let named = Settings { name_server: Some([127, 0, 0, 11].into()), ..settings }.toml();
        assert!(named.contains("\n[dns]\n  nameservers = [\"127.0.0.11\"]\n[worker"), "{named}");
    }
}

//! Images that the tests assemble themselves, written as `docker save` archives.

use std::{fs, io::Write, path::Path};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The reference under which [`busybox_archive`] is known.
pub const BUSYBOX: &str = "registry.example/husk/busybox:e2e";

/// One layer as an uncompressed tar.
#[derive(Debug, Clone)]
pub struct Layer(pub Vec<u8>);

impl Layer {
    /// Builds a layer from (path, mode, content) of regular files and (path, target) of symlinks.
    pub fn new(directories: &[&str], files: &[(&str, u32, &[u8])], links: &[(&str, &str)]) -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        for directory in directories {
            let mut header =
                header(tar::EntryType::Directory, if *directory == "tmp" { 0o1777 } else { 0o755 }, 0);
            builder.append_data(&mut header, directory, std::io::empty()).expect("append a directory");
        }
        for (path, mode, content) in files {
            let mut header = header(tar::EntryType::Regular, *mode, content.len() as u64);
            builder.append_data(&mut header, path, *content).expect("append a file");
        }
        for (path, target) in links {
            let mut header = header(tar::EntryType::Symlink, 0o777, 0);
            builder.append_link(&mut header, path, target).expect("append a link");
        }
        Self(builder.into_inner().expect("finish the tar"))
    }

    /// The layer's diff id.
    pub fn diff_id(&self) -> String {
        digest(&self.0)
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(1_700_000_000);
    header
}

/// `sha256:<hex>` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    sum.iter().fold(String::from("sha256:"), |text, byte| text + &format!("{byte:02x}"))
}

/// An image that can be written as an archive.
#[derive(Debug, Clone)]
pub struct Archive {
    /// References it carries.
    pub tags: Vec<String>,
    /// The `config` object of the image configuration.
    pub config: Value,
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
}

impl Archive {
    /// The image's configuration file.
    pub fn configuration(&self) -> Vec<u8> {
        json!({
            "architecture": "amd64",
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": self.layers.iter().map(Layer::diff_id).collect::<Vec<_>>() },
        })
        .to_string()
        .into_bytes()
    }

    /// Writes the archive.
    pub fn write(&self, path: &Path) {
        let configuration = self.configuration();
        let config_name = format!("{}.json", &digest(&configuration)[7..]);
        let layer_names: Vec<String> =
            (0..self.layers.len()).map(|number| format!("{number}/layer.tar")).collect();
        let manifest =
            json!([{ "Config": config_name, "RepoTags": self.tags, "Layers": layer_names }]).to_string();
        let mut builder = tar::Builder::new(Vec::new());
        let mut append = |name: &str, content: &[u8]| {
            let mut header = header(tar::EntryType::Regular, 0o644, content.len() as u64);
            builder.append_data(&mut header, name, content).expect("append to the archive");
        };
        append("manifest.json", manifest.as_bytes());
        append(&config_name, &configuration);
        for (name, layer) in layer_names.iter().zip(&self.layers) {
            append(name, &layer.0);
        }
        let bytes = builder.into_inner().expect("finish the archive");
        fs::File::create(path).and_then(|mut file| file.write_all(&bytes)).expect("write the archive");
    }
}

/// Debian's static busybox with the links, users and directories that the tests use.
pub fn busybox_archive() -> Archive {
    let busybox =
        fs::read("/bin/busybox").expect("/bin/busybox of Debian's busybox-static (hack/install-deps)");
    let applets = [
        "sh", "sleep", "echo", "cat", "ls", "id", "touch", "mkdir", "rm", "mount", "umount", "hostname",
        "true", "false", "dd", "ps", "grep", "head", "tail", "seq", "stat", "readlink", "wc", "nc", "wget",
        "ip", "env", "pwd", "chmod", "chown", "ln", "kill", "trap", "test", "yes", "sync", "date", "sort",
        "awk", "sed", "tr", "top", "httpd", "mknod", "find", "nproc", "printf",
    ];
    let targets: Vec<String> = applets.iter().map(|applet| format!("bin/{applet}")).collect();
    let links: Vec<(&str, &str)> = targets.iter().map(|path| (path.as_str(), "busybox")).collect();
    let layer = Layer::new(
        &["bin", "etc", "tmp", "root", "home", "var", "var/www", "usr", "run"],
        &[
            ("bin/busybox", 0o755, &busybox),
            (
                "etc/passwd",
                0o644,
                b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            ),
            ("etc/group", 0o644, b"root:x:0:\nuser:x:1000:\nextra:x:50000:user\nnogroup:x:65534:\n"),
        ],
        &links,
    );
    Archive {
        tags: vec![BUSYBOX.to_owned()],
        config: json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] }),
        layers: vec![layer],
    }
}

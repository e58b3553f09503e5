//! Documents: manifests, references, settings, profiles, device specifications.

use husk_images::{Reference, Selector};
use husk_seccomp::{Context, Family};
use oci_spec::{distribution, runtime::Spec};

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.replace("DIGEST", DIGEST).into_bytes()).collect()
}

/// Manifests, an index, a configuration.
pub(super) fn manifests() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"DIGEST","size":7},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"DIGEST","size":1,"urls":null,"annotations":{"a":"b"}}]}"#,
        r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"DIGEST","size":7,"platform":{"os":"linux","architecture":"arm","variant":"v7"}},{"digest":"DIGEST","size":9,"platform":null}]}"#,
        r#"{"os":"linux","architecture":"amd64","created":null,"config":{"User":"1:2","Env":["A=b"],"Entrypoint":"sh","Cmd":null,"WorkingDir":"/","Labels":{},"Volumes":{"/v":{}},"ExposedPorts":{"80/tcp":{}}},"rootfs":{"type":"layers","diff_ids":["DIGEST"]}}"#,
        r#"{"schemaVersion":1,"fsLayers":[]}"#,
    ])
}

/// A document is a manifest or an index and never both, whatever it is called.
pub(super) fn manifest(bytes: &[u8]) {
    husk_images::fuzzing::manifest(bytes);
}

/// A configuration is made that of a child, which says what it was given.
pub(super) fn child_config(bytes: &[u8]) {
    husk_images::fuzzing::child_config(bytes);
}

/// Names of images.
pub(super) fn references() -> Vec<Vec<u8>> {
    texts(&[
        "busybox",
        "localhost:5000/a/b__c:v1",
        "docker.io/library/x@DIGEST",
        "reg.example/a.b-c/d:T@DIGEST",
        "[::1]:80/a",
        "index.docker.io/a",
        "a--b/c_d",
        "127.0.0.1/a",
    ])
}

/// What is taken is printed and taken again as the same, and is what the reference grammar of Docker says.
pub(super) fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let theirs = text.parse::<distribution::Reference>().ok();
    let Ok(ours) = Reference::parse(text) else {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'/';
        let refused = theirs.filter(|_| text.bytes().all(plain) && text.len() < 200);
        assert!(refused.is_none(), "{text:?} is refused");
        return;
    };
    assert_eq!(Reference::parse(&ours.to_string()).ok().as_ref(), Some(&ours), "{ours} is read as another");
    // An IPv6 host is in Docker's grammar and not in this crate's.
    if text.starts_with('[') {
        return;
    }
    let theirs = theirs.unwrap_or_else(|| panic!("{text:?} is no reference by the grammar"));
    assert_eq!(theirs.registry(), ours.host(), "{text:?}");
    assert_eq!(theirs.repository(), ours.repository(), "{text:?}");
    match ours.selector() {
        Selector::Digest(digest) => assert_eq!(theirs.digest(), Some(digest.as_str()), "{text:?}"),
        Selector::Tag(tag) => assert_eq!(theirs.tag(), Some(tag.as_str()), "{text:?}"),
    }
}

/// Settings of registries; over plain HTTP, so that no certificates are loaded.
pub(super) fn hosts_files() -> Vec<Vec<u8>> {
    texts(&[
        "server = \"http://a.example\"\n[host.\"http://b.example:5000/v2\"]\ncapabilities = [\"pull\", \"resolve\"]\noverride_path = true\ndial_timeout = \"5s\"\n[host.\"http://b.example:5000/v2\".header]\nx-a = [\"b\", \"c\"]\n",
        "[host.\"localhost:5000\"]\nskip_verify = true\nca = [\"a.crt\"]\nclient = [[\"c.cert\", \"c.key\"]]\n",
    ])
}

/// Whatever an administrator wrote is settings or an error.
pub(super) fn hosts(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        husk_images::fuzzing::hosts(text);
    }
}

/// What cosign signs.
pub(super) fn signatures() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"critical":{"identity":{"docker-reference":"a.example/b"},"image":{"docker-manifest-digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"type":"cosign container image signature"},"optional":null}"#,
        r#"{"optional":{"creator":"x","timestamp":1,"a":[{}]},"critical":{"type":"cosign container image signature","image":{"docker-manifest-digest":""},"identity":{"docker-reference":"a:1"}}}"#,
    ])
}

/// What is read has its type in it: nothing else is a signature of an image.
pub(super) fn signature(bytes: &[u8]) {
    if husk_images::fuzzing::signature(bytes).is_some() {
        let read: serde_json::Value = serde_json::from_slice(bytes).expect("what was read is JSON");
        assert_eq!(read["critical"]["type"], "cosign container image signature");
    }
}

/// Policies, as administrators write them.
pub(super) fn policies() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a.example/b":[{"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"remapIdentity","prefix":"a.example","signedPrefix":"b.example"}}],"*.example":[{"type":"insecureAcceptAnything"}]},"docker-daemon":{"":[{"type":"insecureAcceptAnything"}]}}}"#,
        r#"{"default":[{"type":"sigstoreSigned","keyDatas":["LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUNvd0JRWURLMlZ3QXlFQQo="],"signedIdentity":{"type":"exactReference","dockerReference":"a:1"}}]}"#,
    ])
}

/// Whatever it is, it is a policy or an error.
pub(super) fn policy(bytes: &[u8]) {
    husk_images::fuzzing::policy(bytes);
}

/// Files of credentials.
pub(super) fn credential_files() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"auths":{"mirror.example:5000/hub":{"auth":"dTpw"},"https://index.docker.io/v1/":{"identitytoken":"t"}},"credHelpers":{"a.example":"b"},"credsStore":"c"}"#,
        r#"{"auths":{"docker.io":{"username":"u","password":"p"},"mirror.example:5000":{"registrytoken":"t"}}}"#,
    ])
}

/// Whatever it is, it is a file of credentials or an error.
pub(super) fn credentials(bytes: &[u8]) {
    husk_images::fuzzing::credentials(bytes);
}

/// registries.conf with all that is read of it.
pub(super) fn registries_confs() -> Vec<Vec<u8>> {
    texts(&[
        "unqualified-search-registries = [\"a.example\", \"docker.io\"]\nshort-name-mode = \"permissive\"\n[[registry]]\nprefix = \"docker.io/a\"\nlocation = \"b.example/c\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"m.example\"\npull-from-mirror = \"tag-only\"\n[aliases]\nbusybox = \"a.example/b/busybox\"\n",
        "[[registry]]\nprefix = \"*.example.com\"\nblocked = true\nmirror-by-digest-only = true\n",
        "[registries.search]\nregistries = [\"a.example\"]\n",
    ])
}

/// Whatever an administrator wrote is settings or an error.
pub(super) fn registries_conf(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        husk_images::fuzzing::registries_conf(text);
    }
}

/// Headers of registries.
pub(super) fn challenges() -> Vec<Vec<u8>> {
    texts(&[
        "Bearer realm=\"https://auth.example/token\",service=\"registry\",scope=\"repository:a/b:pull\"",
        "Basic realm=a, Bearer realm=\"quoted \\\" text\" , x = y",
        "Negotiate, ,Basic",
    ])
}

/// The schemes and names are in lower case, and nothing comes out that was not in.
pub(super) fn challenge(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let challenges = husk_images::fuzzing::challenges(text);
    let mut length = 0;
    for (scheme, parameters) in &challenges {
        assert!(!scheme.bytes().any(|byte| byte.is_ascii_uppercase()), "{scheme}");
        length += scheme.len();
        for (name, value) in parameters {
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name}");
            length += name.len() + value.len();
        }
    }
    assert!(length <= text.len(), "more came out than went in");
}

/// Profiles of both forms.
pub(super) fn seccomp_profiles() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[{"names":["read","write","clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},{"names":["ptrace"],"action":"SCMP_ACT_LOG","args":[{"index":5,"value":18446744073709551615,"op":"SCMP_CMP_GE"},{"index":1,"value":3,"op":"SCMP_CMP_LT"}]}]}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]}],"syscalls":[{"name":"open","action":"SCMP_ACT_ERRNO","errnoRet":1,"includes":{"caps":["CAP_SYS_ADMIN"],"arches":["amd64"],"minKernel":"4.8"},"excludes":{"caps":["X"]}}]}"#,
    ])
}

/// A profile is compiled to a program that the kernel's size allows, the same one each time, for every family.
pub(super) fn seccomp(bytes: &[u8]) {
    let context = Context::of(Family::X86, ["CAP_SYS_ADMIN"], "6.1.0");
    let Ok(profile) = husk_seccomp::parse(bytes, &context) else { return };
    for family in [Family::X86, Family::Arm] {
        if let Ok(program) = husk_seccomp::compile_for(&profile, family) {
            assert!((1..=4096).contains(&program.len()), "{} instructions", program.len());
            let again = husk_seccomp::compile_for(&profile, family);
            assert_eq!(again.map(|again| again.bytes().to_vec()).ok().as_deref(), Some(program.bytes()));
        }
    }
}

/// Devices, as JSON and as YAML.
pub(super) fn cdi_files() -> Vec<Vec<u8>> {
    texts(&[
        "{\"cdiVersion\":\"1.0.0\",\"kind\":\"vendor.com/gpu\",\"devices\":[{\"name\":\"0\",\"containerEdits\":{\"env\":[\"A=b\"],\"deviceNodes\":[{\"path\":\"/dev/null\",\"permissions\":\"rw\",\"uid\":1}],\"mounts\":[{\"hostPath\":\"/a\",\"containerPath\":\"/b\",\"options\":[\"ro\"]}],\"additionalGids\":[5]}}]}",
        "cdiVersion: 0.6.0\nkind: vendor.com/net\ndevices:\n- name: eth\n  containerEdits: &e\n    env: [\"X=1\"]\n- name: other\n  containerEdits: *e\n",
    ])
}

/// Whatever a vendor wrote is edits or an error.
pub(super) fn cdi(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        for json in [true, false] {
            let mut spec = Spec::default();
            husk_cdi::fuzzing::spec_file(text, json, &mut spec);
        }
    }
}

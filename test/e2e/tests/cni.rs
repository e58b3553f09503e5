//! CNI plugins take over as soon as a configuration appears, and embedded pods are still torn down as they were made.

use std::{fs, process::Command, time::Duration};

use husk_e2e::{Daemon, Options, container, eventually, pod, run, tool, v1};

fn daemon() -> Daemon {
    let plugins = tool("cni").display().to_string();
    Daemon::with(Options { flags: vec!["--cni-bin-dir".into(), plugins], ..Options::default() })
}

fn ip(husk: &Daemon, pod_id: &str) -> String {
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod_id.to_owned(), verbose: false };
    husk.cri().pod_sandbox_status(request).unwrap().status.unwrap().network.unwrap().ip
}

fn write_conflist(husk: &Daemon, bridge: &str) {
    let directory = husk.path("cni");
    fs::create_dir_all(&directory).unwrap();
    let conflist = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": bridge,
        "plugins": [{
            "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": false,
            "ipam": {
                "type": "host-local", "dataDir": husk.path("ipam"),
                "ranges": [[{ "subnet": "10.251.7.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    fs::write(directory.join("new"), conflist.to_string()).unwrap();
    fs::rename(directory.join("new"), directory.join("10-test.conflist")).unwrap();
}

#[test]
fn a_configuration_that_appears_is_used_for_the_next_pod_and_undone_when_the_pod_goes() {
    let bridge = format!("hkcni{:x}", std::process::id() & 0xff_ffff);
    {
        let mut husk = daemon();
        let before = pod("before", &husk.path("logs"));
        let embedded = husk.cri().run_pod(&before).unwrap();
        assert!(!ip(&husk, &embedded).starts_with("10.251.7."));

        write_conflist(&husk, &bridge);
        eventually("the network is CNI's", Duration::from_secs(10), || {
            let status = husk.cri().status(v1::StatusRequest { verbose: true }).unwrap();
            status.info["config"].contains("Cni").then_some(())
        });
        let config = pod("after", &husk.path("logs"));
        let pod_id = husk.cri().run_pod(&config).unwrap();
        let address = ip(&husk, &pod_id);
        assert!(address.starts_with("10.251.7."), "{address}");
        let id = husk.cri().run(&pod_id, &config, &container("main"));
        let (_, shown, _) = husk.cri().exec(&id, &["ip", "-4", "address", "show", "dev", "eth0"]).unwrap();
        assert!(shown.contains(&address), "{shown}");

        // The result is cached: the next daemon can still undo what this one made.
        husk.kill();
        husk.spawn();
        let reservation = husk.path(&format!("ipam/{bridge}/{address}"));
        assert!(reservation.exists());
        husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod_id }).unwrap();
        assert!(!reservation.exists(), "DEL freed the address");
        husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: embedded }).unwrap();
    }
    run(Command::new("ip").args(["link", "delete", &bridge])).success();
}

#[test]
fn a_plugin_that_fails_fails_the_pod_with_its_message_and_leaves_nothing() {
    let husk = daemon();
    let plugins = husk.path("cni");
    fs::create_dir_all(&plugins).unwrap();
    let conflist = r#"{"cniVersion":"1.0.0","name":"broken","plugins":[{"type":"bridge","bridge":"this-name-is-far-too-long-for-linux","ipam":{"type":"host-local","subnet":"10.251.8.0/24"}}]}"#;
    fs::write(plugins.join("10-broken.conflist"), conflist).unwrap();
    eventually("the network is CNI's", Duration::from_secs(10), || {
        let status = husk.cri().status(v1::StatusRequest { verbose: true }).unwrap();
        status.info["config"].contains("broken").then_some(())
    });
    let status = husk.cri().run_pod(&pod("broken", &husk.path("logs"))).expect_err("the plugin fails");
    assert!(status.message().contains("bridge"), "{status}");
    assert!(husk.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items.is_empty());
}

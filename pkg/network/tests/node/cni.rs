//! CNI with plugins made by the test: what they are told, and what becomes of their answers.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::common::{Node, PATIENCE, Pod, eventually, host_port, list, on_a_node};
use husk_model::{Classify, Kind};
use husk_network::{Network, NetworkError, Provider};
use serde_json::{Value, json};

/// A plugin that records how it was called and does what files beside it say.
const PLUGIN: &str = r#"#!/bin/sh
dir=$(dirname "$(dirname "$0")")
name=$(basename "$0")
# Plugins may run at the same time (STATUS does): names that sort by time, and whole or not there.
call=$(date +%s%N)-$$
{ echo "$name"; env | grep ^CNI_; echo "stdin=$(cat)"; } > "$dir/$call"
mv "$dir/$call" "$dir/calls/$call"
do=$name-$CNI_COMMAND
if [ -e "$dir/hang-$do" ]; then sleep 1000 & echo $! > "$dir/hung"; wait; fi
if [ -e "$dir/print-$do" ]; then cat "$dir/print-$do"; exit 0; fi
if [ -e "$dir/fail-$do" ]; then cat "$dir/fail-$do"; echo "on stderr" >&2; exit 1; fi
if [ "$CNI_COMMAND" = ADD ]; then
    echo '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"x"}],'
    echo '"ips":[{"address":"10.9.0.5/24","interface":0},{"address":"fd09::5/64"}],"by":"'$name'"}'
fi
"#;

/// A node with the plugins `one` and `two`.
struct Plugins {
    node: Node,
}

/// One recorded call.
struct Call {
    plugin: String,
    env: BTreeMap<String, String>,
    stdin: Value,
}

impl Call {
    fn what(&self) -> String {
        format!("{} {}", self.plugin, self.env["CNI_COMMAND"])
    }
}

impl Plugins {
    fn new(node: Node) -> Self {
        for dir in ["bin", "calls", "net.d"] {
            fs::create_dir(node.dir.join(dir)).unwrap();
        }
        for name in ["one", "two"] {
            let path = node.dir.join("bin").join(name);
            fs::write(&path, PLUGIN).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { node }
    }

    fn conflist(&self, version: &str) {
        let text = json!({"cniVersion": version, "name": "chain", "plugins": [
            {"type": "one", "mode": "x", "capabilities": {"portMappings": true}}, {"type": "two"}]});
        self.write("net.d/10-chain.conflist", &text.to_string());
    }

    fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.node.dir.join(file);
        fs::write(&path, text).unwrap();
        path
    }

    async fn network(&self) -> Arc<Network> {
        let mut config = self.node.config();
        config.cni_timeout = Duration::from_secs(2);
        Network::start(config).await.unwrap()
    }

    fn calls(&self) -> Vec<Call> {
        let dir = self.node.dir.join("calls");
        list(&dir)
            .into_iter()
            .map(|name| {
                let text = fs::read_to_string(dir.join(name)).unwrap();
                let (head, stdin) = text.split_once("stdin=").unwrap();
                let mut lines = head.lines();
                Call {
                    plugin: lines.next().unwrap().to_owned(),
                    env: lines
                        .filter_map(|line| line.split_once('='))
                        .map(|(k, v)| (k.into(), v.into()))
                        .collect(),
                    stdin: serde_json::from_str(stdin).unwrap_or(Value::Null),
                }
            })
            .collect()
    }

    fn said(&self) -> Vec<String> {
        self.calls().iter().map(Call::what).collect()
    }

    async fn failing(&self, network: &Arc<Network>) -> NetworkError {
        let request = self.node.request(&[]);
        network.create_netns(&request.netns).await.unwrap();
        network.setup(&request).await.unwrap_err()
    }
}

#[test]
fn a_chain_is_added_in_order_and_deleted_in_reverse_each_told_what_the_spec_says() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        plugins.conflist("1.0.0");
        let network = plugins.network().await;
        let pod = plugins.node.pod(&network, &[host_port(12000, 80)]).await;
        assert_eq!(pod.network.provider, Provider::Cni("chain".into()));
        let ips: Vec<String> = pod.network.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.9.0.5", "fd09::5"]);
        // lo is up, though no loopback plugin exists.
        let server = pod.serve("127.0.0.1:80");
        pod.call("127.0.0.1:80".parse().unwrap()).unwrap();
        server.join().unwrap();
        pod.remove(&network).await;

        assert_eq!(plugins.said(), ["one ADD", "two ADD", "two DEL", "one DEL"]);
        let calls = plugins.calls();
        let id = pod.id().as_str();
        for call in &calls {
            assert_eq!(call.env["CNI_CONTAINERID"], id);
            assert_eq!(call.env["CNI_NETNS"], pod.request.netns.to_str().unwrap());
            assert_eq!(call.env["CNI_IFNAME"], "eth0");
            assert_eq!(call.env["CNI_PATH"], plugins.node.dir.join("bin").to_str().unwrap());
            assert!(
                call.env["CNI_ARGS"]
                    .starts_with("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod;")
            );
            assert_eq!((&call.stdin["name"], &call.stdin["cniVersion"]), (&json!("chain"), &json!("1.0.0")));
        }
        assert_eq!(calls[0].stdin["mode"], "x");
        assert_eq!(calls[0].stdin["runtimeConfig"]["portMappings"][0]["hostPort"], 12000);
        assert_eq!(calls[1].stdin.get("runtimeConfig"), None);
        assert_eq!(calls[0].stdin.get("prevResult"), None);
        assert_eq!(calls[1].stdin["prevResult"]["by"], "one");
        assert_eq!(calls[2].stdin["prevResult"]["by"], "two");
        assert_eq!(calls[3].stdin["prevResult"]["by"], "two");
        assert_eq!(plugins.node.records(), Vec::<String>::new());
        // The embedded network was never made.
        assert!(!plugins.node.links().contains(&"huskt0".to_owned()));
    });
}

#[test]
fn a_pod_is_torn_down_as_it_was_set_up_also_after_a_restart_with_another_configuration() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        plugins.conflist("0.4.0");
        let network = plugins.network().await;
        let pod = plugins.node.pod(&network, &[]).await;
        drop(network);
        fs::remove_file(plugins.node.dir.join("net.d/10-chain.conflist")).unwrap();
        let network = plugins.network().await;
        assert_eq!(network.lookup(pod.id()).unwrap(), Some(pod.network.clone()));
        let embedded = plugins.node.pod(&network, &[]).await;
        plugins.conflist("1.0.0");
        eventually("the configuration is seen", || {
            network.status().provider == Provider::Cni("chain".into())
        })
        .await;
        pod.remove(&network).await;
        embedded.remove(&network).await;
        let calls = plugins.calls();
        assert_eq!(plugins.said(), ["one ADD", "two ADD", "two DEL", "one DEL"]);
        assert_eq!(calls[3].stdin["cniVersion"], "0.4.0");
        assert_eq!(calls[3].stdin["prevResult"]["by"], "two");
        assert_eq!(plugins.node.reservations(), Vec::<String>::new());
    });
}

#[test]
fn a_plugin_that_fails_is_quoted_and_everything_is_deleted() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        plugins.conflist("1.0.0");
        plugins.write(
            "fail-two-ADD",
            r#"{"cniVersion":"1.0.0","code":11,"msg":"no leases","details":"try later"}"#,
        );
        let network = plugins.network().await;
        let error = plugins.failing(&network).await;
        assert_eq!(error.to_string(), "CNI plugin two ADD failed: no leases: try later (code 11)");
        assert_eq!(error.kind(), Kind::Unavailable);
        assert_eq!(plugins.said(), ["one ADD", "two ADD", "two DEL", "one DEL"]);
        assert_eq!(plugins.calls()[3].stdin.get("prevResult"), None);
        assert_eq!(plugins.node.records(), Vec::<String>::new());
    });
}

#[test]
fn a_plugin_that_prints_no_json_is_quoted_from_stderr() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        plugins.conflist("1.0.0");
        plugins.write("fail-one-ADD", "panic: x");
        let network = plugins.network().await;
        let error = plugins.failing(&network).await;
        assert_eq!(error.to_string(), "CNI plugin one ADD failed: on stderr");
        assert_eq!(error.kind(), Kind::Internal);
    });
}

#[test]
fn a_delete_that_fails_after_a_failed_add_is_made_up_for_by_gc() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        plugins.conflist("1.0.0");
        plugins.write("fail-two-ADD", r#"{"code":100,"msg":"first"}"#);
        let fail = plugins.write("fail-two-DEL", r#"{"code":100,"msg":"second"}"#);
        let network = plugins.network().await;
        assert!(plugins.failing(&network).await.to_string().contains("first"));
        assert_eq!(plugins.node.records().len(), 1);
        assert_eq!(network.gc(&HashSet::new()).await.failures.len(), 1);
        fs::remove_file(fail).unwrap();
        let report = network.gc(&HashSet::new()).await;
        assert_eq!((report.pods.len(), report.failures.len()), (1, 0));
        assert_eq!(plugins.said().last().unwrap(), "one DEL");
        assert_eq!(plugins.node.records(), Vec::<String>::new());
    });
}

#[test]
fn a_plugin_that_hangs_is_killed_with_its_children() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        plugins.conflist("1.0.0");
        let hang = plugins.write("hang-one-ADD", "");
        let network = plugins.network().await;
        let error = plugins.failing(&network).await;
        assert_eq!(error.to_string(), "CNI plugin one ADD did not end within 2s and was killed");
        assert_eq!(error.kind(), Kind::DeadlineExceeded);
        let child = fs::read_to_string(plugins.node.dir.join("hung")).unwrap();
        eventually("the grandchild is gone", || {
            // A zombie waits for the init of this machine; it is dead all the same.
            fs::read_to_string(format!("/proc/{}/stat", child.trim()))
                .map_or(true, |stat| stat.contains(") Z "))
        })
        .await;
        fs::remove_file(hang).unwrap();
        plugins.node.pod(&network, &[]).await;
    });
}

#[test]
fn answers_that_are_no_result_are_refused_and_undone() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        plugins.conflist("1.0.0");
        let network = plugins.network().await;
        for (printed, reason) in [
            ("not json".to_owned(), "expected"),
            (String::new(), "it is empty"),
            (r#"{"cniVersion":"1.0.0","ips":[]}"#.to_owned(), "no address for eth0"),
            ("x".repeat(3 << 20), "more than 1048576 bytes"),
        ] {
            plugins.write("print-two-ADD", &printed);
            let error = plugins.failing(&network).await;
            assert!(matches!(error, NetworkError::CniResult { .. }), "{error:?}");
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(plugins.said().last().unwrap(), "one DEL");
            assert_eq!(plugins.node.records(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_pod_without_a_namespace_is_deleted_with_an_empty_one() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        plugins.conflist("1.0.0");
        let network = plugins.network().await;
        let gone = plugins.node.pod(&network, &[]).await;
        network.remove_netns(&gone.request.netns).await.unwrap();
        network.teardown(gone.id()).await.unwrap();
        // After a reboot a plain file may be left where the pin was.
        let rebooted = plugins.node.pod(&network, &[]).await;
        network.remove_netns(&rebooted.request.netns).await.unwrap();
        fs::write(&rebooted.request.netns, "").unwrap();
        network.teardown(rebooted.id()).await.unwrap();
        let dels = plugins.calls().into_iter().filter(|call| call.what().ends_with("DEL"));
        let netns: Vec<String> = dels.map(|call| call.env["CNI_NETNS"].clone()).collect();
        assert_eq!(netns, ["", "", "", ""]);
    });
}

#[test]
fn the_directory_may_come_go_and_come_again() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        let dir = plugins.node.dir.join("net.d");
        fs::remove_dir(&dir).unwrap();
        let mut config = plugins.node.config();
        config.cni_conf_dir = dir.join("deep/er");
        let network = Network::start(config.clone()).await.unwrap();
        let embedded = Provider::Embedded("huskt0".into());
        let chain = Provider::Cni("chain".into());
        for _ in 0..3 {
            assert_eq!(network.status().provider, embedded);
            fs::create_dir_all(&config.cni_conf_dir).unwrap();
            plugins.conflist_at(&config.cni_conf_dir);
            eventually("CNI takes over", || network.status().provider == chain).await;
            assert!(network.status().ready, "{:?}", network.status());
            fs::remove_dir_all(&dir).unwrap();
            eventually("the embedded network takes over", || network.status().provider == embedded).await;
        }
    });
}

impl Plugins {
    /// Written the way add-ons do it: beside, then renamed.
    fn conflist_at(&self, dir: &std::path::Path) {
        self.conflist_text(dir, r#"{"cniVersion":"1.0.0","name":"chain","plugins":[{"type":"one"}]}"#);
    }

    fn conflist_text(&self, dir: &std::path::Path, text: &str) {
        fs::write(dir.join(".tmp"), text).unwrap();
        fs::rename(dir.join(".tmp"), dir.join("10-chain.conflist")).unwrap();
    }
}

#[test]
fn a_configuration_that_is_invalid_makes_the_network_not_ready_rather_than_embedded() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        let file = plugins.write("net.d/10-bad.conflist", "{");
        let network = plugins.network().await;
        let status = network.status();
        assert!(!status.ready && status.reason == "InvalidCNIConfiguration", "{status:?}");
        assert!(status.message.contains("10-bad.conflist"), "{status:?}");
        let error = plugins.failing(&network).await;
        assert_eq!(error.kind(), Kind::Unavailable);
        fs::remove_file(file).unwrap();
        eventually("the embedded network takes over", || network.status().ready).await;
    });
}

#[test]
fn a_missing_plugin_is_in_the_status_and_in_the_error() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        plugins.write("net.d/1.conf", r#"{"cniVersion":"1.0.0","name":"n","type":"absent"}"#);
        let network = plugins.network().await;
        let status = network.status();
        assert!(!status.ready && status.message.contains("\"absent\" is not in"), "{status:?}");
        assert!(matches!(plugins.failing(&network).await, NetworkError::CniPluginMissing { .. }));
    });
}

#[test]
fn status_of_the_plugins_decides_since_1_1() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        plugins.conflist("1.1.0");
        let fail = plugins.write("fail-two-STATUS", r#"{"code":50,"msg":"not yet"}"#);
        let network = plugins.network().await;
        eventually("the answer is known", || network.status().message.contains("not yet")).await;
        assert!(!network.status().ready);
        fs::remove_file(fail).unwrap();
        // Each status asked for brings a new question once the last answer is old.
        eventually("the plugins are ready", || network.status().ready).await;
        assert!(plugins.calls().iter().all(|call| !call.env.contains_key("CNI_CONTAINERID")));
        assert!(PATIENCE > Duration::from_secs(10));
    });
}

#[test]
fn gc_tells_the_plugins_who_lives_since_1_1() {
    on_a_node(|node| async move {
        let plugins = Plugins::new(node);
        plugins.conflist("1.1.0");
        let network = plugins.network().await;
        let pod: Pod = plugins.node.pod(&network, &[]).await;
        let report = network.gc(&HashSet::new()).await;
        assert!(report.is_empty(), "{report:?}");
        let gcs: Vec<Call> =
            plugins.calls().into_iter().filter(|call| call.env["CNI_COMMAND"] == "GC").collect();
        assert_eq!(gcs.len(), 2);
        assert_eq!(
            gcs[1].stdin["cni.dev/valid-attachments"],
            json!([{"containerID": pod.id(), "ifname": "eth0"}])
        );
    });
}

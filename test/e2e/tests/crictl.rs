//! A person's session with crictl, command by command.

use std::{fs, time::Duration};

use husk_e2e::{BUSYBOX, Daemon, FakeRegistry, busybox_archive, eventually};
use serde_json::{Value, json};

struct Session {
    husk: Daemon,
    pod_file: String,
    container_file: String,
    image: String,
    _registry: FakeRegistry,
}

fn session(script: &str) -> Session {
    let husk = Daemon::start();
    let registry = FakeRegistry::serve("team/app", "v1", &busybox_archive(), |_| {});
    let image = format!("{}/team/app:v1", registry.host());
    let pod = json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "web-uid", "attempt": 1 },
        "hostname": "web", "log_directory": husk.path("logs"), "labels": { "tier": "front" }, "linux": {},
    });
    let container = json!({
        "metadata": { "name": "main" }, "image": { "image": image }, "log_path": "main.log", "linux": {},
        "command": ["sh", "-c", script],
    });
    let (pod_file, container_file) = (husk.path("pod.json"), husk.path("container.json"));
    fs::write(&pod_file, pod.to_string()).unwrap();
    fs::write(&container_file, container.to_string()).unwrap();
    Session {
        husk,
        pod_file: pod_file.display().to_string(),
        container_file: container_file.display().to_string(),
        image,
        _registry: registry,
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_session_works_as_its_documentation_says() {
    let Session { husk, pod_file, container_file, image, _registry } =
        session("echo one; echo two; exec sleep 100000");
    let crictl = |arguments: &[&str]| husk.crictl(arguments).success();

    assert!(crictl(&["version"]).contains("husk"));
    let info = parse(&crictl(&["info"]));
    let conditions = info["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().all(|condition| condition["status"] == json!(true)), "{conditions:#?}");

    assert!(crictl(&["pull", &image]).contains("sha256:"));
    assert!(crictl(&["images"]).contains("team/app"));
    let inspected = parse(&crictl(&["inspecti", &image]));
    assert_eq!(inspected["status"]["repoTags"][0], json!(image));
    let usage = parse(&crictl(&["imagefsinfo"]));
    assert!(
        usage["status"]["imageFilesystems"][0]["usedBytes"]["value"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );

    let pod = crictl(&["runp", &pod_file]).trim().to_owned();
    assert!(crictl(&["pods", "--name", "web", "--quiet"]).contains(&pod));
    assert!(crictl(&["pods", "--label", "tier=front", "--quiet"]).contains(&pod));
    assert!(crictl(&["pods", "--id", &pod[..12], "--quiet"]).contains(&pod), "a prefix finds the pod");
    assert_eq!(parse(&crictl(&["inspectp", &pod]))["status"]["state"], json!("SANDBOX_READY"));

    let id = crictl(&["create", &pod, &container_file, &pod_file]).trim().to_owned();
    assert!(crictl(&["ps", "--all"]).contains("Created"));
    crictl(&["start", &id]);
    assert!(crictl(&["ps", "--quiet"]).contains(&id));
    assert_eq!(parse(&crictl(&["inspect", &id]))["status"]["state"], json!("CONTAINER_RUNNING"));
    eventually("both lines are in the log", Duration::from_secs(10), || {
        (husk.crictl(&["logs", &id]).stdout == "one\ntwo\n").then_some(())
    });
    assert_eq!(crictl(&["logs", "--tail", "1", &id]), "two\n");
    assert_eq!(crictl(&["exec", "--sync", &id, "echo", "hello"]).trim(), "hello");
    crictl(&["update", "--memory", "67108864", &id]);
    let resources = parse(&crictl(&["inspect", &id]))["status"]["resources"]["linux"].clone();
    assert_eq!(resources["memoryLimitInBytes"], json!("67108864"));
    assert!(crictl(&["stats", "--all"]).contains(&id[..12]));

    crictl(&["stop", "--timeout", "0", &id]);
    assert!(crictl(&["ps", "--all"]).contains("Exited"));
    crictl(&["rm", &id]);
    crictl(&["stopp", &pod]);
    assert!(crictl(&["pods"]).contains("NotReady"));
    crictl(&["rmp", &pod]);
    crictl(&["rmi", &image]);
    assert!(!crictl(&["images"]).contains("team/app"));
}

#[test]
fn logs_can_be_followed_until_the_container_ends() {
    let Session { husk, pod_file, container_file, image, _registry } =
        session("for n in 1 2 3 4 5; do echo $n; sleep 0.1; done");
    husk.crictl(&["pull", &image]).success();
    let id = husk.crictl(&["run", "--no-pull", &container_file, &pod_file]).success().trim().to_owned();
    assert_eq!(husk.crictl(&["--timeout", "30s", "logs", "--follow", &id]).success(), "1\n2\n3\n4\n5\n");
}

#[test]
fn run_and_force_remove_leave_nothing() {
    let Session { husk, pod_file, container_file, image, _registry } = session("exec sleep 100000");
    husk.crictl(&["pull", &image]).success();
    husk.crictl(&["run", "--no-pull", &container_file, &pod_file]).success();
    husk.crictl(&["rmp", "--force", "--all"]).success();
    assert_eq!(husk.crictl(&["pods", "--quiet"]).success().trim(), "");
    assert!(husk.crictl(&["images"]).success().contains(BUSYBOX.split(':').next().unwrap()));
}

#[test]
fn errors_say_what_is_wrong() {
    let Session { husk, .. } = session("true");
    assert!(husk.crictl(&["inspect", "nosuch"]).failure().contains("nosuch"));
    assert!(husk.crictl(&["pull", "127.0.0.1:1/absent:v1"]).failure().contains("127.0.0.1:1"));
    assert!(husk.crictl(&["exec", "--sync", "nosuch", "true"]).failure().contains("nosuch"));
}

//! `husk ps`, `top`, `inspect`, `logs`, `events`, `why`, `run` and `kube` against a real daemon.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use husk_e2e::{
    BUSYBOX, Daemon, Docker, Options, Output, busybox_archive, container, dist, eventually, pod, v1,
    with_command,
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// What `husk kube` and `husk run` are given besides.
fn kube(husk: &Daemon, words: &[&str], manifest: &str) -> Output {
    let file = husk.path("manifest.yaml");
    fs::write(&file, manifest).unwrap();
    let (file, dir) = (file.display().to_string(), husk.path("kube").display().to_string());
    husk.husk(&[words, &["--dir", &dir, &file]].concat())
}

fn listed(husk: &Daemon) -> Vec<Value> {
    let text = husk.husk(&["ps", "-a", "-o", "json"]).success();
    serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap().clone()
}

fn names(pods: &[Value]) -> Vec<String> {
    let name = |pod: &Value| format!("{} {}", pod["door"].as_str().unwrap(), pod["name"].as_str().unwrap());
    let mut names: Vec<_> = pods.iter().map(name).collect();
    names.sort();
    names
}

fn why(husk: &Daemon, name: &str) -> Value {
    serde_json::from_str(&husk.husk(&["why", "-o", "json", name]).success()).unwrap()
}

fn phase_names(account: &Value) -> Vec<&str> {
    account["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect()
}

fn one_pod(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn sleeper() -> String {
    format!("{{containers: [{{name: main, image: {BUSYBOX}, command: [sleep, \"1000000\"]}}]}}")
}

#[test]
fn pods_of_every_door_are_listed_and_a_kubelet_sees_its_own_alone() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let flags = vec!["--docker-address".to_owned(), socket.display().to_string()];
    let husk = Daemon::with(Options { flags, ..Options::default() });
    let docker = Docker::new(&socket);
    let layer = &busybox_archive().layers[0].0;
    docker.send("POST", "/images/create?fromSrc=-&repo=files&tag=1", &[], layer).documents();
    let wanted = json!({ "Image": "files:1", "Cmd": ["sleep", "1000000"] });
    let made = docker.post("/containers/create?name=boxed", &wanted).json(201);
    assert_eq!(docker.send("POST", "/containers/boxed/start", &[], b"").status, 204);
    let config = pod("kubelets", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    husk.cri().run(&pod_id, &config, &container("main"));
    kube(&husk, &["kube", "play"], &one_pod("own", &sleeper())).success();

    let pods = listed(&husk);
    let docker_pod = pods.iter().find(|pod| pod["door"] == "docker").unwrap();
    assert_eq!(docker_pod["containers"][0]["name"], "boxed");
    let short = docker_pod["name"].as_str().unwrap().to_owned();
    assert_eq!(names(&pods), ["cri kubelets".to_owned(), format!("docker {short}"), "husk own".to_owned()]);
    // The kubelet's own view, and Docker's.
    let seen = husk.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items;
    assert_eq!(seen.iter().map(|pod| pod.id.as_str()).collect::<Vec<_>>(), [pod_id.as_str()]);
    let own = pods.iter().find(|pod| pod["door"] == "husk").unwrap()["id"].as_str().unwrap().to_owned();
    let request = v1::StopPodSandboxRequest { pod_sandbox_id: own.clone() };
    husk.cri().stop_pod_sandbox(request).unwrap();
    assert_eq!(docker.get("/containers/json").json(200).as_array().unwrap().len(), 1);
    let ready = |id: &str| listed(&husk).iter().any(|pod| pod["id"] == id && pod["state"] == "ready");
    assert!(ready(&own), "a kubelet cannot reach it");

    // By a name of each door, Docker's id too.
    for (name, id) in [
        ("boxed", docker_pod["id"].as_str().unwrap()),
        (made["Id"].as_str().unwrap(), docker_pod["id"].as_str().unwrap()),
        ("default/own", own.as_str()),
    ] {
        let shown: Value = serde_json::from_str(&husk.husk(&["inspect", name]).success()).unwrap();
        assert!(shown["id"] == *id || shown["pod_id"] == *id, "{name}: {shown}");
    }
    let used: Value = serde_json::from_str(&husk.husk(&["top", "--once", "-o", "json"]).success()).unwrap();
    let used = used["containers"].as_array().unwrap().clone();
    assert_eq!(used.len(), 3, "{used:?}");
    assert!(
        used.iter().all(|one| one["memory"].as_u64() > Some(0)
            && one["processes"] == 1
            && one["millicores"].is_u64()),
        "{used:?}"
    );
    assert!(husk.husk(&["top", "--once"]).success().contains("boxed"));
    let table = husk.husk(&["ps"]).success();
    assert!(
        ["default/own", "e2e/kubelets", "boxed", "docker"].iter().all(|part| table.contains(part)),
        "{table}"
    );

    kube(&husk, &["kube", "down"], &one_pod("own", &sleeper())).success();
    assert_eq!(docker.delete("/containers/boxed?force=1").status, 204);
    assert_eq!(names(&listed(&husk)), ["cri kubelets"]);
}

#[test]
fn an_end_is_explained_by_its_code_its_grace_or_its_pods_stop() {
    let husk = Daemon::start();
    let config = pod("ends", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let run = |name: &str, script: &str| husk.cri().run(&pod_id, &config, &with_command(name, script));
    let failed = run("failed", "echo last words >&2; exit 3");
    husk.cri().wait_exit(&failed);
    let account = &why(&husk, &failed)[0];
    assert_eq!(account["cause"], "its command ended by itself with exit code 3");
    let phases = phase_names(account);
    assert!(
        ["mount sources and devices", "init", "exec"].iter().all(|name| phases.contains(name)),
        "{phases:?}"
    );
    assert!(account["up"].as_i64() > account["began"].as_i64(), "{account}");
    assert!(husk.husk(&["logs", &failed]).stderr.contains("last words"));

    let deaf = run("deaf", "trap '' TERM; echo deaf; sleep 1000000");
    eventually("it is deaf", LIMIT, || husk.husk(&["logs", &deaf]).stdout.contains("deaf").then_some(()));
    husk.cri().stop(&deaf, 1).unwrap();
    let account = &why(&husk, &deaf)[0];
    let cause = account["cause"].as_str().unwrap();
    assert!(cause.contains("SIGKILL") && cause.contains("did not end within the 1 s"), "{cause}");
    let wish = account["asked_to_end"][0]["what"].as_str().unwrap();
    assert!(wish.contains("the CRI") && wish.contains("1 s"), "{wish}");
    let waiting = with_command("waiting", "true");
    let created = husk.cri().create(&pod_id, &config, &waiting).unwrap();
    assert_eq!(why(&husk, &created)[0]["state"], "created; waits to be started");
    let lives = run("lives", "sleep 1000000");
    husk.cri().stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_id.clone() }).unwrap();
    let cause = why(&husk, &lives)[0]["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains("its pod was stopped"), "{cause}");
    let table = husk.husk(&["why", "e2e/ends"]).success();
    assert!(table.contains("pod e2e/ends") && table.contains("asked to end it at once"), "{table}");
    let error = husk.husk(&["why", "nobody"]).failure();
    assert!(error.contains("husk ps -a"), "{error}");
}

#[test]
fn what_failed_to_be_made_is_explained_and_the_making_of_what_is_there_outlives_huskd() {
    let mut husk = Daemon::start();
    let config = pod("made", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let absent = v1::ContainerConfig {
        image: Some(v1::ImageSpec { image: "no.example/such:1".to_owned(), ..Default::default() }),
        ..container("absent")
    };
    husk.cri().create(&pod_id, &config, &absent).unwrap_err();
    let accounts = why(&husk, "absent");
    assert_eq!(accounts[0]["state"], "failed");
    assert!(accounts[0]["cause"].as_str().unwrap().contains("no.example/such:1"), "{accounts}");
    let id = husk.cri().run(&pod_id, &config, &container("main"));
    let before = (why(&husk, &pod_id)[0]["phases"].clone(), why(&husk, &id)[0]["phases"].clone());
    husk.kill();
    husk.spawn();
    let after = (why(&husk, &pod_id)[0]["phases"].clone(), why(&husk, &id)[0]["phases"].clone());
    assert_eq!(after.0, before.0);
    let made: Vec<_> = before.1.as_array().unwrap().iter().take(after.1.as_array().unwrap().len()).collect();
    assert_eq!(after.1.as_array().unwrap().iter().collect::<Vec<_>>(), made);
    assert!(made.iter().any(|phase| phase["name"] == "init"), "{made:?}");
}

#[test]
fn a_pod_that_waits_for_a_plugin_is_told_with_the_plugin() {
    let plugins = tempfile::tempdir().unwrap();
    let (gate, program) = (plugins.path().join("gate"), plugins.path().join("waits"));
    // ADD waits until somebody writes into the fifo; DEL is done at once.
    let script = format!(
        "#!/bin/sh\ncat >/dev/null\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\nread -r _ < {}\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"interfaces\":[],\"ips\":[]}}'\n",
        gate.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let husk = Daemon::with(Options {
        flags: vec!["--cni-bin-dir".into(), plugins.path().display().to_string()],
        ..Options::default()
    });
    let conflist = r#"{"cniVersion":"1.0.0","name":"waits","plugins":[{"type":"waits"}]}"#;
    fs::create_dir_all(husk.path("cni")).unwrap();
    fs::write(husk.path("cni/10-waits.conflist"), conflist).unwrap();
    eventually("the network is CNI's", LIMIT, || {
        let status = husk.cri().status(v1::StatusRequest { verbose: true }).unwrap();
        status.info["config"].contains("waits").then_some(())
    });
    let manifest = one_pod("waiting", &sleeper());
    let file = husk.path("waiting.yaml");
    fs::write(&file, &manifest).unwrap();
    let mut play = spawn(
        &husk,
        &["kube", "play", "--dir", &husk.path("kube").display().to_string(), &file.display().to_string()],
    );
    let told = eventually("the pod waits", LIMIT, || {
        let told = husk.husk(&["why", "default/waiting"]);
        (told.is_success() && told.stdout.contains("is in")).then_some(told.stdout)
    });
    assert!(told.contains("is in \"CNI plugin waits ADD\""), "{told}");
    // Its answer has no address, so the pod fails and is undone.
    fs::write(&gate, "go\n").unwrap();
    assert!(!play.wait().unwrap().success());
    let told = husk.husk(&["why", "default/waiting"]).success();
    assert!(told.contains("failed") && told.contains("waits"), "{told}");
    assert!(listed(&husk).is_empty());
}

fn spawn(husk: &Daemon, words: &[&str]) -> Child {
    Command::new(dist("husk"))
        .arg("--address")
        .arg(husk.address())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_run_ends_with_the_exit_code_of_the_pods_last_container_and_leaves_nothing() {
    let husk = Daemon::start();
    let shell = |name: &str, script: &str| {
        format!(
            "{{name: {name}, image: {BUSYBOX}, command: [sh, -c, {script:?}], volumeMounts: [{{name: shared, mountPath: /shared}}]}}"
        )
    };
    let spec = |containers: &str, more: &str| {
        format!(
            "{{volumes: [{{name: shared, emptyDir: {{}}}}], initContainers: [{}, {}], containers: [{containers}]{more}}}",
            shell("first", "echo 1 > /shared/order"),
            shell("second", "echo 2 >> /shared/order"),
        )
    };
    let last = shell("last", "cat /shared/order; exit 7");
    let ran =
        kube(&husk, &["run"], &one_pod("once", &spec(&format!("{}, {last}", shell("other", "true")), "")));
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(7), "last | 1\nlast | 2\n"), "{}", ran.stderr);
    assert!(listed(&husk).is_empty());
    assert!(!husk.path("kube/disk/default_once").exists() && !husk.path("kube/memory/default_once").exists());

    // The second time it succeeds.
    let again = shell("last", "test -e /shared/again && echo there || { touch /shared/again; exit 1; }");
    let ran = kube(&husk, &["run"], &one_pod("again", &spec(&again, ", restartPolicy: OnFailure")));
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(0), "last | there\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("it runs again"), "{}", ran.stderr);

    let broken = format!(
        "{{initContainers: [{{name: broken, image: {BUSYBOX}, command: [sh, -c, exit 4]}}], containers: [{{name: c, image: {BUSYBOX}}}]}}"
    );
    let error = kube(&husk, &["run"], &one_pod("broken", &broken)).failure();
    assert!(error.contains("default/broken/broken") && error.contains("exit code 4"), "{error}");
    assert!(listed(&husk).is_empty());
}

#[test]
fn an_interrupt_ends_a_run_and_its_pod() {
    let husk = Daemon::start();
    let file = husk.path("pod.yaml");
    let spec = format!(
        "{{containers: [{{name: main, image: {BUSYBOX}, command: [sh, -c, \"trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done\"]}}]}}"
    );
    fs::write(&file, one_pod("long", &spec)).unwrap();
    let mut run = spawn(
        &husk,
        &["run", "--dir", &husk.path("kube").display().to_string(), &file.display().to_string()],
    );
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "up");
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert!(listed(&husk).is_empty());
}

const APP: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello, app.conf: 'a=1'}
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {value: hidden}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      volumes:
      - {name: settings, configMap: {name: settings, defaultMode: 0444}}
      - {name: password, secret: {secretName: password}}
      containers:
      - name: main
        image: IMAGE
        command: [sh, -c, 'echo $GREETING from $NAME; cat /settings/app.conf; echo; cat /password/value; echo; exec sleep 1000000']
        env:
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}
        - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        volumeMounts:
        - {name: settings, mountPath: /settings}
        - {name: password, mountPath: /password}
        livenessProbe: {exec: {command: ['true']}}
";

fn app(replicas: u32) -> String {
    APP.replace("REPLICAS", &replicas.to_string()).replace("IMAGE", BUSYBOX)
}

#[test]
fn a_deployment_is_played_with_its_data_replaced_and_taken_down_alone() {
    let husk = Daemon::start();
    kube(&husk, &["kube", "play"], &one_pod("bystander", &sleeper())).success();
    let played = kube(&husk, &["kube", "play"], &app(2));
    assert!(played.stderr.contains("livenessProbe is not read"), "{}", played.stderr);
    assert_eq!(played.success().lines().count(), 2);
    assert_eq!(names(&listed(&husk)), ["husk app-0", "husk app-1", "husk bystander"]);
    let logs = eventually("the application is up", LIMIT, || {
        let logs = husk.husk(&["logs", "app-1"]).success();
        logs.contains("hidden").then_some(logs)
    });
    assert_eq!(logs, "hello from app-1\na=1\nhidden\n");
    assert_eq!(husk.husk(&["logs", "--tail", "1", "app-0/main"]).success(), "hidden\n");

    let refused = kube(&husk, &["kube", "play"], &app(2)).failure();
    assert!(refused.contains("app-0 is there already") && refused.contains("--replace"), "{refused}");
    assert_eq!(names(&listed(&husk)).len(), 3, "what was there is left alone");
    kube(&husk, &["kube", "play", "--replace"], &app(1)).success();
    assert_eq!(names(&listed(&husk)), ["husk app-0", "husk bystander"]);
    let down = kube(&husk, &["kube", "down"], &app(1)).success();
    assert!(down.contains("default/app-0"), "{down}");
    assert_eq!(names(&listed(&husk)), ["husk bystander"]);
    assert!(!husk.path("kube/memory/default_app-0").exists(), "Secrets are gone");
    kube(&husk, &["kube", "down"], &app(1)).success();
    kube(&husk, &["kube", "down"], &one_pod("bystander", &sleeper())).success();
}

#[test]
fn a_play_that_fails_undoes_what_it_made() {
    let husk = Daemon::start();
    let broken = format!("{{containers: [{{name: c, image: {BUSYBOX}, command: [/no/such/program]}}]}}");
    let both = format!("{}---\n{}", one_pod("good", &sleeper()), one_pod("bad", &broken));
    let error = kube(&husk, &["kube", "play"], &both).failure();
    assert!(error.contains("default/bad/c") && error.contains("/no/such/program"), "{error}");
    assert!(listed(&husk).is_empty());
    assert!(files(&husk.path("kube")).is_empty(), "{:?}", files(&husk.path("kube")));
    let unsound =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: ../../up}\nspec: {containers: [{name: c, image: i}]}\n";
    let error = kube(&husk, &["kube", "play"], unsound).failure();
    assert!(error.contains("metadata.name"), "{error}");
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    let (dirs, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    files.into_iter().chain(dirs.iter().flat_map(|dir| self::files(dir))).collect()
}

#[test]
fn what_happens_is_told_and_logs_are_followed_to_their_end() {
    let husk = Daemon::start();
    let mut events = spawn(&husk, &["events", "--recent", "-o", "json"]);
    let lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let config = pod("seen", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(
        &pod_id,
        &config,
        &with_command("talks", "for n in 1 2 3; do echo line $n; sleep 0.2; done"),
    );
    let followed = husk.husk(&["logs", "-f", "--timestamps", &id]).success();
    let text: Vec<_> = followed.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(text.iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["line 1", "line 2", "line 3"]);
    assert!(text.iter().all(|(time, _)| time.ends_with('Z')), "{followed}");
    let stopped = lines
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap())
        .find(|event| event["what"] == "stopped")
        .unwrap();
    assert_eq!((&stopped["container_id"], &stopped["pod"]["name"]), (&json!(id), &json!("seen")));
    events.kill().unwrap();
    events.wait().unwrap();
    let recent = husk.husk(&["logs", "--since", "1h", "--tail", "2", "-o", "json", "talks"]).success();
    assert_eq!(recent.lines().count(), 2, "{recent}");
    let none = husk.husk(&["logs", "--since", "1970", &id]).success();
    assert_eq!(none.lines().count(), 3);
}

#[test]
fn what_others_wrote_reaches_no_terminal_as_it_is() {
    let husk = Daemon::start();
    let mut config = pod("hostile", &husk.path("logs"));
    config.labels.insert("evil".to_owned(), "\u{1b}]0;owned\u{7}\u{1b}[2J".to_owned());
    husk.cri().run_pod(&config).unwrap();
    for words in [&["inspect", "-o", "table", "hostile"][..], &["inspect", "hostile"], &["ps", "-o", "json"]]
    {
        let shown = husk.husk(words).success();
        assert!(shown.contains("evil") && !shown.contains(['\u{1b}', '\u{7}']), "{words:?}: {shown:?}");
    }
}

#[test]
fn a_door_that_does_not_exist_is_refused() {
    let husk = Daemon::start();
    let mut runtime = husk.cri().runtime();
    let mut request = tonic::Request::new(v1::ListPodSandboxRequest::default());
    request.metadata_mut().insert("husk-door", "docker".parse().unwrap());
    let refused = husk.cri().block_on(runtime.list_pod_sandbox(request)).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
}

//! The Docker Engine API, spoken to over its socket.

use std::{
    fs,
    io::{BufRead, Read, Write},
    os::unix::{fs::MetadataExt, net::UnixStream},
    time::Duration,
};

use husk_e2e::{Daemon, FakeRegistry, Options, World, busybox_archive, eventually};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_client_learns_who_answers_and_which_versions_it_may_speak() {
    let world = World::new();
    let docker = &world.docker;
    let ping = docker.get("/_ping");
    assert_eq!((ping.status, ping.text().as_str()), (200, "OK"));
    assert_eq!(ping.header("api-version"), Some("1.56"));
    assert_eq!(ping.header("ostype"), Some("linux"));
    let head = docker.send("HEAD", "/v1.41/_ping", &[], b"");
    assert_eq!((head.status, head.header("api-version")), (200, Some("1.56")));
    let version = docker.get("/v1.40/version").json(200);
    assert_eq!((&version["ApiVersion"], &version["MinAPIVersion"]), (&json!("1.56"), &json!("1.40")));
    assert!(docker.get("/v1.39/version").message(400).contains("too old"));
    assert!(docker.get("/v1.57/version").message(400).contains("too new"));
    assert_eq!(docker.get("/v1.41/teapot").message(404), "page not found");
    let info = docker.get("/info").json(200);
    assert_eq!((&info["OSType"], &info["Swarm"]["LocalNodeState"]), (&json!("linux"), &json!("inactive")));
    assert_eq!(docker.get("/info").json(200)["ID"], info["ID"]);
}

#[test]
fn volumes_live_until_they_are_removed_and_outlive_the_daemon() {
    let mut world = World::new();
    let docker = world.docker.clone();
    let made = docker
        .post("/volumes/create", &json!({ "Name": "data", "Labels": { "a": "b" }, "DriverOpts": null }))
        .json(201);
    let mountpoint = made["Mountpoint"].as_str().unwrap().to_owned();
    fs::write(format!("{mountpoint}/kept"), "x").unwrap();
    let anonymous = docker.post("/volumes/create", &json!({})).json(201);
    world.husk.stop();
    world.husk.spawn();
    assert_eq!(docker.get("/volumes/data").json(200), made);
    assert_eq!(fs::read_to_string(format!("{mountpoint}/kept")).unwrap(), "x");
    let labelled = docker.get("/volumes?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D").json(200);
    assert_eq!(labelled["Volumes"], json!([made]));
    let pruned = docker.post("/volumes/prune", &json!({})).json(200);
    assert_eq!(pruned["VolumesDeleted"], json!([anonymous["Name"]]));
    assert_eq!(docker.delete("/volumes/data").status, 204);
    assert_eq!(docker.delete("/volumes/data").status, 404);
    assert_eq!(docker.delete("/volumes/data?force=1").status, 204);
    eventually("the volume's files are gone", LIMIT, || (!fs::exists(&mountpoint).unwrap()).then_some(()));
    for name in ["..", "a/../../etc", "/etc"] {
        assert_eq!(docker.post("/volumes/create", &json!({ "Name": name })).status, 400, "{name}");
    }
}

#[test]
fn events_are_told_as_they_happen_and_kept_for_who_asks_later() {
    let world = World::new();
    let docker = &world.docker;
    let mut live = docker.open("GET", "/events?filters=%7B%22type%22%3A%5B%22volume%22%5D%7D", &[], b"");
    assert_eq!(live.head.status, 200);
    docker.post("/volumes/create", &json!({ "Name": "data" })).json(201);
    let mut line = String::new();
    while !line.contains("create") {
        line.clear();
        live.stream.read_line(&mut line).unwrap();
    }
    assert!(line.contains(r#""ID":"data""#), "{line}");
    docker.delete("/volumes/data");
    let kept = docker.get("/v1.41/events?since=0&until=0s").documents();
    let actions: Vec<_> = kept.iter().map(|event| event["Action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "destroy"]);
}

#[test]
fn an_image_is_pulled_with_progress_and_a_name_that_nobody_knows_is_a_404() {
    let world = World::new();
    let docker = &world.docker;
    let registry = FakeRegistry::serve("some/image", "1", &busybox_archive(), |_| {});
    let name = format!("{}/some/image", registry.host());
    let pulled = docker.send(
        "POST",
        &format!("/images/create?fromImage={name}&tag=1"),
        &[("X-Registry-Auth", "e30=")],
        b"",
    );
    let lines = pulled.documents();
    let last = lines.last().unwrap()["status"].as_str().unwrap();
    assert_eq!(last, format!("Status: Downloaded newer image for {name}:1"));
    let again = docker.send("POST", &format!("/images/create?fromImage={name}&tag=1"), &[], b"").documents();
    assert!(again.last().unwrap()["status"].as_str().unwrap().contains("up to date"), "{again:?}");
    let list = docker.get("/images/json").json(200);
    assert_eq!(list[0]["RepoTags"], json!([format!("{name}:1")]));
    let absent = docker.send("POST", &format!("/images/create?fromImage={name}&tag=2"), &[], b"");
    assert_eq!(absent.status, 404, "{}", absent.text());
}

#[test]
fn what_husk_or_the_node_has_not_says_so() {
    let mut world = World::new();
    world.husk.stop();
    let drop_ins = world.husk.path("husk.toml.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("10.toml"), "[docker]\nbuildkitd = \"/nonexistent/buildkitd\"\n").unwrap();
    world.husk.spawn();
    let docker = &world.docker;
    let refused = docker.send("POST", "/build", &[("Content-Type", "application/x-tar")], b"").message(501);
    assert!(
        refused.contains("\"/nonexistent/buildkitd\"") && refused.contains("docker.buildkitd"),
        "{refused}"
    );
    assert!(docker.get("/nodes").message(503).contains("swarm"));
    assert_eq!(docker.get("/plugins").json(200), json!([]));
}

#[test]
fn a_request_without_an_end_costs_the_daemon_nothing_but_a_connection() {
    let world = World::new();
    let docker = &world.docker;
    let long = format!("{{\"Name\":\"{}\"}}", "a".repeat(5 << 20));
    let refused =
        docker.send("POST", "/volumes/create", &[("Content-Type", "application/json")], long.as_bytes());
    assert_eq!(refused.status, 413);
    assert_eq!(docker.get("/_ping").status, 200);
}

#[test]
fn the_socket_is_its_groups_and_the_door_is_closed_unless_it_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let config = format!(
        "[docker]\naddress = {:?}\ngroup = \"4242\"\nmode = \"0600\"\n",
        socket.display().to_string()
    );
    let husk = Daemon::with(Options { config, without_image: true, ..Options::default() });
    let made = fs::metadata(&socket).unwrap();
    assert_eq!((made.gid(), made.mode() & 0o777), (4242, 0o600));
    drop(husk);
    let closed = Daemon::with(Options { without_image: true, ..Options::default() });
    assert!(!closed.path("root/docker").exists() && !closed.path("state/docker").exists());
}

#[test]
fn a_silent_client_is_put_out_and_others_are_served() {
    let world = World::new();
    let mut silent: Vec<UnixStream> = (0..300).map(|_| UnixStream::connect(&world.socket).unwrap()).collect();
    assert_eq!(world.docker.get("/_ping").status, 200);
    // The oldest made room for the last.
    let oldest = &mut silent[0];
    oldest.set_read_timeout(Some(LIMIT)).unwrap();
    let _gone_already = oldest.write_all(b"GET /_ping HTTP/1.1\r\n");
    assert!(matches!(oldest.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn an_image_is_named_saved_removed_and_loaded_again() {
    let world = World::new();
    let docker = &world.docker;
    let registry = FakeRegistry::serve("some/image", "1", &busybox_archive(), |_| {});
    let name = format!("{}/some/image:1", registry.host());
    docker.send("POST", &format!("/images/create?fromImage={name}"), &[], b"").documents();
    let inspected = docker.get(&format!("/images/{name}/json")).json(200);
    assert_eq!(inspected["Config"]["Cmd"], json!(["sh"]));
    let id = inspected["Id"].as_str().unwrap();
    assert_eq!(docker.get(&format!("/images/{}/json", &id[7..19])).json(200)["Id"], id);
    assert_eq!(docker.get("/images/absent/json").message(404), "No such image: absent");
    let history = docker.get(&format!("/images/{name}/history")).json(200);
    assert_eq!(history[0]["Id"], id);
    assert_eq!(docker.send("POST", &format!("/images/{name}/tag?repo=mine&tag=2"), &[], b"").status, 201);
    assert_eq!(docker.get("/images/mine:2/json").json(200)["Id"], id);
    let saved = docker.get("/images/mine:2/get");
    assert_eq!((saved.status, saved.header("content-type")), (200, Some("application/x-tar")));
    assert!(docker.delete(&format!("/images/{id}")).message(409).contains("must be forced"));
    assert_eq!(docker.delete("/images/mine:2").json(200), json!([{ "Untagged": "mine:2" }]));
    let removed = docker.delete(&format!("/images/{name}")).json(200);
    assert!(removed.as_array().unwrap().contains(&json!({ "Deleted": id })), "{removed}");
    assert_eq!(docker.get("/images/json").json(200), json!([]));
    let loaded = docker
        .send("POST", "/images/load?quiet=1", &[("Content-Type", "application/x-tar")], &saved.body)
        .documents();
    assert!(loaded.iter().any(|line| line["stream"] == "Loaded image: mine:2\n"), "{loaded:?}");
    assert_eq!(docker.get("/images/mine:2/json").json(200)["Id"], id);
    let broken = docker.send("POST", "/images/load", &[], b"no archive").documents();
    assert!(broken.last().unwrap()["error"].is_string(), "{broken:?}");
}

#[test]
fn files_become_an_image_that_is_run_as_the_changes_say() {
    let world = World::new();
    let docker = &world.docker;
    let layer = &busybox_archive().layers[0].0;
    let path = "/images/create?fromSrc=-&repo=files&tag=1&changes=CMD%20%5B%22sh%22%5D&changes=ENV%20A%3Db";
    docker.send("POST", path, &[], layer).documents();
    let config = docker.get("/images/files:1/json").json(200)["Config"].clone();
    assert_eq!((&config["Cmd"], &config["Env"]), (&json!(["sh"]), &json!(["A=b"])));
    let refused = docker.send("POST", "/images/create?fromSrc=-&changes=RUN%20true", &[], layer);
    assert!(refused.message(400).contains("RUN true"));
}

#[test]
fn networks_live_until_they_are_removed_and_three_are_always_there() {
    let world = World::new();
    let docker = &world.docker;
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|network| network["Name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&docker.get("/networks").json(200)), ["bridge", "host", "none"]);
    let made = docker
        .post("/networks/create", &json!({ "Name": "web", "Labels": { "a": "b" }, "IPAM": null }))
        .json(201);
    let id = made["Id"].as_str().unwrap();
    let web = docker.get("/networks/web").json(200);
    assert_eq!(
        (&web["Id"], &web["Driver"], &web["Labels"]),
        (&json!(id), &json!("bridge"), &json!({ "a": "b" }))
    );
    assert!(web["IPAM"]["Config"][0]["Subnet"].is_string(), "{web}");
    assert_eq!(docker.get(&format!("/networks/{}", &id[..12])).json(200), web);
    assert_eq!(docker.post("/networks/create", &json!({ "Name": "web" })).status, 409);
    assert_eq!(docker.post("/networks/create", &json!({ "Name": "bridge" })).status, 403);
    assert_eq!(docker.delete("/networks/host").status, 403);
    let custom = docker.get("/networks?filters=%7B%22type%22%3A%7B%22custom%22%3Atrue%7D%7D").json(200);
    assert_eq!(names(&custom), ["web"]);
    assert_eq!(docker.post("/networks/prune", &json!({})).json(200)["NetworksDeleted"], json!(["web"]));
    assert_eq!(docker.get("/networks/web").message(404), "network web not found");
}

// === containers ===

#[test]
fn a_container_says_what_it_has_to_say_leaves_its_code_and_can_be_started_again() {
    let world = World::with_image();
    let docker = &world.docker;
    let id = world.run("once", "echo out; echo err >&2; echo x >> /kept; exit 7", json!({}));
    assert_eq!(world.wait("once"), 7);
    let state = world.state(&id[..12]);
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(7)));
    let logs = docker.get("/containers/once/logs?stdout=1&stderr=1");
    assert_eq!(logs.body, b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n");
    assert_eq!(docker.send("POST", "/containers/once/start", &[], b"").status, 204);
    assert_eq!(world.wait("once"), 7);
    let changes = docker.get("/containers/once/changes").json(200);
    assert!(changes.as_array().unwrap().contains(&json!({ "Path": "/kept", "Kind": 1 })), "{changes}");
    assert!(
        docker.get("/containers/once/archive?path=/kept").body.windows(4).any(|bytes| bytes == b"x\nx\n")
    );
    assert_eq!(docker.send("POST", "/containers/once/stop", &[], b"").status, 304);
    assert!(
        docker
            .post("/containers/create?name=once", &json!({ "Image": "files:1", "Cmd": ["sh"] }))
            .message(409)
            .contains(&id)
    );
    world.remove("once");
    docker.get("/containers/once/json").message(404);
}

#[test]
fn what_comes_through_one_door_is_not_seen_through_the_other() {
    let world = World::with_image();
    let id = world.run("secret", "sleep 1000", json!({}));
    let cri = world.husk.cri();
    assert!(cri.list_pod_sandbox(Default::default()).unwrap().items.is_empty());
    assert!(cri.list_containers(Default::default()).unwrap().containers.is_empty());
    assert!(cri.list_pod_sandbox_stats(Default::default()).unwrap().stats.is_empty());
    cri.container(&id).unwrap_err();
    assert_eq!(world.docker.get("/containers/json").json(200)[0]["Id"], id);
    world.remove("secret");
}

#[test]
fn a_killed_daemon_ends_no_container_and_what_ended_meanwhile_is_known() {
    let mut world = World::with_image();
    world.run("stays", "sleep 1000", json!({}));
    world.run("ends", "while [ ! -e /stop ]; do sleep 0.05; done; exit 3", json!({}));
    let before = world.state("stays");
    let pid = world.state("ends")["Pid"].as_u64().unwrap();
    world.husk.kill();
    fs::write(format!("/proc/{pid}/root/stop"), "").unwrap();
    eventually("it has ended", LIMIT, || {
        (!fs::exists(format!("/proc/{pid}/root/stop")).unwrap_or(false)).then_some(())
    });
    world.husk.spawn();
    let after = world.state("stays");
    assert_eq!((&after["Status"], &after["Pid"]), (&json!("running"), &before["Pid"]));
    assert_eq!(world.wait("ends"), 3);
    let stopped = world.docker.send("POST", "/containers/stays/stop?t=0", &[], b"");
    assert_eq!((stopped.status, &world.state("stays")["ExitCode"]), (204, &json!(137)));
    for name in ["stays", "ends"] {
        world.remove(name);
    }
}

#[test]
fn after_a_reboot_a_container_has_ended_and_its_policy_starts_it_again() {
    let mut world = World::with_image();
    world.run("plain", "sleep 1000", json!({}));
    world.run(
        "always",
        "echo up >> /runs; sleep 1000",
        json!({ "HostConfig": { "RestartPolicy": { "Name": "always" } } }),
    );
    world.husk.reboot();
    let state = world.state("plain");
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(255)));
    let running = || (world.state("always")["Status"] == "running").then_some(());
    eventually("the policy starts it", LIMIT, running);
    let runs = || {
        let file = world.docker.get("/containers/always/archive?path=/runs").body;
        file.windows(6).any(|bytes| bytes == b"up\nup\n").then_some(())
    };
    eventually("its files were kept", LIMIT, runs);
    for name in ["plain", "always"] {
        world.remove(name);
    }
}

#[test]
fn a_mistake_is_named_and_leaves_nothing() {
    let world = World::with_image();
    let create = |wanted: Value| world.docker.post("/containers/create?name=bad", &wanted);
    let with = |host: Value| create(json!({ "Image": "files:1", "Cmd": ["sh"], "HostConfig": host }));
    assert_eq!(create(json!({ "Image": "nowhere", "Cmd": ["sh"] })).message(404), "No such image: nowhere");
    for (host, part) in [
        (json!({ "Binds": ["/srv:data"] }), "invalid mode"),
        (json!({ "Binds": ["data:srv"] }), "absolute"),
        (json!({ "Binds": ["fresh:/a", "/srv:/b:sideways"] }), "invalid mode"),
        (json!({ "CapAdd": ["FLY"] }), "capability"),
        (json!({ "Memory": 1 }), "memory"),
        (json!({ "PortBindings": { "80/icmp": [{}] } }), "port"),
        (json!({ "SecurityOpt": ["magic=on"] }), "security-opt"),
        (json!({ "RestartPolicy": { "Name": "sometimes" } }), "restart policy"),
        (json!({ "LogConfig": { "Type": "carrier-pigeon" } }), "carrier-pigeon"),
        (json!({ "Sysctls": { "kernel/../x": "1" } }), "sysctl"),
        (json!({ "ExtraHosts": ["a b:1.2.3.4"] }), "add-host"),
    ] {
        let message = with(host).message(400);
        assert!(message.contains(part), "{message}");
    }
    assert!(with(json!({ "NetworkMode": "nowhere" })).message(404).contains("nowhere"));
    assert_eq!(world.docker.get("/containers/json?all=1").json(200), json!([]));
    assert_eq!(world.docker.get("/volumes").json(200)["Volumes"], json!([]));
}

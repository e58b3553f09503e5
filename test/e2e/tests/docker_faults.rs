//! Docker's door when the disk is full, when huskd is killed, and when a step of a removal fails.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use husk_e2e::{Small, World, eventually};
use rustix::{
    mount::{UnmountFlags, mount_bind, unmount},
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs until it is told to end.
const WAITER: &str = "trap 'exit 42' TERM; while :; do sleep 0.05; done";

/// The directory of a container.
fn dir(world: &World, id: &str) -> PathBuf {
    world.husk.path("root/docker/containers").join(id)
}

/// The state that is on record of one.
fn recorded(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("state.json")).unwrap()).unwrap()
}

/// Puts the record of one back to what it was at some moment: as a kill at that moment leaves it.
fn as_killed(dir: &Path, fields: Value) {
    let mut state = recorded(dir);
    state.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    fs::write(dir.join("state.json"), state.to_string()).unwrap();
}

fn end(pid: &Value) {
    let pid = pid.as_u64().unwrap();
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
}

/// Ends one while no huskd looks.
fn end_unseen(pid: &Value) {
    end(pid);
    eventually("it has ended", LIMIT, || {
        (!fs::exists(format!("/proc/{pid}/root/bin")).unwrap_or(false)).then_some(())
    });
}

fn post(world: &World, path: &str) -> u16 {
    world.docker.send("POST", path, &[], b"").status
}

/// Events of containers that are kept, as `name action exit-code`.
fn events(world: &World) -> Vec<String> {
    let kept = world.docker.get("/v1.41/events?since=0&until=0s").documents();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_containers = kept.iter().filter(|event| event["Type"] == "container");
    let shown = of_containers.map(|event| {
        let attributes = &event["Actor"]["Attributes"];
        format!("{} {} {}", text(&attributes["name"]), text(&event["Action"]), text(&attributes["exitCode"]))
    });
    shown.map(|event| event.trim_end().to_owned()).collect()
}

// === full disks ===

#[test]
fn on_a_full_disk_a_container_ends_is_stopped_killed_and_goes() {
    let mut world = World::with_image();
    world.husk.stop();
    let disk = Small::mount(&world.husk.path("root/docker/containers"), c"size=2m");
    world.husk.spawn();
    let ids: Vec<_> =
        ["dies", "stopped", "killed", "goes"].map(|name| world.run(name, WAITER, json!({}))).into();
    let policy = json!({ "HostConfig": { "RestartPolicy": { "Name": "always" } } });
    world.run("again", WAITER, policy);
    eventually("they have set their traps", LIMIT, || {
        let is_set = |name: &&str| {
            let status = format!("/proc/{}/status", world.state(name)["Pid"]);
            let status = fs::read_to_string(status).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
            u64::from_str_radix(caught, 16).unwrap() & 1 << 14 != 0
        };
        ["dies", "again"].iter().all(is_set).then_some(())
    });
    disk.fill();
    let refused = world.docker.post("/containers/create", &json!({ "Image": "files:1", "Cmd": ["sh"] }));
    assert!(refused.status >= 500 && refused.text().contains("No space left"), "{}", refused.text());

    end(&world.state("dies")["Pid"]);
    assert_eq!(world.wait("dies"), 42);
    assert_eq!(world.state("dies")["Status"], "exited");
    assert_eq!(post(&world, "/containers/stopped/stop?t=0"), 204);
    assert_eq!(world.state("stopped")["Status"], "exited");
    assert_eq!(post(&world, "/containers/killed/kill"), 204);
    assert_eq!(world.state("killed")["ExitCode"], 137);
    end(&world.state("again")["Pid"]);
    eventually("it waits to be started again", LIMIT, || {
        (world.state("again")["Status"] == "restarting").then_some(())
    });
    for id in &ids {
        assert_eq!(recorded(&dir(&world, id))["phase"], "Running", "the disk is full");
    }
    world.husk.kill();
    world.husk.spawn();
    assert_eq!(world.state("dies")["ExitCode"], 42, "the engine knows what could not be written down");
    assert_eq!(world.state("stopped")["Status"], "exited");
    assert_eq!(world.docker.delete("/containers/goes?force=1").status, 204);
    assert_eq!(world.docker.get("/containers/goes/json").status, 404);

    disk.free();
    for (id, code) in [(&ids[0], 42), (&ids[1], 137), (&ids[2], 137)] {
        eventually("it is written down once there is room", LIMIT, || {
            let state = recorded(&dir(&world, id));
            (state["phase"] == "Exited" && state["exit_code"] == code && state["run"]["pod"].is_null())
                .then_some(())
        });
    }
    eventually("it is started again", LIMIT, || (world.state("again")["Status"] == "running").then_some(()));
    for name in ["dies", "stopped", "killed", "again"] {
        world.remove(name);
    }
    world.husk.stop();
    drop(disk);
    world.husk.spawn();
}

// === restarts ===

#[test]
fn one_that_goes_with_its_end_does_not_go_with_a_restart() {
    let world = World::with_image();
    let id = world.run("box", WAITER, json!({ "HostConfig": { "AutoRemove": true } }));
    let first = world.state("box")["StartedAt"].clone();
    for _ in 0..3 {
        let restarted = world.docker.send("POST", "/containers/box/restart?t=0", &[], b"");
        assert_eq!(restarted.status, 204, "{}", restarted.text());
    }
    let state = world.state(&id);
    assert_eq!(state["Status"], "running");
    assert_ne!(state["StartedAt"], first);
    let mut removed = world.docker.open("POST", "/containers/box/wait?condition=removed", &[], b"");
    assert_eq!(post(&world, "/containers/box/kill"), 204);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut removed.stream, &mut line).unwrap();
    eventually("it goes with its next end", LIMIT, || {
        (world.docker.get(&format!("/containers/{id}/json")).status == 404).then_some(())
    });
}

// === kills ===

#[test]
fn one_that_goes_with_its_end_goes_also_if_huskd_is_killed_before_it_is_gone() {
    let mut world = World::with_image();
    let goes = json!({ "Volumes": { "/made-up": {} }, "HostConfig": { "AutoRemove": true } });
    let id = world.run("goes", WAITER, goes.clone());
    let idle = world.create("idle", WAITER, goes);
    let kept = world.run("kept", WAITER, json!({}));
    assert_eq!(world.docker.get("/volumes").json(200)["Volumes"].as_array().unwrap().len(), 2);
    let pid = world.state("goes")["Pid"].clone();
    world.husk.kill();
    end_unseen(&pid);
    // It has ended, and that is all.
    let mut run = recorded(&dir(&world, &id))["run"].clone();
    run["ended"] = true.into();
    as_killed(&dir(&world, &id), json!({ "phase": "Exited", "exit_code": 42, "finished_at": 1, "run": run }));
    world.husk.spawn();
    assert_eq!(world.docker.get(&format!("/containers/{id}/json")).status, 404);
    assert_eq!(world.state(&idle)["Status"], "created", "one that has not run yet stays");
    assert_eq!(world.state(&kept)["Status"], "running");
    assert_eq!(world.docker.get("/volumes").json(200)["Volumes"].as_array().unwrap().len(), 1);
    for name in ["idle", "kept"] {
        world.remove(name);
    }
}

#[test]
fn an_end_while_huskd_is_away_is_known_whenever_huskd_was_killed_before() {
    let mut world = World::with_image();
    let once_more =
        json!({ "HostConfig": { "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 1 } } });
    // The second time it finds what the first left.
    let twice = "[ -e /second ] && exit 4; touch /second; trap 'exit 42' TERM; while :; do sleep 0.05; done";
    let ids = [world.run("plain", WAITER, json!({})), world.run("again", twice, once_more)];
    let pids = ["plain", "again"].map(|name| world.state(name)["Pid"].clone());
    eventually("it runs", LIMIT, || {
        fs::exists(format!("/proc/{}/root/second", pids[1])).unwrap().then_some(())
    });
    world.husk.kill();
    for id in &ids {
        // The command runs, and that is not on record.
        as_killed(&dir(&world, id), json!({ "phase": "Created", "started_at": 0 }));
    }
    pids.iter().for_each(end_unseen);
    world.husk.spawn();
    let state = world.state("plain");
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(42)));
    assert!(!state["StartedAt"].as_str().unwrap().starts_with("0001"), "{state}");
    eventually("its policy starts the other once more", LIMIT, || {
        let seen = world.docker.get("/containers/again/json").json(200);
        (seen["RestartCount"] == 1 && seen["State"]["ExitCode"] == 4 && seen["State"]["Status"] == "exited")
            .then_some(())
    });
    let events = events(&world);
    for expected in ["plain start", "plain die 42", "again die 42", "again start", "again die 4"] {
        let count = events.iter().filter(|event| *event == expected).count();
        let twice = expected == "again start";
        assert_eq!(count, if twice { 2 } else { 1 }, "{expected}: {events:?}");
    }
    for name in ["plain", "again"] {
        world.remove(name);
    }
}

// === removals ===

#[test]
fn a_removal_that_failed_goes_on_with_the_next_request() {
    let world = World::with_image();
    let id = world.run("box", "true", json!({ "Volumes": { "/made-up": {} } }));
    assert_eq!(world.wait("box"), 0);
    let dir = dir(&world, &id);
    // A directory on which something is mounted cannot be renamed.
    mount_bind(&dir, &dir).unwrap();
    let failed = world.docker.delete("/containers/box?v=1");
    assert_eq!(failed.status, 500, "{}", failed.text());
    assert_eq!(world.state("box")["Status"], "removing");
    unmount(&dir, UnmountFlags::DETACH).unwrap();
    assert_eq!(world.docker.delete("/containers/box").status, 204);
    assert_eq!(world.docker.get("/containers/box/json").status, 404);
    assert_eq!(world.docker.get("/volumes").json(200)["Volumes"], json!([]));
}

#[test]
fn what_was_being_removed_or_made_when_huskd_was_killed_goes_with_its_volumes() {
    let mut world = World::with_image();
    let volume = json!({ "Volumes": { "/made-up": {} } });
    let removed = world.create("removed", "true", volume.clone());
    let shares = json!({ "Volumes": { "/own": {} }, "HostConfig": { "VolumesFrom": ["half"] } });
    let half = world.create("half", "true", volume.clone());
    world.create("shares", "true", shares);
    let kept = world.create("kept", "true", volume);
    let begun = "f".repeat(64);
    let for_nobody = world.docker.post("/volumes/create", &json!({})).json(201)["Name"].clone();
    let volumes = || world.docker.get("/volumes").json(200)["Volumes"].as_array().unwrap().len();
    assert_eq!(volumes(), 5);
    world.husk.kill();
    for id in [&removed, &half] {
        as_killed(&dir(&world, id), json!({ "phase": "Removing", "with_volumes": true }));
    }
    fs::create_dir(dir(&world, &begun)).unwrap();
    fs::write(dir(&world, &begun).join("making.json"), json!([for_nobody]).to_string()).unwrap();
    world.husk.spawn();
    for id in [&removed, &half] {
        assert_eq!(world.docker.get(&format!("/containers/{id}/json")).status, 404);
    }
    assert!(!dir(&world, &begun).exists());
    let volumes = world.docker.get("/volumes").json(200)["Volumes"].clone();
    assert_eq!(volumes.as_array().unwrap().len(), 3, "that of `kept`, and both of `shares`: {volumes}");
    assert_eq!(world.state(&kept)["Status"], "created");
    for name in ["shares", "kept"] {
        world.remove(name);
    }
}

#[test]
fn a_volume_has_all_that_the_image_has_at_its_place_also_if_huskd_is_killed_while_it_is_filled() {
    let mut world = World::with_image();
    let script = "mkdir /seed; i=0; while [ $i -lt 3000 ]; do echo $i >/seed/$i; i=$((i + 1)); done";
    world.run("box", script, json!({}));
    assert_eq!(world.wait("box"), 0);
    world.docker.post("/commit?container=box&repo=seeded&tag=1", &json!({})).json(201);
    let of_image = json!({ "Image": "seeded:1", "HostConfig": { "Binds": ["grown:/seed"] } });
    let filling = world.husk.path("root/docker/volumes/grown/_filling");
    let (docker, wanted) = (world.docker.clone(), of_image.clone());
    // Its connection breaks off with the daemon.
    let client = std::thread::spawn(move || docker.post("/containers/create?name=first", &wanted));
    eventually("it is being filled", LIMIT, || (fs::read_dir(&filling).ok()?.count() > 10).then_some(()));
    world.husk.kill();
    let _ = client.join();
    world.husk.spawn();
    assert!(!filling.exists());
    assert_eq!(world.docker.get("/containers/first/json").status, 404, "it never was made");
    assert_eq!(world.output("ls /seed | wc -l", of_image), "3000");
    world.remove("box");
}

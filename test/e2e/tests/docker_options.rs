//! What containers of Docker's door may be asked to be: with others, with limits, with what their image has.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    time::Duration,
};

use husk_e2e::{Open, World, eventually};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_container_joins_the_processes_and_the_memory_of_another_and_has_a_network_of_its_own() {
    let world = World::with_image();
    let host = |host| json!({ "HostConfig": host });
    world.run("other", "echo x >/dev/shm/f; exec sleep 1234", host(json!({ "IpcMode": "shareable" })));
    eventually("it has written", LIMIT, || {
        let pid = world.state("other")["Pid"].as_u64().unwrap();
        fs::exists(format!("/proc/{pid}/root/dev/shm/f")).unwrap().then_some(())
    });
    let of_other = "container:other";
    let seen = world.output("cat /proc/*/cmdline | tr '\\0' ' '", host(json!({ "PidMode": of_other })));
    assert!(seen.contains("sleep 1234"), "{seen}");
    let own = world.output("cat /proc/*/cmdline | tr '\\0' ' '", host(json!({})));
    assert!(!own.contains("sleep 1234"), "{own}");
    assert_eq!(
        world.output("cat /dev/shm/f; ls /proc/1/root/dev/shm", host(json!({ "IpcMode": of_other }))),
        "x\nf"
    );
    // Another container's alone, unless it shares it.
    world.run("private", "exec sleep 1000", json!({}));
    world.create("joins", "true", host(json!({ "IpcMode": "container:private" })));
    let refused = world.docker.send("POST", "/containers/joins/start", &[], b"").message(409);
    assert!(refused.contains("non-shareable"), "{refused}");
    let nobody =
        json!({ "Image": "files:1", "Cmd": ["sh"], "HostConfig": { "PidMode": "container:nobody" } });
    assert_eq!(world.docker.post("/containers/create", &nobody).status, 404);
    // The end of the other is the end of those in its PID namespace.
    world.run("guest", "exec sleep 1000", host(json!({ "PidMode": of_other })));
    world.remove("other");
    assert_eq!(world.wait("guest"), 137);
    for name in ["private", "joins", "guest"] {
        world.remove(name);
    }
}

/// At whatever moment of ending, pausing and starting again the stop comes.
#[test]
fn a_container_that_is_stopped_while_it_restarts_stays_stopped() {
    let world = World::with_image();
    let policy = json!({ "HostConfig": { "RestartPolicy": { "Name": "always" } } });
    for number in 0..12 {
        world.run("again", "true", policy.clone());
        eventually("it was started again", LIMIT, || {
            let seen = world.docker.get("/containers/again/json").json(200);
            (seen["RestartCount"].as_u64() > Some(number % 3)).then_some(())
        });
        assert_eq!(world.docker.send("POST", "/containers/again/stop?t=0", &[], b"").status, 204);
        assert_eq!(world.state("again")["Status"], "exited", "{number}");
        world.remove("again");
    }
}

/// Docker's clients before 23 ask for it by a request of their own, as soon as the command is begun.
#[test]
fn the_size_of_a_commands_terminal_is_not_lost_whenever_it_is_asked_for() {
    let world = World::with_image();
    world.run("box", "exec sleep 1000", json!({}));
    for number in 0..10 {
        let script = format!("until [ -e /go{number} ]; do sleep 0.01; done; stty size");
        let exec = json!({ "Cmd": ["sh", "-c", script], "Tty": true, "AttachStdout": true });
        let exec = world.docker.post("/containers/box/exec", &exec).json(201);
        let path = format!("/exec/{}", exec["Id"].as_str().unwrap());
        let headers = [("Content-Type", "application/json"), ("Connection", "Upgrade"), ("Upgrade", "tcp")];
        let mut begun = world.docker.open("POST", &format!("{path}/start"), &headers, br#"{"Tty":true}"#);
        assert_eq!(begun.head.status, 101);
        let resized = world.docker.send("POST", &format!("{path}/resize?h=21&w=77"), &[], b"");
        assert_eq!(resized.status, 200, "{}", resized.text());
        let go = json!({ "Cmd": ["touch", format!("/go{number}")], "AttachStdout": true });
        let go = world.docker.post("/containers/box/exec", &go).json(201);
        world.docker.post(&format!("/exec/{}/start", go["Id"].as_str().unwrap()), &json!({}));
        let mut seen = String::new();
        begun.stream.read_to_string(&mut seen).unwrap();
        assert!(seen.contains("21 77"), "{number}: {seen}");
    }
    world.remove("box");
}

/// As Testcontainers asks for it: the default network is for those that name none, and would be a way out of an internal one.
#[test]
fn a_container_of_a_users_network_alone_is_not_in_the_default_one() {
    let world = World::with_image();
    let made = world.docker.post("/networks/create", &json!({ "Name": "apart", "Internal": true }));
    made.json(201);
    let place = json!({ "EndpointsConfig": { "apart": { "Aliases": ["alone"] } } });
    world.run("alone", "exec sleep 1000", json!({ "NetworkingConfig": place }));
    let seen = world.docker.get("/containers/alone/json").json(200);
    let networks: Vec<_> = seen["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
    assert_eq!(networks, ["apart"]);
    let pid = world.state("alone")["Pid"].as_u64().unwrap();
    let routes = fs::read_to_string(format!("/proc/{pid}/net/route")).unwrap();
    assert!(routes.lines().skip(1).all(|route| route.split('\t').nth(1) != Some("00000000")), "{routes}");
    world.remove("alone");
    assert_eq!(world.docker.delete("/networks/apart").status, 204);
}

#[test]
fn a_container_has_the_host_name_of_the_node_if_it_asks_for_it() {
    let world = World::with_image();
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let asked = json!({ "HostConfig": { "UTSMode": "host", "NetworkMode": "none" } });
    assert_eq!(world.output("cat /proc/sys/kernel/hostname", asked), node);
}

/// In every hierarchy of the node, also of v1: systemd in a container (kind's nodes) would otherwise work in the node's own.
#[test]
fn a_cgroup_namespace_of_its_own_ends_at_the_container() {
    let world = World::with_image();
    let groups = "cut -d: -f3 /proc/self/cgroup | sort -u";
    for privileged in [false, true] {
        let asked = |mode| json!({ "HostConfig": { "CgroupnsMode": mode, "Privileged": privileged } });
        assert_eq!(world.output(groups, asked("private")), "/", "{privileged}");
        let of_node = world.output(groups, asked("host"));
        assert!(of_node.lines().any(|path| path.contains("/husk-")), "{of_node}");
    }
    // A command has the same one.
    let private = json!({ "HostConfig": { "CgroupnsMode": "private" } });
    let id = world.run("own", "exec sleep 1000", private);
    let pid = world.state("own")["Pid"].as_u64().unwrap();
    let groups_of = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = groups_of.lines().find_map(|line| line.split_once(":/husk-")).unwrap().1;
    let v2 = std::path::PathBuf::from("/sys/fs/cgroup");
    let trees = fs::read_dir(&v2).unwrap().map(|tree| tree.unwrap().path());
    let is_tree = |root: &std::path::PathBuf| root.join("cgroup.procs").is_file();
    let roots: Vec<_> = if is_tree(&v2) { vec![v2] } else { trees.filter(is_tree).collect() };
    let own: Vec<_> = roots.iter().map(|root| root.join(format!("husk-{path}"))).collect();
    for group in &own {
        let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        assert!(
            processes.lines().any(|line| line == pid.to_string()),
            "{} has {processes:?}",
            group.display()
        );
    }
    let exec = json!({ "Cmd": ["sh", "-c", groups], "attachStdout": true });
    let exec = world.docker.post(&format!("/containers/{id}/exec"), &exec).json(201);
    let path = format!("/exec/{}/start", exec["Id"].as_str().unwrap());
    // Without frames, as one reads a terminal.
    let seen = world.docker.post(&path, &json!({ "Tty": true })).text();
    assert!(seen.starts_with("/\n") && !seen.contains("husk-"), "{seen}");
    world.remove("own");
    let left = || own.iter().filter(|group| group.exists()).count();
    eventually("its groups are gone", LIMIT, || (left() == 0).then_some(()));
    let default = if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap() { "private" } else { "host" };
    world.create("default", "true", json!({}));
    let seen = world.docker.get("/containers/default/json").json(200);
    assert_eq!(seen["HostConfig"]["CgroupnsMode"], default);
    world.remove("default");
}

#[test]
fn a_new_volume_has_what_the_image_has_at_its_place_with_the_owner_and_the_mode() {
    let world = World::with_image();
    let script = "mkdir -p /seed /etc; echo special:x:4242: >/etc/group; echo of the image >/seed/file; chown 33:34 /seed; chmod 1750 /seed";
    world.run("box", script, json!({}));
    assert_eq!(world.wait("box"), 0);
    world.docker.post("/commit?container=box&repo=seeded&tag=1", &json!({})).json(201);
    let of_image = |more: serde_json::Value| {
        let mut all = json!({ "Image": "seeded:1", "HostConfig": { "Binds": ["grown:/seed"], "GroupAdd": ["special", "77"] } });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    assert_eq!(
        world.output("stat -c '%u:%g %a' /seed; cat /seed/file", of_image(json!({}))),
        "33:34 1750\nof the image"
    );
    // One that has something keeps what it has.
    world.output("chown 1:1 /seed; echo changed >/seed/file", of_image(json!({})));
    assert_eq!(world.output("stat -c %u /seed; cat /seed/file", of_image(json!({}))), "1\nchanged");
    assert_eq!(world.output("id -G", of_image(json!({}))), "0 77 4242");
    world.create("stranger", "true", json!({ "HostConfig": { "GroupAdd": ["nobody-s"] } }));
    let refused = world.docker.send("POST", "/containers/stranger/start", &[], b"");
    assert!(refused.status >= 400 && refused.text().contains("nobody-s"), "{}", refused.text());
    for name in ["stranger", "box"] {
        world.remove(name);
    }
}

#[test]
fn a_log_with_a_limit_keeps_its_end_and_is_followed_over_its_files() {
    let world = World::with_image();
    let limits = json!({ "Type": "json-file", "Config": { "max-size": "4k", "max-file": "3" } });
    let script = "while [ ! -e /go ]; do sleep 0.05; done; i=0; while [ $i -lt 1000 ]; do i=$((i + 1)); echo line $i; done";
    let id = world.run("long", script, json!({ "Tty": true, "HostConfig": { "LogConfig": limits } }));
    // It follows from before the first line on, and is as fast as its client reads.
    let mut follower = world.docker.open(
        "GET",
        "/containers/long/logs?follow=1&stdout=1&tail=0",
        &[("Connection", "close")],
        b"",
    );
    let pid = world.state("long")["Pid"].as_u64().unwrap();
    fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
    assert_eq!(world.wait("long"), 0);
    let dir = world.husk.path("root/docker/containers").join(id);
    let files = |name: &str| dir.join(name).exists();
    assert!(files("log") && files("log.1") && files("log.2") && !files("log.3"));
    let size: u64 =
        ["log", "log.1", "log.2"].iter().map(|name| fs::metadata(dir.join(name)).unwrap().len()).sum();
    assert!(size < 3 * 4200, "{size}");
    let kept = world.docker.get("/containers/long/logs?stdout=1").text();
    let lines: Vec<_> = kept.lines().collect();
    assert!(
        (20..1000).contains(&lines.len()) && lines.last().unwrap().trim() == "line 1000",
        "{}",
        lines.len()
    );
    let numbers: Vec<u32> = lines.iter().map(|line| line.trim()[5..].parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "in order, each once: {numbers:?}");
    // More than the youngest file has.
    let tail = world.docker.get(&format!("/containers/long/logs?stdout=1&tail={}", lines.len() - 5)).text();
    assert_eq!(tail.lines().count(), lines.len() - 5);
    let mut followed = String::new();
    std::io::Read::read_to_string(&mut follower.stream, &mut followed).unwrap();
    assert!(followed.contains("line 1000"), "{followed}");
    world.remove("long");
}

#[test]
fn a_link_is_a_line_of_the_hosts_file_and_variables_until_it_is_taken_away() {
    let world = World::with_image();
    let port = json!({ "ExposedPorts": { "5432/tcp": {} }, "Env": ["SECRET=1"] });
    world.run("db", "exec sleep 1000", port);
    let inspected = world.docker.get("/containers/db/json").json(200);
    let address =
        inspected["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap().to_owned();
    let linked = json!({ "Tty": true, "HostConfig": { "Links": ["db:store"] } });
    let id = world.create("web", "grep store /etc/hosts; env", linked);
    let said = || {
        assert_eq!(world.docker.send("POST", "/containers/web/start", &[], b"").status, 204);
        world.wait("web");
        world.docker.get("/containers/web/logs?stdout=1").text()
    };
    let first = said();
    for part in [
        &format!("{address}\tstore "),
        &format!("STORE_PORT=tcp://{address}:5432"),
        "STORE_NAME=/web/store",
        "STORE_ENV_SECRET=1",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    // Whom it is linked to has to run.
    world.docker.send("POST", "/containers/db/stop?t=0", &[], b"");
    let refused = world.docker.send("POST", "/containers/web/start", &[], b"").message(409);
    assert!(refused.contains("non running container"), "{refused}");
    assert_eq!(world.docker.delete("/containers/web/other?link=1").status, 404);
    assert_eq!(world.docker.delete("/containers/web/store?link=1").status, 204);
    assert!(!said()[first.len()..].contains("STORE"), "{id} has no link any more");
    for name in ["web", "db"] {
        world.remove(name);
    }
}

#[test]
fn ports_and_names_are_the_business_of_the_container_whose_network_it_is() {
    let world = World::with_image();
    let create = |wanted: serde_json::Value| world.docker.post("/containers/create", &wanted);
    let host = json!({ "NetworkMode": "container:x", "PortBindings": { "80/tcp": [{ "HostPort": "80" }] } });
    let refused = create(json!({ "Image": "files:1", "Cmd": ["sh"], "HostConfig": host })).message(400);
    assert!(refused.contains("port publishing"), "{refused}");
}

#[test]
fn others_find_a_container_by_its_new_name_at_once_also_if_huskd_was_killed_in_between() {
    let mut world = World::with_image();
    world.docker.post("/networks/create", &json!({ "Name": "web" })).json(201);
    let place = json!({ "NetworkingConfig": { "EndpointsConfig": { "web": { "Aliases": ["alias"] } } } });
    let id = world.run("first", "exec sleep 1000", place.clone());
    world.run("other", "exec sleep 1000", place.clone());
    let finds = |world: &World, name: &str| {
        let script = format!("nslookup {name} 127.0.0.11 >/dev/null 2>&1 && echo found || echo absent");
        let exec = json!({ "Cmd": ["sh", "-c", script], "AttachStdout": true });
        let exec = world.docker.post("/containers/other/exec", &exec).json(201);
        let path = format!("/exec/{}/start", exec["Id"].as_str().unwrap());
        world.docker.post(&path, &json!({ "Tty": true })).text().trim() == "found"
    };
    assert!(finds(&world, "first") && !finds(&world, "second"));
    let renamed = world.docker.send("POST", "/containers/first/rename?name=second", &[], b"");
    assert_eq!(renamed.status, 204, "{}", renamed.text());
    assert!(finds(&world, "second") && finds(&world, "alias") && !finds(&world, "first"));
    assert_eq!(world.docker.get("/containers/second/json").json(200)["Id"], id);
    assert_eq!(world.docker.get("/containers/first/json").status, 404);
    // Its name is on record, and its network does not know yet.
    world.husk.kill();
    let path = world.husk.path("root/docker/containers").join(&id).join("container.json");
    let record = fs::read_to_string(&path).unwrap();
    fs::write(&path, record.replace(r#""name":"second""#, r#""name":"third""#)).unwrap();
    world.husk.spawn();
    assert!(finds(&world, "third") && finds(&world, &id[..12]) && !finds(&world, "second"));
    for name in ["third", "other"] {
        world.remove(name);
    }
    assert_eq!(world.docker.delete("/networks/web").status, 204);
}

#[test]
fn clients_that_hang_up_leave_nothing_while_their_container_is_silent() {
    let world = World::with_image();
    world.run("silent", "exec sleep 1000", json!({ "OpenStdin": true }));
    let huskd = world.husk.pid();
    let init = world.state("silent")["Pid"].as_u64().unwrap();
    let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    let podmon: u32 =
        status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    let open_in = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let open = || open_in(huskd) + open_in(podmon);
    let clients = || -> Vec<_> {
        (0..20)
            .flat_map(|_| {
                [
                    world.docker.open(
                        "POST",
                        "/containers/silent/attach?stream=1&stdin=1&stdout=1&stderr=1",
                        &[],
                        b"",
                    ),
                    world.docker.open("GET", "/containers/silent/logs?follow=1&stdout=1", &[], b""),
                    world.docker.open("POST", "/containers/silent/wait", &[], b""),
                    world.docker.open("GET", "/events", &[], b""),
                ]
            })
            .collect()
    };
    // What it says is more than pipes and sockets hold, and nobody reads it.
    let says_too_much = |client: &mut Open| {
        let stream = client.stream.get_mut();
        stream.set_nonblocking(true).unwrap();
        eventually("nothing more is taken", LIMIT, || match stream.write(&[b'x'; 4096]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(()),
            written => written.map(drop).map_or_else(|error| panic!("{error}"), |()| None),
        });
    };
    let command = |stdin: bool| {
        let wanted = json!({ "Cmd": ["sleep", "1000"], "AttachStdin": stdin });
        let exec = world.docker.post("/containers/silent/exec", &wanted).json(201);
        let path = format!("/exec/{}/start", exec["Id"].as_str().unwrap());
        world.docker.open("POST", &path, &[("Content-Type", "application/json")], b"{}")
    };
    let before = open();
    let mut there = clients();
    there.iter_mut().step_by(4).for_each(says_too_much);
    let mut commands: Vec<_> = (0..20).map(|number| command(number % 2 == 0)).collect();
    commands.iter_mut().step_by(2).for_each(says_too_much);
    assert!(open() >= before + 100, "each has a connection at least");
    drop((there, commands));
    // Fewer than there were of one kind: what is made once and kept may be more now.
    eventually("nothing of them is left", LIMIT, || (open() < before + 20).then_some(()));
    world.remove("silent");
}

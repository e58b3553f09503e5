//! Docker's swarm of one node, over the door's socket.

use std::{fs, os::unix::fs::PermissionsExt};

use husk_e2e::World;
use serde_json::json;

/// A locked swarm, its secrets and its networks, over a SIGKILL; and nothing of it after it was left.
#[test]
fn a_swarm_is_what_it_was_after_a_kill_and_leaves_nothing() {
    let mut world = World::with_image();
    let docker = world.docker.clone();
    let networks = |what: &str| {
        let listed = docker.get("/networks").json(200);
        let names =
            listed.as_array().unwrap().iter().map(|network| network["Name"].as_str().unwrap().to_owned());
        names.filter(|name| name.contains(what)).count()
    };
    assert!(docker.get("/secrets").message(503).contains("not a swarm manager"));
    let overlay = json!({ "Name": "mesh", "Driver": "overlay", "Attachable": true });
    docker.post("/networks/create", &overlay).message(503);
    let init = json!({ "AdvertiseAddr": "127.0.0.1", "AutoLockManagers": true });
    let node = docker.post("/swarm/init", &init).json(200);
    assert!(docker.post("/swarm/init", &init).message(503).contains("already part of a swarm"));
    let secret = docker.post("/secrets/create", &json!({ "Name": "key", "Data": "dHJlYXN1cmU=" })).json(201);
    docker.post("/networks/create", &overlay).json(201);
    let mesh = docker.get("/networks/mesh").json(200);
    assert_eq!((&mesh["Driver"], &mesh["Scope"]), (&json!("overlay"), &json!("swarm")));
    let closed = json!({ "Name": "closed", "Driver": "overlay" });
    docker.post("/networks/create", &closed).json(201);
    let outsider = json!({ "Image": "files:1", "Cmd": ["true"], "HostConfig": { "NetworkMode": "closed" } });
    assert!(docker.post("/containers/create", &outsider).message(403).contains("not manually attachable"));
    world.run("inside", "sleep 1000", json!({ "HostConfig": { "NetworkMode": "mesh" } }));
    let key = docker.get("/swarm/unlockkey").json(200)["UnlockKey"].clone();

    world.husk.kill();
    world.husk.spawn();

    assert_eq!(docker.get("/info").json(200)["Swarm"]["LocalNodeState"], "locked");
    assert!(docker.get("/secrets").message(503).contains("unlock"));
    assert!(docker.post("/swarm/unlock", &json!({ "UnlockKey": "SWMKEY-1-AAAA" })).status == 400);
    assert_eq!(docker.post("/swarm/unlock", &json!({ "UnlockKey": key })).status, 200);
    let info = docker.get("/info").json(200);
    assert_eq!((&info["Swarm"]["NodeID"], &info["Swarm"]["LocalNodeState"]), (&node, &json!("active")));
    let secrets = docker.get("/secrets").json(200);
    assert_eq!(secrets[0]["ID"], secret["ID"]);
    assert!(secrets[0]["Spec"].get("Data").is_none());
    assert_eq!((networks("mesh"), networks("ingress")), (1, 1));
    let dir = world.husk.path("root/docker/swarm");
    let kept = dir.join("secrets").join(secret["ID"].as_str().unwrap());
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!String::from_utf8_lossy(&fs::read(&kept).unwrap()).contains("dHJlYXN1cmU"));

    docker.post("/swarm/leave", &json!(null)).message(503);
    assert_eq!(docker.post("/swarm/leave?force=1", &json!(null)).status, 200);
    assert_eq!((networks("mesh"), networks("closed"), networks("ingress")), (0, 0, 0));
    assert!(!dir.exists());
    let inside = docker.get("/containers/inside/json").json(200);
    assert_eq!(
        (&inside["State"]["Running"], &inside["NetworkSettings"]["Networks"]),
        (&json!(true), &json!({}))
    );
    docker.post("/swarm/leave?force=1", &json!(null)).message(503);
    world.remove("inside");
}

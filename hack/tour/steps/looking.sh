# shellcheck shell=bash
# Lists and inspection. Sourced by step.

# step inspect: by template and whole, of each kind
step_inspect() {
    docker run --detach --name box --env A=1 --publish 127.0.0.1::80 --volume named:/data --label a=b busybox sleep 1000
    gives "sleep [1000] busybox" docker inspect --format '{{.Path}} {{.Args}} {{.Config.Image}}' box
    gives "true 0" docker inspect --format '{{.State.Running}} {{.State.ExitCode}}' box
    more "its pid" "$(docker inspect --format '{{.State.Pid}}' box)" 1
    has "its variables" "$(docker inspect --format '{{json .Config.Env}}' box)" '"A=1"'
    gives "named /data true volume" docker inspect --format '{{range .Mounts}}{{.Name}} {{.Destination}} {{.RW}} {{.Type}}{{end}}' box
    gives bridge docker inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}' box
    docker inspect box | python3 -c '
import json, sys
box, = json.load(sys.stdin)
assert len(box["Id"]) == 64 and box["Image"].startswith("sha256:") and box["Created"].endswith("Z"), box
assert box["HostConfig"]["NetworkMode"] in ("default", "bridge") and box["HostConfig"]["RestartPolicy"]["Name"] in ("", "no"), box["HostConfig"]
assert box["State"]["FinishedAt"] == "0001-01-01T00:00:00Z", box["State"]
assert box["GraphDriver"]["Name"] or box.get("Storage"), box'
    fails 1 "" docker inspect nothing-of-that-name
    more "its size" "$(docker inspect --size --format '{{.SizeRootFs}}' box)" 100000
    gives named docker volume inspect --format '{{.Name}}' named
    gives bridge docker network inspect --format '{{.Driver}}' bridge
    gives linux docker image inspect --format '{{.Os}}' busybox
    has "the image's command" "$(docker image inspect --format '{{json .Config.Cmd}}' busybox)" '["sh"]'
}

# step ps: lists by name, state, exit code, image, volume, network, and in which order
step_ps() {
    docker run --name done3 busybox sh -c 'exit 3' || true
    docker run --name done0 busybox true
    docker run --detach --name up --volume pit:/pit busybox sleep 1000
    docker create --name new busybox true
    is "all, latest first" "$(docker ps --all --format '{{.Names}}' | xargs)" "new up done0 done3"
    gives done3 docker ps --all --filter exited=3 --format '{{.Names}}'
    gives new docker ps --all --filter status=created --format '{{.Names}}'
    is "by a part of the name" "$(docker ps --all --filter name=done --format '{{.Names}}' | xargs)" "done0 done3"
    gives up docker ps --filter volume=pit --format '{{.Names}}'
    gives up docker ps --filter network=bridge --format '{{.Names}}'
    is "those since" "$(docker ps --all --filter since=done0 --format '{{.Names}}' | xargs)" "new up"
    is "those before" "$(docker ps --all --filter before=done0 --format '{{.Names}}' | xargs)" done3
    is "the last two" "$(docker ps --last 2 --format '{{.Names}}' | xargs)" "new up"
    has "sizes" "$(docker ps --size --format '{{.Size}}')" "virtual"
    fails 1 "" docker ps --filter nonsense=1
}

# step df: what takes space: images, containers, volumes
step_df() {
    docker run --detach --name box --volume full:/data busybox sh -c 'head -c 1000000 /dev/zero >/data/file; head -c 2000000 /dev/zero >/file; echo done; sleep 1000'
    eventually 10 shows "done" docker logs box
    shows Images docker system df
    has "the container's space" "$(docker system df --verbose | grep box)" "2MB"
    # With the blocks of its directory, or without.
    has "the volume's space" "$(docker system df --verbose | grep full | sed -E 's/ 1(\.0[0-9]*)?MB/ 1MB/')" "1MB"
    is "the containers in it" "$(docker system df --format '{{.Type}} {{.TotalCount}} {{.Active}}' | grep Containers)" "Containers 1 1"
}

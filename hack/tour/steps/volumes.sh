# shellcheck shell=bash
# Data that outlives containers. Sourced by step.

# step volume: a named one: shared, outliving, inspected, removed
step_volume() {
    gives notes docker volume create --label for=tour notes
    docker run --rm --volume notes:/notes busybox sh -c 'echo first >/notes/page'
    gives first docker run --rm --volume notes:/other busybox cat /other/page
    gives "local tour" docker volume inspect --format '{{.Driver}} {{.Labels.for}}' notes
    is "its file on the node" "$(cat "$(docker volume inspect --format '{{.Mountpoint}}' notes)/page")" first
    docker run --detach --name holder --volume notes:/notes busybox sleep 1000
    fails 1 "in use" docker volume rm notes
    gives notes docker volume ls --quiet --filter label=for=tour
    gives "" docker volume ls --quiet --filter dangling=true
    docker rm --force holder
    gives notes docker volume rm notes
    fails 1 "o such volume" docker volume inspect notes
}

# step volume-anonymous: of -v and of an image; gone with --rm, kept by rm, gone by rm -v
step_volume_anonymous() {
    docker run --rm --volume /data busybox touch /data/x
    gives "" docker volume ls --quiet
    docker run --detach --name cache redis
    is "the volume of the image" "$(docker inspect --format '{{range .Mounts}}{{.Type}} {{.Destination}}{{end}}' cache)" "volume /data"
    docker rm --force cache
    is "volumes that stay" "$(docker volume ls --quiet | wc -l)" 1
    docker run --name second --volume /data busybox true
    docker rm --volumes second
    is "volumes after rm --volumes" "$(docker volume ls --quiet | wc -l)" 1
    docker volume prune --force
    gives "" docker volume ls --quiet
}

# step bind: a directory and a file of the node, read-only too, and one that is missing
step_bind() {
    mkdir shared
    echo node >shared/from-node
    docker run --rm --volume "$PWD/shared:/shared" busybox sh -c 'cat /shared/from-node >/shared/from-container'
    is "what the container wrote" "$(cat shared/from-container)" node
    fails 1 "Read-only" docker run --rm --volume "$PWD/shared:/shared:ro" busybox touch /shared/x
    gives node docker run --rm --mount "type=bind,source=$PWD/shared/from-node,target=/file,readonly" busybox cat /file
    docker run --rm --volume "$PWD/made/up:/x" busybox touch /x/y
    [ -e made/up/y ] || refuse "the directory of a bind was not made"
    fails 125 "" docker run --rm --mount "type=bind,source=$PWD/missing,target=/x" busybox true
    fails 125 "" docker run --rm --volume "relative/path:/x" busybox true
}

# step tmpfs: memory as a directory, with a size and a mode
step_tmpfs() {
    has "its mount" "$(docker run --rm --tmpfs /scratch:size=1m,mode=1770 busybox grep /scratch /proc/mounts)" "size=1024k"
    fails 1 "No space left" docker run --rm --tmpfs /scratch:size=1m busybox dd if=/dev/zero of=/scratch/f bs=1M count=2
    gives 1770 docker run --rm --mount type=tmpfs,target=/scratch,tmpfs-mode=1770,tmpfs-size=2m busybox stat -c %a /scratch
    docker run --name box --tmpfs /scratch busybox touch /scratch/file /file
    lacks "what was changed" "$(docker diff box)" /scratch/file
}

# step shared: two containers write and read one volume while both run
step_shared() {
    docker run --detach --name writer --volume common:/common busybox sh -c 'i=0; while true; do i=$((i + 1)); echo $i >/common/.n; mv /common/.n /common/n; sleep 0.05; done'
    docker run --detach --name reader --volume common:/common:ro busybox sleep 1000
    counts() { [ "$(docker exec reader cat /common/n)" -gt 3 ]; }
    eventually 10 counts
    fails 1 "Read-only" docker exec reader touch /common/x
}

# step copy-up: a new volume begins with what the image has there; one that has something does not
step_copy_up() {
    docker run --name box busybox sh -c 'mkdir /seed; echo of the image >/seed/file; chown 33:33 /seed; chmod 0750 /seed'
    docker commit box seeded:1
    gives "of the image" docker run --rm --volume grown:/seed seeded:1 cat /seed/file
    gives "33:33 750" docker run --rm --volume grown:/seed seeded:1 stat -c '%u:%g %a' /seed
    docker run --rm --volume grown:/seed seeded:1 sh -c 'echo changed >/seed/file'
    gives changed docker run --rm --volume grown:/seed seeded:1 cat /seed/file
    gives "" docker run --rm --mount type=volume,source=bare,target=/seed,volume-nocopy seeded:1 ls /seed
    docker rm box
    docker rmi seeded:1
}

# step volumes-from: another container's volumes, and the same read-only
step_volumes_from() {
    docker create --name data --volume one:/one --volume /two busybox true
    docker run --rm --volumes-from data busybox sh -c 'echo 1 >/one/f; echo 2 >/two/f'
    gives "1 2" docker run --rm --volumes-from data:ro busybox sh -c 'echo $(cat /one/f /two/f)'
    fails 1 "Read-only" docker run --rm --volumes-from data:ro busybox touch /one/x
    fails 125 "" docker run --rm --volumes-from nobody busybox true
}

# step volume-subpath: a part of a volume, also one that a link leads to, and one that is not there
step_volume_subpath() {
    local part=type=volume,source=parts,destination=/m,volume-subpath
    docker run --rm --volume parts:/all busybox sh -c 'mkdir -p /all/a/b /all/etc && echo mine >/all/a/b/file && ln -s /etc /all/out'
    docker run --rm --mount "$part=a/b" busybox true || impossible "this client or daemon has no volume-subpath"
    gives mine docker run --rm --mount "$part=a/b" busybox cat /m/file
    docker run --rm --mount "$part=a/b" busybox touch /m/new
    gives $'file\nnew' docker run --rm --mount "$part=a/b" busybox ls /m
    fails 1 "" docker run --rm --mount "$part=out" busybox test -e /m/passwd
    docker create --name stopped --mount "$part=a/b" busybox
    gives mine tar -xO -f <(docker cp stopped:/m/file -)
    docker create --name led --mount "$part=out" busybox
    fails 1 "" docker cp led:/m/passwd here
    fails 12[567] "" docker run --rm --mount "$part=nothing" busybox true
    fails 12[567] "" docker run --rm --mount "$part=../x" busybox true
}

# step volume-options: the local driver with a file system of one's own
step_volume_options() {
    docker volume create --driver local --opt type=tmpfs --opt device=tmpfs --opt o=size=1m,uid=33 memory
    has "its mount" "$(docker run --rm --volume memory:/m busybox grep ' /m ' /proc/mounts)" "size=1024k"
    gives 33 docker run --rm --volume memory:/m busybox stat -c %u /m
    mkdir of-node
    docker volume create --opt type=none --opt o=bind --opt "device=$PWD/of-node" bound
    docker run --rm --volume bound:/b busybox touch /b/there
    [ -e of-node/there ] || refuse "a volume that is a bind wrote elsewhere"
    fails 1 "" docker volume create --opt nonsense=1 odd
}

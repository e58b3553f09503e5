# shellcheck shell=bash
# Files in and out of containers. Sourced by step.

# step cp: both ways, of a running and of a stopped one, directories, links, as a tar stream
step_cp() {
    docker run --detach --name box busybox sh -c 'mkdir -p /d/sub && echo inner >/d/sub/f && ln -sf sub/f /d/link && exec sleep 1000'
    eventually 10 docker exec box test -L /d/link
    echo outer >file
    chmod 0640 file
    docker cp file box:/tmp/
    gives outer docker exec box cat /tmp/file
    gives 640 docker exec box stat -c %a /tmp/file
    docker cp file box:/tmp/renamed
    gives outer docker exec box cat /tmp/renamed
    docker cp box:/d .
    is "a file of a directory" "$(cat d/sub/f)" inner
    is "a link of it" "$(readlink d/link)" sub/f
    docker cp d/. box:/copy
    gives inner docker exec box cat /copy/sub/f
    docker cp --follow-link box:/d/link followed
    is "what a link leads to" "$(cat followed)" inner
    has "a stream of it" "$(docker cp box:/d - | tar -t | xargs)" d/sub/f
    tar -c file | docker cp - box:/root
    gives outer docker exec box cat /root/file
    docker stop --time 0 box
    docker cp box:/tmp/renamed back
    cmp file back
    docker cp file box:/while-stopped
    fails 1 "" docker cp box:/no/such/file .
    fails 1 "" docker cp /no/such/file box:/
    docker start box
    gives outer docker exec box cat /while-stopped
}

# step cp-hostile: links of a container lead nowhere but into itself
step_cp_hostile() {
    docker run --detach --name box busybox sh -c 'ln -s / /all && ln -s /etc/hostname /own && ln -s ../../../../../../../../tmp /up && exec sleep 1000'
    eventually 10 docker exec box test -L /up
    echo secret >"$PWD/secret"
    fails 1 "" docker cp "box:/all$PWD/secret" stolen
    [ ! -e stolen ] || refuse "a file of the node was read through a link"
    docker cp secret "box:/up/planted"
    [ ! -e /tmp/planted ] || refuse "a file of the node was written through a link"
    gives secret docker exec box cat /tmp/planted
}

# step cp-volume: into and out of a volume and a read-only container
step_cp_volume() {
    echo data >file
    docker run --detach --name box --read-only --volume store:/store --mount type=volume,source=fixed,target=/fixed,readonly busybox sleep 1000
    docker cp file box:/store/
    gives data docker exec box cat /store/file
    docker cp box:/store/file back
    cmp file back
    fails 1 "read-only" docker cp file box:/fixed/
    fails 1 "read-only" docker cp file box:/root/
}

# step diff: what a container changed
step_diff() {
    docker run --name box busybox sh -c 'echo new >/tmp/new; echo more >>/etc/passwd; rm /bin/yes; mkdir -p /a/b'
    docker diff box | sort >changes
    grep -qx 'A /tmp/new' changes
    grep -qx 'C /etc/passwd' changes
    grep -qx 'D /bin/yes' changes
    grep -qx 'A /a' changes
    grep -qx 'A /a/b' changes
    ! grep -qE '/(proc|dev|sys|etc/hosts)' changes || refuse "it lists what is not the container's: $(xargs <changes)"
}

# shellcheck shell=bash
# What a container may not do, and what it is given. Sourced by step.

# capabilities OPTIONS...: what process 1 may do at most, as hexadecimal digits
capabilities() { docker run --rm "$@" busybox sh -c 'grep CapBnd /proc/self/status | cut -f2'; }

# step capabilities: the default set, --cap-add, --cap-drop
step_capabilities() {
    gives 00000000a80425fb capabilities
    gives 0000000000000000 capabilities --cap-drop ALL
    gives 0000000000000400 capabilities --cap-drop ALL --cap-add NET_BIND_SERVICE
    gives 00000000a80425fa capabilities --cap-drop CAP_CHOWN
    fails 1 "not permitted" docker run --rm --cap-drop CHOWN busybox chown 1:1 /tmp
    fails 2 "not permitted" docker run --rm busybox ip link set lo mtu 1400
    docker run --rm --cap-add NET_ADMIN busybox ip link set lo mtu 1400
    fails 125 "" docker run --rm --cap-add NONSENSE busybox true
    gives 0000000000000000 docker run --rm --user 1000 busybox sh -c 'grep CapEff /proc/self/status | cut -f2'
}

# step seccomp: the default profile, one of one's own that bites, and none
step_seccomp() {
    cat >no-mkdir.json <<'EOT'
{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}
EOT
    gives 2 docker run --rm busybox sh -c 'grep Seccomp: /proc/self/status | cut -f2'
    docker run --rm busybox mkdir /x
    fails 1 "not permitted" docker run --rm --security-opt "seccomp=$PWD/no-mkdir.json" busybox mkdir /x
    gives 0 docker run --rm --security-opt seccomp=unconfined busybox sh -c 'grep Seccomp: /proc/self/status | cut -f2'
    gives 1 docker run --rm --security-opt no-new-privileges busybox sh -c 'grep NoNewPrivs: /proc/self/status | cut -f2'
    echo '{"defaultAction": 3}' >broken.json
    fails 125 "" docker run --rm --security-opt "seccomp=$PWD/broken.json" busybox true
}

# step privileged: every capability that the node has, its devices, a writable /sys
step_privileged() {
    # Those of before Linux 5.8, which Docker 20.10 knows.
    is "its capabilities" $((0x$(capabilities --privileged) & 0x3fffffffff)) $((0x$(awk '$1 == "CapBnd:" { print $2 }' /proc/self/status) & 0x3fffffffff))
    gives 0 docker run --rm --privileged busybox sh -c 'grep Seccomp: /proc/self/status | cut -f2'
    docker run --rm --privileged busybox mount -t tmpfs none /mnt 2>/dev/null || docker run --rm --privileged busybox sh -c 'mkdir /m && mount -t tmpfs none /m'
    docker run --rm --privileged busybox test -e /dev/kmsg
    fails 1 "" docker run --rm busybox test -e /dev/kmsg
    fails 1 "Read-only" docker run --rm busybox sh -c 'echo 1 >/proc/sys/vm/drop_caches'
    has "a masked file" "$(docker run --rm busybox sh -c 'wc -c </proc/keys')" 0
}

# step read-only: a root that cannot be written, but for volumes and tmpfs
step_read_only() {
    fails 1 "Read-only" docker run --rm --read-only busybox touch /x
    docker run --rm --read-only --tmpfs /tmp --volume free:/free busybox touch /tmp/x /free/x
    gives true docker inspect --format '{{.HostConfig.ReadonlyRootfs}}' "$(docker create --read-only busybox true)"
}

# step device: a device of the node under another name, and what may be done with it
step_device() {
    docker run --rm --device /dev/kmsg:/dev/other busybox sh -c ': >/dev/other'
    fails 1 "not permitted" docker run --rm --device /dev/kmsg:/dev/other:r busybox sh -c ': >/dev/other'
    fails "12[57]" "" docker run --rm --device /dev/no-such-device busybox true
    fails 1 "" docker run --rm --cap-drop MKNOD busybox mknod /tmp/null c 1 3
    # Made by itself, a device of the node is closed to it.
    fails 1 "not permitted" docker run --rm busybox sh -c 'mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem'
}

# step ulimits: --ulimit, --shm-size, --sysctl, --ipc, --pid, --uts
step_ulimits() {
    gives "100 200" docker run --rm --ulimit nofile=100:200 busybox sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'
    gives 0 docker run --rm --ulimit core=0 busybox sh -c 'ulimit -c'
    has "shared memory" "$(docker run --rm busybox df -k /dev/shm)" 65536
    has "more of it" "$(docker run --rm --shm-size 128m busybox df -k /dev/shm)" 131072
    gives 4242 docker run --rm --sysctl net.core.somaxconn=4242 busybox cat /proc/sys/net/core/somaxconn
    fails 125 "" docker run --rm --sysctl kernel.hostname=x busybox true
    docker run --detach --name other busybox sleep 1234
    has "processes of another" "$(docker run --rm --pid container:other busybox ps)" "sleep 1234"
    has "processes of the node" "$(docker run --rm --pid host busybox ps)" "sleep 1234"
    gives "$(hostname)" docker run --rm --uts host busybox hostname
    docker run --detach --name shares --ipc shareable busybox sh -c 'echo x >/dev/shm/f; exec sleep 1000'
    eventually 10 docker exec shares test -e /dev/shm/f
    gives x docker run --rm --ipc container:shares busybox cat /dev/shm/f
    fails 125 "" docker run --rm --ipc container:other busybox true
}

# step memory: a limit that kills, and is said to have
step_memory() {
    gives 33554432 docker run --rm --memory 32m busybox sh -c 'cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes'
    # As much as a pipe's reader keeps.
    docker run --name greedy --memory 16m --memory-swap 16m busybox sh -c 'tail /dev/zero' || true
    gives true docker inspect --format '{{.State.OOMKilled}}' greedy
    gives 137 docker inspect --format '{{.State.ExitCode}}' greedy
    fails 125 "" docker run --rm --memory 100m --memory-swap 50m busybox true
}

# step cpu: shares and a quota that bites, and a set of processors
step_cpu() {
    local used
    gives "50000 100000" docker run --rm --cpus 0.5 busybox sh -c 'if [ -e /sys/fs/cgroup/cpu.max ]; then cat /sys/fs/cgroup/cpu.max; else echo $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us); fi'
    used=$(docker run --rm --cpus 0.2 busybox sh -c 'timeout 3 sh -c "while true; do :; done"; cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || awk "/usage_usec/ { print \$2 * 1000 }" /sys/fs/cgroup/cpu.stat')
    more "nanoseconds under a fifth of a processor" 1000000000 "$used"
    gives 0 docker run --rm --cpuset-cpus 0 busybox sh -c 'grep Cpus_allowed_list /proc/self/status | cut -f2'
    fails 125 "" docker run --rm --cpuset-cpus 999 busybox true
    fails 125 "" docker run --rm --cpus 1000 busybox true
}

# step pids: as many processes and no more
step_pids() {
    fails 2 "fork" docker run --rm --pids-limit 5 busybox sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait'
}

# step cgroup: a parent of one's own
step_cgroup() {
    has "where it is" "$(docker run --rm --cgroup-parent /tour-parent --cgroupns host busybox cat /proc/self/cgroup)" /tour-parent/
    find /sys/fs/cgroup -depth -type d -name tour-parent -exec rmdir {} +
}

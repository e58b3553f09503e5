# shellcheck shell=bash disable=SC2034,SC2154
# A dockerd of one's own, in the caller's private namespaces (hack/lib.sh): the control. Sourced by hack/docker-tour and its like.

# runc_of_this_node RUNC DIRECTORY: Docker before 25 gives a privileged container every capability there is, and runc fails where the machine itself
# lacks one. Newer ones give what there is; runc is told the same by a wrapper in DIRECTORY.
runc_of_this_node() {
    [ $((0x$(awk '$1 == "CapBnd:" { print $2 }' /proc/self/status) >> 24 & 1)) -eq 0 ] || return 0
    cat >"$2/runc" <<WRAPPER
#!/bin/sh
previous=
for argument; do
    case \$previous in
    --bundle | -b) file=\$argument/config.json ;;
    --process | -p) file=\$argument ;;
    *) file= ;;
    esac
    [ -z "\$file" ] || sed -i 's/"CAP_SYS_RESOURCE",//g; s/,"CAP_SYS_RESOURCE"//g' "\$file"
    previous=\$argument
done
exec "$1" "\$@"
WRAPPER
    chmod 0755 "$2/runc"
}

# start_dockerd NAME [new]: Debian's dockerd, or the newest one on containerd's newest, in $work/NAME; sets $socket, $daemon_pid and $daemon_log.
start_dockerd() {
    local dir=$work/$1 debian path options=()
    debian=$("$hack/tools/path" docker-debian)
    mkdir -p "$dir/bin" "$work/run/$1"
    # The node's own of these are not its to write: sockets of shims, locks, the key by which it once named itself.
    mount -t tmpfs -o mode=0755 husk-hack /run
    socket=$work/run/$1/docker.sock
    path=$dir/bin:$debian:$PATH
    echo '{}' >"$dir/daemon.json"
    if [ "${2:-}" = new ]; then
        ln -s "$("$hack/tools/path" dockerd)" "$("$hack/tools/path" runc)" "$dir/bin/"
        start_containerd containerd
        socket=$work/run/$1/docker.sock
        sockets=()
        options=(--containerd "$work/run/containerd/c.sock")
    else
        runc_of_this_node "$debian/runc" "$dir/bin"
        echo "{ \"deprecated-key-path\": \"$dir/key.json\" }" >"$dir/daemon.json"
    fi
    daemon_log=$dir/log
    # Containers of the tour have no way out, and no name server beyond.
    PATH=$path dockerd --data-root "$dir/root" --exec-root "$work/run/$1/exec" --host "unix://$socket" --pidfile "$dir/pid" --config-file "$dir/daemon.json" \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$cgroup_parent" --bip 172.31.0.1/16 --userland-proxy=false \
        --registry-mirror "http://127.0.0.1:$registry_port" "${options[@]}" >"$daemon_log" 2>&1 &
    daemon_pid=$!
    # It ends before containerd does.
    daemons=("$daemon_pid" "${daemons[@]}")
    wait_for dockerd 60 curl -fsS --unix-socket "$socket" http://docker/_ping
}

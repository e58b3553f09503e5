# shellcheck shell=bash
# Shared by hack/docker-tour and hack/docker-py: the daemon, the registries, the clients, and how steps run. Sourced after hack/lib.sh and control.sh.
#
# $subject is husk, control, control-new or host; $host then names the daemon's socket.

# Seconds, more than any step takes on a busy machine; emulated processors get more.
step_limit=$((180 * ${HUSK_E2E_PATIENCE:-1}))
images=(busybox hello-world nginx redis)

# prepare_subject TOOL...: builds what is missing, where there is a network.
prepare_subject() {
    local tools=(registry docker docker-buildx docker-debian "$@")
    [ -z "${HUSK_HACK_INSIDE:-}" ] || return 0
    if [ "$subject" = host ] && [ ! -S "${host#unix://}" ]; then
        die "--host $host: no socket is there; name one as unix:///run/docker.sock"
    fi
    [ "$(id -u)" -eq 0 ] || die "must run as root"
    case $subject in
    husk) tools+=(crictl cni buildkitd) ;;
    control-new) tools+=(dockerd containerd runc cni crictl) ;;
    esac
    "$hack/images/build" --docker >/dev/null
    "$hack/tools/build" "${tools[@]}"
}

# start_husk_with_docker NAME: huskd with Docker's API, which is $socket.
start_husk_with_docker() {
    docker_socket=$work/run/$1-docker.sock
    send_to_registry docker.io
    # huskd finds buildkitd there when it is first needed.
    PATH=$(dirname "$("$hack/tools/path" buildkitd)"):$PATH start_husk "$1"
    socket=$docker_socket
}

# start_subject: the registries and the daemon, in namespaces of their own but for a host's; sets $socket and DOCKER_HOST.
start_subject() {
    if [ "$subject" = host ]; then
        in_callers_namespaces
    else
        make_work_dir
    fi
    start_registry "$("$hack/images/build" --docker)"
    # bcrypt, which is all that the registry takes: user "tour", password "secret".
    perl -e 'print "tour:", crypt("secret", q($2b$05$abcdefghijklmnopqrstuu)), "\n"' >"$work/htpasswd"
    start_writable_registry private "$work/htpasswd"
    private_port=$writable_port
    start_writable_registry pushed
    case $subject in
    husk) start_husk_with_docker husk ;;
    control) start_dockerd docker ;;
    control-new) start_dockerd docker new ;;
    host) socket=${host#unix://} ;;
    esac
    export DOCKER_HOST=unix://$socket
}

# in_callers_namespaces: for a daemon that runs already; sets what make_work_dir sets.
in_callers_namespaces() {
    work=$(mktemp -d "${HUSK_WORK:-/var/tmp}/h.XXXXXX")
    # shellcheck disable=SC2034 # used by finish
    sockets=() daemons=() finishing='' cgroup_parent=husk-hack-${work##*.}
    mkdir "$work/run"
    mount -t tmpfs -o mode=0755 husk-hack "$work/run"
    trap finish EXIT
    trap 'exit 130' INT TERM
}

# start_writable_registry NAME [HTPASSWD]: an empty one to push to; sets $writable_port.
start_writable_registry() {
    writable_port=$(free_port)
    mkdir "$work/$1"
    write_registry_config "$work/$1" "$writable_port" "$work/$1.yml" "${2:-}"
    sed -i '/readonly/d; /cache that all runs share/d' "$work/$1.yml"
    daemon_log=$work/$1.log
    OTEL_TRACES_EXPORTER=none "$("$hack/tools/path" registry)" serve "$work/$1.yml" >"$daemon_log" 2>&1 &
    daemon_pid=$!
    daemons+=("$daemon_pid")
    # It also answers when it asks for a password.
    wait_for "the registry to push to" 20 curl -sS "http://127.0.0.1:$writable_port/v2/"
}

# send_to_registry HOST: huskd asks the registry of the test images instead.
send_to_registry() {
    mkdir -p "$work/certs.d/$1"
    printf 'server = "https://%s"\n\n[host."http://127.0.0.1:%s"]\n  capabilities = ["pull", "resolve"]\n' "$1" "$registry_port" >"$work/certs.d/$1/hosts.toml"
}

# choose_client new|old: sets what steps are told of the clients.
choose_client() {
    local debian
    export TOUR_CLIENT TOUR_COMPOSE TOUR_HACK=$hack TOUR_REGISTRY=127.0.0.1:$registry_port TOUR_WRITABLE=127.0.0.1:$writable_port TOUR_PRIVATE=127.0.0.1:$private_port
    export DOCKER_CONFIG=$work/config
    mkdir -p "$DOCKER_CONFIG/cli-plugins"
    rm -f "$DOCKER_CONFIG/cli-plugins"/*
    if [ "$1" = old ]; then
        debian=$("$hack/tools/path" docker-debian)
        TOUR_CLIENT=$debian/root/usr/bin/docker TOUR_COMPOSE=$debian/docker-compose
    else
        TOUR_CLIENT=$("$hack/tools/path" docker) TOUR_COMPOSE=$("$hack/tools/path" docker-compose)
        ln -s "$TOUR_COMPOSE" "$DOCKER_CONFIG/cli-plugins/docker-compose"
        ln -s "$("$hack/tools/path" docker-buildx)" "$DOCKER_CONFIG/cli-plugins/docker-buildx"
    fi
}

client() { "$TOUR_CLIENT" "$@"; }

# left_over: ids of what users made; sweep removes it.
left_over() {
    client ps --all --quiet
    client volume ls --quiet
    client network ls --quiet --filter type=custom
}
sweep() {
    client ps --all --quiet | xargs -r "$TOUR_CLIENT" rm --force --volumes
    client volume ls --quiet | xargs -r "$TOUR_CLIENT" volume rm --force
    client network ls --quiet --filter type=custom | xargs -r "$TOUR_CLIENT" network rm
}

bring_images() {
    local image
    for image in "${images[@]}"; do
        client pull --quiet "$TOUR_REGISTRY/library/$image" && client tag "$TOUR_REGISTRY/library/$image" "$image" || return
    done >"$logs/images.log" 2>&1
}

# run_step CLIENT NAME: prints its line, and writes its status beside what it made.
run_step() {
    local dir=$work/steps/$1/$2 log=$logs/$1/$2.log status=0 start took
    mkdir -p "$dir" "$logs/$1"
    start=$(date +%s%N)
    (cd "$dir" && exec timeout --kill-after=5 $step_limit "$hack/tour/step" "$2") >"$log" 2>&1 </dev/null || status=$?
    took=$((($(date +%s%N) - start) / 1000000))
    { echo "== sweep" && sweep; } >>"$log" 2>&1 || { [ $status -ne 0 ] || status=sweep; }
    case $status in
    0) printf 'pass  %-22s %6d ms\n' "$2" $took ;;
    77) printf 'n/a   %-22s %s\n' "$2" "$(cat "$dir/reason")" ;;
    124) printf 'FAIL  %-22s not done after %d s: see %s\n' "$2" $step_limit "$log" ;;
    sweep) printf 'FAIL  %-22s what it used cannot be removed: see %s\n' "$2" "$log" ;;
    *) printf 'FAIL  %-22s %s\n' "$2" "$(cat "$dir/reason" 2>/dev/null || grep -v '^+' "$log" | grep -v '^== sweep' | tail -n 1)" ;;
    esac
    echo "$status" >"$dir/status"
}

# run_steps CLIENT: those of $steps, and their count; 1 if one failed.
run_steps() {
    local name passed=0 failed=0 other=0
    choose_client "$1"
    echo "== $subject, $(client --version), compose $("$TOUR_COMPOSE" version --short)"
    client version >"$logs/version-$1.log" 2>&1 || die "the daemon does not answer: see $logs/version-$1.log"
    [ -z "$(left_over)" ] || die "the daemon has containers, volumes or networks of a user, and steps remove all: take another one"
    bring_images || die "the images cannot be pulled: $(tail -n 1 "$logs/images.log")"
    for name in $steps; do
        run_step "$1" "$name"
        case $(cat "$work/steps/$1/$name/status") in
        0) passed=$((passed + 1)) ;;
        77) other=$((other + 1)) ;;
        *) failed=$((failed + 1)) ;;
        esac
    done
    echo "== $1 client: $passed passed, $failed failed, $other not possible here; logs: $logs/$1"
    [ $failed -eq 0 ]
}

# shellcheck shell=bash
# Terminals, pipes, logs, and going away and coming back. Sourced by step.

# step terminal: an interactive shell: prompt, keys, size of the window, its exit code
step_terminal() {
    local status=0
    terminal --size 33x111 "$TOUR_CLIENT" run --interactive --tty --name shell busybox sh >shown <<'EOT' || status=$?
wait # 
send echo $((20 + 3)) $TERM; tty\r
wait 23 xterm
wait /dev/
send until stty size | grep "33 1"; do sleep 0.1; done\r
wait 33 111
size 40x100
send until stty size | grep "40 1"; do sleep 0.1; done\r
wait 40 100
send sh -c "echo be''gins; exec sleep 1000"\r
wait begins
send \x03
send echo still $((1 + 1)) here\r
wait still 2 here
send exit 7\r
EOT
    is "the shell's exit code" $status 7
    gives "exited 7" docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' shell
    gives true docker inspect --format '{{.Config.Tty}}' shell
}

# step pipe: standard input, output and errors are three streams, and input ends
step_pipe() {
    is "what cat gives back" "$(printf 'one\ntwo\n' | docker run --interactive --rm busybox cat)" $'one\ntwo'
    docker run --rm busybox sh -c 'echo out; echo err >&2' >out 2>err
    is "its output" "$(cat out)" out
    is "its errors" "$(cat err)" err
    # Bytes arrive as they are, in order, and all.
    head -c 3000000 /dev/urandom >bytes
    is "the sum of three million bytes" "$(docker run --interactive --rm busybox sha256sum <bytes)" "$(sha256sum <bytes | cut -d' ' -f1)  -"
    docker run --interactive --rm busybox cat <bytes | cmp - bytes
    gives "" docker run --rm busybox cat
}

# step detached: run -d, logs, ps, attach, detach by keys: it goes on
step_detached() {
    docker run --detach --name counter busybox sh -c 'i=0; while true; do i=$((i + 1)); echo line $i; sleep 0.1; done'
    gives counter docker ps --format '{{.Names}}'
    shows "Up " docker ps
    eventually 10 shows "line 3" docker logs counter
    docker run --detach --interactive --tty --name shell busybox sh
    terminal "$TOUR_CLIENT" attach shell >shown <<'EOT' || true
send echo $((40 + 2))\r
wait 42
send \x10
send \x11
EOT
    has "what was shown" "$(cat shown)" "read escape sequence"
    is "after its keys, the shell" "$(state shell)" running
    terminal "$TOUR_CLIENT" attach --detach-keys ctrl-x,x shell >shown <<'EOT' || true
send echo $((50 + 2))\r
wait 52
send \x18
send x
EOT
    has "what was shown" "$(cat shown)" "read escape sequence"
    is "after keys of one's own, the shell" "$(state shell)" running
    gives running state counter
    has "the shell's log" "$(docker logs shell)" 52
}

# step attach: attach without a terminal: what it says from now on, its input, its exit code
step_attach() {
    local status=0
    docker run --detach --interactive --name worker busybox sh -c 'while read word; do echo "got $word"; [ $word != stop ] || { sleep 0.5; exit 5; }; done'
    # Docker ends an attach with its input where that is not the container's only one.
    { printf 'a\nb\nstop\n' && docker wait worker >&2; } | docker attach worker >out || status=$?
    is "its exit code" $status 5
    is "its output" "$(cat out)" $'got a\ngot b\ngot stop'
    fails 1 "" docker attach worker
    { printf 'stop\n' && eventually 10 in_state worker running && docker wait worker >&2; } | docker start --attach --interactive worker >out || status=$?
    is "what start --attach gives" "$status $(cat out)" "5 got stop"
}

# step logs: tail, since, until, timestamps, follow to the end, streams apart
step_logs() {
    local moment
    docker run --name talk busybox sh -c 'for i in 1 2 3; do echo out $i; done; echo err >&2'
    is "two lines of the end" "$(docker logs --tail 2 talk 2>&1 | wc -l)" 2
    is "none" "$(docker logs --tail 0 talk 2>&1)" ""
    is "errors alone" "$(docker logs talk 2>&1 >/dev/null)" err
    is "output alone" "$(docker logs talk 2>/dev/null)" $'out 1\nout 2\nout 3'
    has "a line with its time" "$(docker logs --timestamps --tail 1 talk 2>&1)" "T"
    docker logs --timestamps talk 2>/dev/null | grep -E '^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]+Z out 1$'
    docker run --detach --name slow busybox sh -c 'echo early; sleep 2; echo late'
    eventually 10 shows early docker logs slow
    moment=$(date -u +%FT%T.%NZ)
    is "what follow gives, to its end" "$(within 10 docker logs --follow slow)" $'early\nlate'
    is "since a moment" "$(docker logs --since "$moment" slow)" late
    is "until a moment" "$(docker logs --until "$moment" slow)" early
    is "since 10 minutes" "$(docker logs --since 10m slow)" $'early\nlate'
    is "since the future" "$(docker logs --since 2100-01-01T00:00:00 slow)" ""
    fails 1 "No such container" docker logs nobody
}

# step log-drivers: json-file with a limit, local, and none
step_log_drivers() {
    docker run --name small --log-opt max-size=10k --log-opt max-file=2 busybox sh -c 'i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); echo line $i; done'
    has "the end of a rotated log" "$(docker logs --tail 1 small)" "line 2000"
    lacks "a rotated log" "$(docker logs small)" $'line 1\n'
    gives json-file docker inspect --format '{{.HostConfig.LogConfig.Type}}' small
    docker run --name near --log-driver local busybox echo kept
    gives kept docker logs near
    docker run --name dumb --log-driver none busybox echo gone
    fails 1 "logging driver does not support reading" docker logs dumb
    fails 125 "" docker run --log-driver nonsense busybox true
}

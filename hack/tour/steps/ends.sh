# shellcheck shell=bash
# How containers end, and what is left of them. Sourced by step.

# step exit: exit codes: the program's own, a signal's, 125 to 127 when there is none
step_exit() {
    docker run busybox true
    fails 1 "" docker run busybox false
    fails 42 "" docker run busybox sh -c 'exit 42'
    fails 137 "" docker run --init busybox sh -c 'kill -KILL $$'
    fails 143 "" docker run --init busybox sh -c 'kill -TERM $$'
    fails 125 "" docker run --no-such-option busybox
    fails 125 "memory limit" docker run --memory 1k busybox true
    fails 126 "permission denied" docker run busybox /etc/passwd
    fails 127 "not found" docker run busybox no-such-program
    # What could not start is there, and says why.
    docker create --name bad busybox no-such-program
    fails 1 "no-such-program" docker start bad
    gives 127 docker inspect --format '{{.State.ExitCode}}' bad
    has "its error" "$(docker inspect --format '{{.State.Error}}' bad)" no-such-program
}

# step remove: --rm, rm, rm of a running one, rm -f, container prune
step_remove() {
    docker run --rm --name gone busybox true
    gives "" docker ps --all --quiet
    docker run --detach --rm --name gone busybox sleep 0.3
    eventually 10 fails 1 "No such container" docker inspect --type container gone
    docker run --detach --name stays busybox sleep 1000
    fails 1 "running" docker rm stays
    gives stays docker rm --force stays
    fails 1 "No such container" docker inspect --type container stays
    docker run --name one busybox true
    docker run --name two --label keep busybox true
    docker container prune --force --filter 'label!=keep'
    gives two docker ps --all --format '{{.Names}}'
    docker rm two
    gives "" docker ps --all --quiet
}

# step stop: SIGTERM and time to end, then SIGKILL; a stop signal of one's own
step_stop() {
    docker run --detach --name polite busybox sh -c 'trap "echo bye; exit 3" TERM; echo ready; while true; do sleep 0.1; done'
    eventually 10 shows ready docker logs polite
    within 5 docker stop polite
    gives "exited 3" docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' polite
    shows bye docker logs polite
    docker run --detach --name deaf busybox sh -c 'trap "" TERM; while true; do sleep 0.1; done'
    within 5 docker stop --time 1 deaf
    gives 137 docker inspect --format '{{.State.ExitCode}}' deaf
    docker run --detach --name own --stop-signal USR1 busybox sh -c 'trap "exit 9" USR1; echo ready; while true; do sleep 0.1; done'
    eventually 10 shows ready docker logs own
    within 5 docker stop own
    gives 9 docker inspect --format '{{.State.ExitCode}}' own
    # One that has ended is stopped already.
    gives own docker stop own
}

# step kill: by SIGKILL and by another signal
step_kill() {
    docker run --detach --name victim busybox sleep 1000
    docker kill victim
    eventually 10 in_state victim exited
    gives 137 docker inspect --format '{{.State.ExitCode}}' victim
    fails 1 "not running" docker kill victim
    docker run --detach --name hears busybox sh -c 'trap "echo heard" HUP; echo ready; while true; do sleep 0.1; done'
    eventually 10 shows ready docker logs hears
    docker kill --signal HUP hears
    eventually 10 shows heard docker logs hears
    gives running state hears
    fails 1 "nvalid signal" docker kill --signal NONSENSE hears
}

# step wait: waits for the end and prints the code; also for one that has ended
step_wait() {
    docker run --detach --name short busybox sh -c 'sleep 1; exit 6'
    gives 6 docker wait short
    gives 6 docker wait short
    docker run --detach --name long busybox sleep 1000
    (docker wait long >code) &
    docker kill long
    wait $!
    is "what wait printed" "$(cat code)" 137
}

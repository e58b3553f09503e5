# shellcheck shell=bash
# What is done with a container while it lives. Sourced by step.

# step start: create, start, start again, start --attach, restart
step_start() {
    local first
    docker create --name made busybox sh -c 'echo run; echo x >>/runs; wc -l </runs'
    gives created state made
    is "its first run" "$(docker start --attach made)" $'run\n1'
    is "its second run keeps its files" "$(docker start --attach made)" $'run\n2'
    docker run --detach --name up busybox sleep 1000
    first=$(docker inspect --format '{{.State.StartedAt}}' up)
    gives up docker start up
    is "start of a running one changes" "$(docker inspect --format '{{.State.StartedAt}}' up)" "$first"
    docker restart --time 0 up
    gives running state up
    [ "$(docker inspect --format '{{.State.StartedAt}}' up)" != "$first" ] || refuse "restart did not start it anew"
    gives 0 docker inspect --format '{{.RestartCount}}' up
}

# step pause: nothing runs in a paused container, until unpause
step_pause() {
    local before
    docker run --detach --name clock busybox sh -c 'while true; do echo tick; sleep 0.05; done'
    eventually 10 shows tick docker logs clock
    docker pause clock
    gives paused state clock
    shows "(Paused)" docker ps
    fails 1 "already paused" docker pause clock
    fails 1 "paused" docker exec clock true
    before=$(docker logs clock | wc -l)
    sleep 0.5
    is "the lines of a paused container" "$(docker logs clock | wc -l)" "$before"
    docker unpause clock
    gives running state clock
    goes_on() { [ "$(docker logs clock | wc -l)" -gt "$before" ]; }
    eventually 10 goes_on
    fails 1 "not paused" docker unpause clock
    # One that is paused can be ended.
    docker pause clock
    docker rm --force clock
}

# step update: memory, CPU and restart policy of a running container
step_update() {
    docker run --detach --name box --memory 64m busybox sleep 1000
    docker update --memory 128m --memory-swap 128m --cpu-shares 512 box
    gives "134217728 512" docker inspect --format '{{.HostConfig.Memory}} {{.HostConfig.CpuShares}}' box
    gives 134217728 docker exec box sh -c 'cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes'
    docker update --restart on-failure:3 box
    gives on-failure:3 docker inspect --format '{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}' box
    docker update --pids-limit 50 box
    gives 50 docker exec box sh -c 'cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max'
}

# step top: its processes, with the columns of ps
step_top() {
    docker run --detach --name box busybox sh -c 'sleep 1111 & exec sleep 2222'
    eventually 10 shows "sleep 1111" docker top box
    shows "sleep 2222" docker top box
    shows PID docker top box -o pid,args
    lacks "the columns that were asked for" "$(docker top box -o pid,args)" TTY
    is "lines of two processes" "$(docker top box | wc -l)" 3
    docker stop --time 0 box
    fails 1 "is not running" docker top box
}

# step stats: one look at memory, CPU, network and processes
step_stats() {
    local line
    docker run --detach --name box --memory 64m busybox sh -c 'while true; do :; done'
    shows 64MiB docker stats --no-stream
    line=$(docker stats --no-stream --format '{{.Name}}|{{.CPUPerc}}|{{.PIDs}}|{{.NetIO}}' box)
    has "its line" "$line" "box|"
    lacks "the CPU of a busy loop" "$line" "|0.00%|"
    has "its processes" "$line" "|1|"
    is "the networks of one" "$(engine GET '/containers/box/stats?stream=false' | python3 -c 'import json, sys; print(*json.load(sys.stdin)["networks"])')" eth0
    # A stream gives more than one.
    is "objects of a stream" "$(timeout 5 "$TOUR_CLIENT" stats --format '{{.Name}}' box | grep -c box | awk '{ print ($1 > 1) }')" 1
}

# step restart-policy: on-failure with a count, always, unless-stopped, and no
step_restart_policy() {
    docker run --detach --name fails --restart on-failure:2 busybox sh -c 'echo try; exit 1'
    eventually 20 in_state fails exited
    gives 2 docker inspect --format '{{.RestartCount}}' fails
    is "how often it ran" "$(docker logs fails | wc -l)" 3
    docker run --detach --name works --restart on-failure:2 busybox true
    docker wait works
    gives "exited 0" docker inspect --format '{{.State.Status}} {{.RestartCount}}' works
    docker run --detach --name again --restart always busybox sh -c 'echo up; sleep 0.3'
    ran_twice() { [ "$(docker logs again | wc -l)" -ge 2 ]; }
    eventually 20 ran_twice
    docker stop --time 0 again
    gives exited state again
    docker run --detach --name kept --restart unless-stopped busybox sleep 1000
    # What somebody else kills has ended by itself; what is killed through Docker was meant to end.
    kill -KILL "$(docker inspect --format '{{.State.Pid}}' kept)"
    is_restarted() { is "its restarts" "$(docker inspect --format '{{.RestartCount}} {{.State.Status}}' kept)" "1 running"; }
    eventually 10 is_restarted
    docker kill kept
    eventually 10 in_state kept exited
    fails 125 "" docker run --rm --restart always busybox true
}

# step health: starting, healthy, unhealthy; what the probe said
step_health() {
    health() { docker inspect --format '{{.State.Health.Status}}' box; }
    is_health() { [ "$(health)" = "$1" ]; }
    docker run --detach --name box --health-cmd 'test -e /well && echo fine' --health-interval 300ms --health-retries 2 --health-timeout 5s busybox sleep 1000
    is "its health at first" "$(health)" starting
    docker exec box touch /well
    eventually 10 is_health healthy
    shows "(healthy)" docker ps
    has "what the probe said" "$(docker inspect --format '{{(index .State.Health.Log 0).Output}}{{range .State.Health.Log}}{{.Output}}{{end}}' box)" fine
    docker exec box rm /well
    eventually 10 is_health unhealthy
    gives box docker ps --filter health=unhealthy --format '{{.Names}}'
    docker run --detach --name none busybox sleep 1000
    gives "" docker inspect --format '{{if .State.Health}}{{.State.Health.Status}}{{end}}' none
}

# step events: what happened, by filters, as it happens
step_events() {
    local since
    since=$(date +%s)
    # It begins with what was since then, so that none is missed.
    timeout 60 "$TOUR_CLIENT" events --since "$since" --filter container=seen --format '{{.Action}}' >live &
    docker run --name seen --label which=this busybox true
    docker rm seen
    eventually 10 grep -q destroy live
    kill $!
    is "what was seen live" "$(grep -E '^(create|attach|start|die|destroy)$' live | sort -u | xargs)" "attach create destroy die start"
    is "the order of a life" "$(grep -E '^(create|start|die|destroy)$' live | xargs)" "create start die destroy"
    gives die docker events --since "$since" --until "$(($(date +%s) + 1))" --filter event=die --filter label=which=this --format '{{.Action}}'
    has "an event's exit code" "$(docker events --since "$since" --until "$(($(date +%s) + 1))" --filter event=die --format '{{json .Actor.Attributes}}')" '"exitCode":"0"'
    docker volume create seen
    has "a volume's" "$(docker events --since "$since" --until "$(($(date +%s) + 1))" --filter type=volume --format '{{.Type}} {{.Action}}')" "volume create"
}

# step init: an init that reaps orphans and hands signals on
step_init() {
    docker run --detach --name box --init busybox sleep 1000
    shows "sleep 1000" docker top box
    lacks "process 1" "$(docker exec box cat /proc/1/cmdline | tr '\0' ' ')" "sleep 1000 "$'\n'
    within 5 docker stop box
    gives 143 docker inspect --format '{{.State.ExitCode}}' box
    docker run --detach --name reaps --init busybox sh -c '(sleep 0.1 &) ; sleep 1000'
    # The orphan is no zombie.
    no_zombie() { lacks "processes" "$(docker exec reaps ps -o stat,args)" $'\nZ'; }
    sleep 0.5
    eventually 5 no_zombie
}

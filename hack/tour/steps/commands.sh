# shellcheck shell=bash
# What runs in a container, and what else is run there. Sourced by step.

# step args: arguments, an entry point of one's own, variables, the directory
step_args() {
    gives "a b|c" docker run --rm --entrypoint sh busybox -c 'echo "$1|$2"' - "a b" c
    gives "" docker run --rm --entrypoint "" busybox true
    gives "1 two words" docker run --rm --env A=1 --env "B=two words" busybox sh -c 'echo $A $B'
    printf '# a comment\nC=3\nD\n' >variables
    gives "3 from here" env "D=from here" "$TOUR_CLIENT" run --rm --env-file variables busybox sh -c 'echo $C $D'
    gives /tmp docker run --rm --workdir /tmp busybox pwd
    gives /new/one docker run --rm --workdir /new/one busybox pwd
    gives /root docker run --rm busybox sh -c 'echo $HOME'
    has "the environment" "$(docker run --rm busybox env)" "PATH=/usr/local/sbin"
    has "its own name" "$(docker run --rm busybox env)" "HOSTNAME="
    gives web docker run --rm --hostname web busybox hostname
    gives web.example.org docker run --rm --hostname web --domainname example.org busybox hostname -f
    docker run --name labelled --label tier=front --label empty busybox true
    gives front docker inspect --format '{{index .Config.Labels "tier"}}' labelled
    gives labelled docker ps --all --filter label=tier=front --format '{{.Names}}'
    gives "" docker ps --all --filter label=tier=back --format '{{.Names}}'
}

# step exec: in a running container, with -e, -u, -w, -i, -it and -d, and exit codes
step_exec() {
    local status=0
    docker run --detach --name box busybox sleep 1000
    gives "hi" docker exec box echo hi
    gives "v /tmp" docker exec --env A=v --workdir /tmp box sh -c 'echo $A $PWD'
    gives 33 docker exec --user www-data box id -u
    gives "1234:5678" docker exec --user 1234:5678 box sh -c 'echo $(id -u):$(id -g)'
    is "a pipe through it" "$(echo through | docker exec --interactive box cat)" through
    terminal --size 21x77 "$TOUR_CLIENT" exec --interactive --tty box sh <<'EOT' || status=$?
wait # 
send until stty size | grep "21 7"; do sleep 0.1; done\r
wait 21 77
send exit 4\r
EOT
    is "the exit code of a shell on a terminal" $status 4
    docker exec --detach box touch /made
    eventually 10 docker exec box test -e /made
    fails 3 "" docker exec box sh -c 'exit 3'
    fails "12[67]" "" docker exec box no-such-program
    fails 126 "" docker exec box /etc/passwd
    fails 1 "No such container" docker exec nobody true
    docker run --name over busybox true
    fails 1 "not running" docker exec over true
    docker exec box sh -c 'echo out; echo err >&2' >out 2>err
    is "its output" "$(cat out)" out
    is "its errors" "$(cat err)" err
    gives "[]" docker inspect --format '{{if .ExecIDs}}{{.ExecIDs}}{{else}}[]{{end}}' box
}

# step exec-privileged: a command with more rights than its container
step_exec_privileged() {
    docker run --detach --name box busybox sleep 1000
    fails 2 "not permitted" docker exec box ip link set lo mtu 1400
    docker exec --privileged box ip link set lo mtu 1400
}

# step user: whom it runs as, by number and by name, with groups
step_user() {
    gives "0 0" docker run --rm busybox sh -c 'echo $(id -u) $(id -g)'
    gives "33 33" docker run --rm --user www-data busybox sh -c 'echo $(id -u) $(id -g)'
    gives "1000 0" docker run --rm --user 1000 busybox sh -c 'echo $(id -u) $(id -g)'
    gives "1000 33" docker run --rm --user 1000:www-data busybox sh -c 'echo $(id -u) $(id -g)'
    has "more groups" "$(docker run --rm --user 1000:1000 --group-add 44 --group-add tty busybox id -G)" "44"
    fails 125 "nobody-of-that-name" docker run --rm --user nobody-of-that-name busybox true
}

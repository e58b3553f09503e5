# shellcheck shell=bash disable=SC2016,SC2164,SC2317
# Images from Dockerfiles. Sourced by step. Most steps are by the classic builder's client, which both docker have; the last ones by BuildKit's.
export DOCKER_BUILDKIT=0

build() { docker build --tag "$1" "${@:2}" . >build.log 2>&1 || refuse "docker build failed: $(tail -n 5 build.log)"; }

# step build: a first Dockerfile: COPY, RUN, ENV, WORKDIR, CMD
step_build() {
    echo "a file" >file
    cat >Dockerfile <<'EOT'
FROM busybox
WORKDIR /work
COPY file copied
ENV WHO=world
RUN echo "hello, $WHO" >greeting
CMD ["cat", "greeting", "copied"]
EOT
    build built:1
    gives $'hello, world\na file' docker run --rm built:1
    gives "[cat greeting copied] /work" docker image inspect --format '{{.Config.Cmd}} {{.Config.WorkingDir}}' built:1
    shows "WORKDIR /work" docker history --no-trunc built:1
    # The second time, nothing is done again.
    build built:2
    is "the second image" "$(docker image inspect --format '{{.Id}}' built:2)" "$(docker image inspect --format '{{.Id}}' built:1)"
    docker rmi built:1 built:2
}

# step build-entrypoint: a program with ENTRYPOINT and a default CMD, as figlet's in tutorials
step_build_entrypoint() {
    cat >banner <<'EOT'
#!/bin/sh
line=$(echo "$*" | sed 's/./=/g')
printf '%s\n%s\n%s\n' "$line" "$*" "$line"
EOT
    cat >Dockerfile <<'EOT'
FROM busybox
COPY banner /usr/bin/banner
RUN chmod 0755 /usr/bin/banner
ENTRYPOINT ["banner"]
CMD ["nothing to say"]
EOT
    build banner
    gives $'==============\nnothing to say\n==============' docker run --rm banner
    gives $'==\nhi\n==' docker run --rm banner hi
    gives sh docker run --rm --entrypoint echo banner sh
    docker rmi banner
}

# step build-stages: several stages, of which one is kept, and --target
step_build_stages() {
    cat >Dockerfile <<'EOT'
FROM busybox AS tools
RUN mkdir /out && echo made >/out/product && head -c 3000000 /dev/urandom >/heavy
FROM busybox AS final
COPY --from=tools /out/product /product
CMD ["cat", "/product"]
EOT
    build staged
    gives made docker run --rm staged
    fails 1 "" docker run --rm staged test -e /heavy
    build half --target tools
    docker run --rm half test -e /heavy
    docker rmi staged half
    docker image prune --force
}

# step build-args: ARG, --build-arg, LABEL, USER, EXPOSE, VOLUME, HEALTHCHECK, STOPSIGNAL, SHELL
step_build_args() {
    cat >Dockerfile <<'EOT'
ARG BASE=nothing
FROM $BASE
ARG VERSION=0
LABEL version=$VERSION
RUN echo $VERSION >/version
EXPOSE 80/tcp 53/udp
VOLUME /data
HEALTHCHECK --interval=5s CMD true
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
USER www-data
EOT
    build args --build-arg BASE=busybox --build-arg VERSION=3
    gives 3 docker run --rm args cat /version
    gives 33 docker run --rm args id -u
    gives "3 SIGINT www-data" docker image inspect --format '{{.Config.Labels.version}} {{.Config.StopSignal}} {{.Config.User}}' args
    gives "map[53/udp:{} 80/tcp:{}] map[/data:{}]" docker image inspect --format '{{.Config.ExposedPorts}} {{.Config.Volumes}}' args
    docker rmi args
}

# step build-onbuild: ONBUILD of a base
step_build_onbuild() {
    printf 'FROM busybox\nONBUILD COPY file /taken\n' >Dockerfile
    build base
    echo taken >file
    printf 'FROM base\n' >Dockerfile
    build child
    gives taken docker run --rm child cat /taken
    docker rmi child base
}

# step build-ignore: .dockerignore, ADD of a tar, a context from standard input
step_build_ignore() {
    mkdir context
    cd context
    echo secret >secret
    echo kept >kept
    mkdir tarred
    echo inside >tarred/file
    tar -cf files.tar tarred
    rm -r tarred
    echo secret >.dockerignore
    printf 'FROM busybox\nCOPY . /all/\nADD files.tar /unpacked/\n' >Dockerfile
    build ignoring
    gives kept docker run --rm ignoring cat /all/kept
    fails 1 "" docker run --rm ignoring cat /all/secret
    gives inside docker run --rm ignoring cat /unpacked/tarred/file
    tar -c . | docker build --tag piped - >../build.log 2>&1
    gives kept docker run --rm piped cat /all/kept
    printf 'FROM busybox\nRUN echo only\n' | docker build --tag only - >>../build.log 2>&1
    docker rmi ignoring piped only
}

# step build-fails: what is wrong is said, and nothing is left tagged
step_build_fails() {
    printf 'FROM busybox\nRUN echo before; exit 7\n' >Dockerfile
    fails "[17]" "7" docker build --tag failing .
    fails 1 "" docker image inspect failing
    printf 'FROM busybox\nNONSENSE x\n' >Dockerfile
    fails 1 "NONSENSE" docker build --tag failing .
    printf 'FROM busybox\nCOPY ../../etc/passwd /x\n' >Dockerfile
    fails 1 "" docker build --tag failing .
    docker container prune --force
    docker image prune --force
}

# step build-network: the classic builder's steps in a network of a user, where they find its containers by name
step_build_network() {
    printf 'FROM busybox\nRUN wget -q -O /page http://page.test/ && cat /page\n' >Dockerfile
    docker network create "page net"
    docker run --detach --name page --network "page net" --network-alias page.test busybox sh -c 'echo built >index.html && exec httpd -f'
    eventually 20 docker run --rm --network "page net" busybox wget -q -O - http://page.test/
    tar -c Dockerfile | engine POST "/build?t=networked&networkmode=page%20net" --header 'Content-Type: application/x-tar' --data-binary @- >told
    has "the end of the build" "$(tail -n 1 told)" "Successfully tagged networked:latest"
    gives built docker run --rm networked cat /page
    # It is free again at once.
    docker rm --force page
    docker network rm "page net"
    # Without the network there is no such name.
    tar -c Dockerfile | engine POST "/build?t=lonely&networkmode=none" --header 'Content-Type: application/x-tar' --data-binary @- >told
    has "the end of a build without a network" "$(tail -n 1 told)" '"code":1'
    docker rmi networked
}

# step build-buildkit: BuildKit's own client: a secret, a cache mount, a heredoc, --iidfile, --output, the build cache
step_build_buildkit() {
    local id
    export DOCKER_BUILDKIT=1
    case $(docker --version) in
    *" 20."*) ;;
    *) docker buildx version >/dev/null 2>&1 || impossible "this client has no buildx" ;;
    esac
    echo hidden >secret
    echo "a file" >file
    cat >Dockerfile <<'EOT'
FROM busybox AS made
COPY file /copied
RUN --mount=type=secret,id=s test "$(cat /run/secrets/s)" = hidden && echo seen >/seen
RUN --mount=type=cache,target=/cache echo once >>/cache/log && cp /cache/log /log
RUN <<END
echo one >/both
echo two >>/both
END
FROM scratch AS files
COPY --from=made /copied /both /
EOT
    build kit --target made --secret id=s,src=secret --iidfile id
    id=$(cat id)
    is "the id" "$(docker image inspect --format '{{.Id}}' kit)" "$id"
    gives $'seen\none\ntwo\nonce' docker run --rm kit cat /seen /both /log
    fails 1 "" docker run --rm kit test -e /run/secrets/s
    docker build --target files --output type=local,dest=out --secret id=s,src=secret . >out.log 2>&1 || refuse "no output: $(tail -n 3 out.log)"
    is "a file that was brought out" "$(cat out/copied out/both)" $'a file\none\ntwo'
    # What was built and never pushed is what the next build starts from.
    printf 'FROM kit\nRUN cat /seen >/again\n' | build over --file -
    gives seen docker run --rm over cat /again
    docker builder prune --all --force >prune.log
    has "what was pruned" "$(cat prune.log)" "Total"
    docker rmi over kit
}

# step build-push: what a build makes goes to a registry that asks for a password, and the next build starts from there
step_build_push() {
    export DOCKER_BUILDKIT=1
    docker buildx version >/dev/null 2>&1 || impossible "this client has no buildx"
    echo secret | docker login --username tour --password-stdin "$TOUR_PRIVATE"
    printf 'FROM busybox\nRUN echo pushed >/word\n' >Dockerfile
    docker buildx build --push --tag "$TOUR_PRIVATE/team/built:1" . >push.log 2>&1 || refuse "no push: $(tail -n 3 push.log)"
    docker rmi "$TOUR_PRIVATE/team/built:1"
    printf 'FROM %s/team/built:1\nCMD ["cat", "/word"]\n' "$TOUR_PRIVATE" >Dockerfile
    build from-private
    gives pushed docker run --rm from-private
    docker rmi from-private
    docker logout "$TOUR_PRIVATE"
}

# step compose-build: services that are built, with arguments and a target, by build, up --build and run
step_compose_build() {
    export DOCKER_BUILDKIT=1
    mkdir one two
    cat >one/Dockerfile <<'EOT'
FROM busybox
ARG WHO=nobody
RUN echo "made for $WHO" >/word
CMD ["cat", "/word"]
EOT
    printf 'FROM busybox AS first\nRUN echo first >/word\nFROM first AS second\nRUN echo second >/word\n' >two/Containerfile
    cat >docker-compose.yml <<'EOT'
services:
  one: { build: { context: one, args: { WHO: one } } }
  two: { image: "two:built", build: { context: two, dockerfile: Containerfile, target: first }, command: cat /word }
EOT
    compose --project-name bake build >build.log 2>&1 || refuse "compose build failed: $(tail -n 5 build.log)"
    gives first docker run --rm two:built cat /word
    has "what was built" "$(compose --project-name bake run --rm -T one 2>/dev/null)" "made for one"
    # What was changed is built again.
    sed -i 's/made for/changed for/' one/Dockerfile
    compose --project-name bake up --build --detach >up.log 2>&1 || refuse "compose up --build failed: $(tail -n 5 up.log)"
    says_so() { has "the service's log" "$(compose --project-name bake logs one 2>&1)" "changed for one"; }
    eventually 10 says_so
    compose --project-name bake down --rmi all
    fails '*' "no such" docker image inspect two:built
}

# step compose-watch: a file that changes comes into the service that runs
step_compose_watch() {
    local watch
    export DOCKER_BUILDKIT=1
    compose watch --help 2>&1 | grep -q -- --no-up || impossible "this compose has no watch"
    mkdir web
    echo one >web/page
    printf 'FROM busybox\nCOPY page /web/page\nCMD ["sleep", "1000"]\n' >web/Dockerfile
    cat >docker-compose.yml <<'EOT'
services:
  web:
    build: web
    develop: { watch: [ { action: sync, path: web, target: /web } ] }
EOT
    compose up --build --detach >up.log 2>&1 || refuse "compose up failed: $(tail -n 5 up.log)"
    compose watch --no-up >watch.log 2>&1 &
    watch=$!
    watches() { grep -qi "watch enabled" watch.log; }
    eventually 30 watches
    # Once: it waits until a file has been left alone for a while.
    echo two >web/page
    came() { is "the page" "$(compose exec -T web cat /web/page)" two; }
    eventually 30 came
    kill $watch
    wait $watch || true
    compose down --rmi all
}

# step build-ssh: an agent of the client's in a step, and files for another platform
step_build_ssh() {
    export DOCKER_BUILDKIT=1
    docker buildx version >/dev/null 2>&1 || impossible "this client has no buildx"
    command -v ssh-agent >/dev/null || impossible "there is no ssh-agent here"
    eval "$(ssh-agent -a "$PWD/agent.sock")" >/dev/null
    # shellcheck disable=SC2064 # of this agent
    trap "kill $SSH_AGENT_PID" EXIT
    ssh-keygen -q -t ed25519 -N '' -f key -C tour
    ssh-add -q key
    cat >Dockerfile <<'EOT'
FROM busybox
RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK" && ls -l "$SSH_AUTH_SOCK" | cut -c1 >/kind
RUN test -z "$SSH_AUTH_SOCK" && cat /kind
EOT
    docker buildx build --ssh default --tag with-ssh --load . >ssh.log 2>&1 || refuse "no build with ssh: $(tail -n 3 ssh.log)"
    gives s docker run --rm with-ssh cat /kind
    docker rmi with-ssh
    # Nothing of it has to run.
    printf 'FROM scratch\nARG TARGETARCH\nCOPY key.pub /of-$TARGETARCH\n' >Dockerfile
    docker buildx build --platform linux/arm64 --output type=local,dest=out . >arm.log 2>&1 || refuse "no build for arm64: $(tail -n 3 arm.log)"
    is "the file" "$(cat out/of-arm64)" "$(cat key.pub)"
}

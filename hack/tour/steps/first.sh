# shellcheck shell=bash
# The first page of a tutorial. Sourced by step.

# step version: version, info and ping tell who is there
step_version() {
    shows "Server:" docker version
    has "the API's version" "$(docker version --format '{{.Server.APIVersion}}')" 1.
    gives linux docker version --format '{{.Server.Os}}'
    gives 0 docker info --format '{{.Containers}}'
    gives linux docker info --format '{{.OSType}}'
    gives "$(nproc)" docker info --format '{{.NCPU}}'
    shows "Storage Driver:" docker info
    gives OK engine GET /_ping
    has "what a ping's header says" "$(engine HEAD /_ping --head)" "Api-Version: 1."
    has "an older client's version" "$(engine GET /v1.40/version)" '"ApiVersion"'
    has "a version that is too new" "$(engine GET /v9.99/version)" '"message"'
}

# step hello: docker run hello-world, by its short name
step_hello() {
    shows "Hello from a container!" docker run hello-world
    gives hello-world docker ps --all --filter ancestor=hello-world --format "{{.Image}}"
}

# step echo: docker run busybox echo, and that the container is there afterwards
step_echo() {
    gives "hello, world" docker run busybox echo "hello, world"
    has "docker ps --all" "$(docker ps --all)" "Exited (0)"
    lacks "docker ps" "$(docker ps)" busybox
    gives '"echo '"'hello, world'"'"' docker ps --all --format '{{.Command}}' --no-trunc
}

# step pull: an image by tag and by digest, once more, and one that is not there
step_pull() {
    local name=$TOUR_REGISTRY/library/busybox digest
    shows "Downloaded newer image" docker pull "$name:1.36"
    shows "Image is up to date" docker pull "$name:1.36"
    digest=$(docker image inspect --format '{{index .RepoDigests 0}}' "$name:1.36")
    has "the digest" "$digest" "@sha256:"
    docker rmi "$name:1.36"
    shows "Digest: ${digest#*@}" docker pull "$name@${digest#*@}"
    gives hi docker run --rm "$name@${digest#*@}" echo hi
    fails 1 "not found" docker pull "$name:none"
    fails 125 "nowhere" docker run "$TOUR_REGISTRY/library/nowhere"
    docker rmi "$name@${digest#*@}"
}

# step names: a container's name is its own, and the start of its id names it too
step_names() {
    local id
    id=$(docker run --detach --name one busybox sleep 1000)
    is "the length of an id" ${#id} 64
    fails 125 "already in use" docker run --name one busybox true
    gives "/one" docker inspect --format '{{.Name}}' "${id:0:5}"
    docker rename one two
    gives two docker ps --format '{{.Names}}'
    fails 1 "No such" docker inspect one
    fails 125 "Invalid container name" docker run --name '-x' busybox true
    docker create --name one busybox true
    fails 1 "already in use" docker rename one two
    has "a made-up name" "$(docker inspect --format '{{.Name}}' "$(docker create busybox true)")" _
}

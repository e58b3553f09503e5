# shellcheck shell=bash
# Images made, kept, carried and given away. Sourced by step. Each step removes the images that it made.

# step images: lists, filters, history, tags
step_images() {
    shows busybox docker images
    docker tag busybox mine/copy:1
    docker tag busybox mine/copy:2
    is "tags of a name" "$(docker images --format '{{.Tag}}' mine/copy | sort | xargs)" "1 2"
    is "one id" "$(docker images --quiet --no-trunc mine/copy | sort -u)" "$(docker image inspect --format '{{.Id}}' busybox)"
    gives mine/copy docker images --filter reference='mine/copy:1' --format '{{.Repository}}'
    has "by its label" "$(docker images --filter label=tag --format '{{.Repository}}:{{.Tag}}')" mine/copy:2
    shows hack/images docker history --no-trunc busybox
    docker rmi mine/copy:1
    is "tags that are left" "$(docker images --format '{{.Tag}}' mine/copy)" 2
    docker run --name user mine/copy:2 true
    docker rmi mine/copy:2
    fails 1 "No such image" docker rmi mine/copy:2
    fails 1 "nvalid reference" docker tag busybox 'Mine/UPPER'
}

# step commit: a container's files as an image, with changes of its configuration
step_commit() {
    docker run --name box busybox sh -c 'echo made >/made; rm /bin/yes'
    docker commit --author me --message "what was done" --change 'CMD ["cat", "/made"]' --change 'ENV KEY=value' --change 'EXPOSE 80' box made:1
    gives made docker run --rm made:1
    gives value docker run --rm made:1 sh -c 'echo $KEY'
    fails 1 "" docker run --rm made:1 test -e /bin/yes
    has "its history" "$(docker history --no-trunc made:1)" "what was done"
    is "one layer more" "$(docker image inspect --format '{{len .RootFS.Layers}}' made:1)" 2
    gives me docker image inspect --format '{{.Author}}' made:1
    gives "map[80/tcp:{}]" docker image inspect --format '{{.Config.ExposedPorts}}' made:1
    docker rmi made:1
}

# step export: a container's files as a tar, and an image of a tar
step_export() {
    docker run --name box busybox sh -c 'echo kept >/kept'
    docker export --output box.tar box
    # In whatever order.
    has "what is in it" $'\n'"$(tar -tf box.tar)"$'\n' $'\nkept\n'
    docker import --change 'CMD ["cat", "/kept"]' --message "from a tar" box.tar flat:1
    gives kept docker run --rm flat:1
    is "its layers" "$(docker image inspect --format '{{len .RootFS.Layers}}' flat:1)" 1
    docker export box | docker import - flat:2
    gives kept docker run --rm flat:2 cat /kept
    docker rmi flat:1 flat:2
}

# step save: images as an archive and back, with their names and layers
step_save() {
    local id
    docker run --name box busybox sh -c 'echo layer >/layer'
    docker commit box saved:1
    docker tag saved:1 saved:also
    id=$(docker image inspect --format '{{.Id}}' saved:1)
    docker save --output saved.tar saved:1 saved:also
    has "what is in it" "$(tar -tf saved.tar)" manifest.json
    docker rm box
    docker rmi saved:1 saved:also
    fails 1 "" docker image inspect saved:1
    shows "Loaded image: saved:1" docker load --input saved.tar
    is "its id" "$(docker image inspect --format '{{.Id}}' saved:also)" "$id"
    gives layer docker run --rm saved:1 cat /layer
    docker rmi saved:1 saved:also
    docker save busybox | gzip >busybox.tar.gz
    shows "Loaded image: busybox:latest" docker load --input busybox.tar.gz
    head -c 5000 saved.tar >half.tar
    fails 1 "" docker load --input half.tar
}

# step push: to a registry on loopback, gone from here, and pulled back
step_push() {
    local name=$TOUR_WRITABLE/made/here digest
    docker run --name box busybox sh -c 'echo pushed >/pushed'
    docker commit box "$name:1"
    shows "digest: sha256:" docker push "$name:1"
    digest=$(docker image inspect --format '{{index .RepoDigests 0}}' "$name:1")
    has "what the registry has" "$(curl -fsS "http://$TOUR_WRITABLE/v2/made/here/tags/list")" '"1"'
    docker tag "$name:1" "$name:2"
    shows "Layer already exists" docker push "$name:2"
    docker rm box
    docker rmi "$name:1" "$name:2"
    docker pull "$name:2"
    gives pushed docker run --rm "$name:2" cat /pushed
    gives pushed docker run --rm "$digest" cat /pushed
    docker tag "$name:2" "$name:3"
    docker push --all-tags "$name"
    has "the tags" "$(curl -fsS "http://$TOUR_WRITABLE/v2/made/here/tags/list")" '"3"'
    fails 1 "" docker push 127.0.0.1:1/nobody/listens
    docker rmi --force "$(docker image inspect --format '{{.Id}}' "$name:2")"
}

# step rmi: an image in use, by force, one of many tags, dangling ones pruned
step_rmi() {
    local id
    docker run --name box busybox sh -c 'echo 1 >/1'
    docker commit box used:1
    id=$(docker image inspect --format '{{.Id}}' used:1)
    docker run --detach --name user used:1 sleep 1000
    fails 1 "" docker rmi "$id"
    fails 1 "" docker rmi used:1
    docker rm --force user
    docker commit box used:1
    is "the old one is dangling" "$(docker images --filter dangling=true --quiet --no-trunc)" "$id"
    has "what was pruned" "$(docker image prune --force)" "eleted"
    is "dangling ones" "$(docker images --filter dangling=true --quiet)" ""
    docker rmi used:1
}

# step prune: system prune takes what nobody uses, and nothing else
step_prune() {
    docker run --name over busybox true
    docker run --detach --name up --volume used:/used busybox sleep 1000
    docker volume create unused
    docker network create unused
    docker system prune --force
    gives up docker ps --all --format '{{.Names}}'
    lacks "the networks" "$(docker network ls --format '{{.Name}}')" unused
    docker volume prune --force --filter all=1 || docker volume prune --force
    gives used docker volume ls --format '{{.Name}}'
    docker image inspect busybox >/dev/null
}

# serve_search FILE: a registry that can only be searched, until the step ends; its port is written to FILE.
serve_search() {
    python3 - "$1" <<'EOT' &
import http.server, json, os, sys, urllib.parse

class Search(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        term = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("q", [""])[0]
        result = {"name": f"{term}/found", "description": "it is here", "star_count": 7, "is_official": False, "is_automated": False}
        body = json.dumps({"query": term, "num_results": 1, "results": [result]} if "/v1/search" in self.path else True).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Docker-Registry-Standalone", "true")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.HTTPServer(("127.0.0.1", 0), Search)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(server.server_port))
os.rename(sys.argv[1] + ".new", sys.argv[1])
server.serve_forever()
EOT
    # shellcheck disable=SC2064 # the pid is known now
    trap "kill $!" EXIT
    eventually 10 test -s "$1"
}

# step search: a registry's answer to a search, and one that does not search
step_search() {
    local found
    serve_search port
    found=$(docker search "127.0.0.1:$(cat port)/term")
    has "what was found" "$found" term/found
    has "what was found" "$found" "it is here"
    fails 1 "" docker search "$TOUR_REGISTRY/nothing"
}

# step login: a registry that asks for a password: refused, right, pushed to, pulled from, forgotten
step_login() {
    local port=$TOUR_PRIVATE
    export DOCKER_CONFIG=$PWD/config
    docker tag busybox "$port/mine:1"
    fails 1 "" docker push "$port/mine:1"
    fails 1 "unauthorized" docker login --username tour --password wrong "$port"
    has "what login says" "$(echo secret | docker login --username tour --password-stdin "$port")" "Login Succeeded"
    docker push "$port/mine:1"
    docker rmi "$port/mine:1"
    docker pull "$port/mine:1"
    docker logout "$port"
    docker rmi "$port/mine:1"
    fails 1 "" docker pull "$port/mine:1"
}

# shellcheck shell=bash disable=SC2016,SC2154,SC2317
# Applications of several containers. Sourced by step. TOUR_COMPOSE is of either generation: 1.29 names containers with underscores, so that
# steps name services, not containers.

# counter_app: the counter of visits that everybody's introduction has: a web server that asks redis. $PORT is its port on the node.
counter_app() {
    mkdir -p app/cgi-bin
    cat >app/cgi-bin/hits <<'EOT'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
printf 'INCR hits\r\nQUIT\r\n' | nc redis 6379 | head -n 1 | tr -dc 0-9
EOT
    chmod 0755 app app/cgi-bin app/cgi-bin/hits
    cat >docker-compose.yml <<'EOT'
version: "3.8"
services:
  web:
    image: busybox
    command: httpd -f -p 8000 -h /app
    ports: ["127.0.0.1:${PORT:-8000}:8000"]
    volumes: ["./app:/app:ro"]
    environment:
      GREETING: ${GREETING:-hello}
    stop_grace_period: 0s
    depends_on: [redis]
  redis:
    image: redis
    volumes: ["hits:/data"]
volumes:
  hits:
EOT
}
hits() { page "http://127.0.0.1:$1/cgi-bin/hits"; }
services() { compose "$@" ps --services | sort | xargs; }

# step compose-up: up -d, ps, logs, port, exec, run, stop, start, down: networks are gone, volumes stay
step_compose_up() {
    counter_app
    PORT=8101 compose up --detach
    eventually 20 hits 8101
    is "the next visit" "$(hits 8101)" 2
    gives "redis web" services
    has "the port" "$(compose port web 8000)" 8101
    gives hello compose exec -T web sh -c 'echo $GREETING'
    has "what redis logs" "$(compose logs redis 2>&1)" "Ready to accept connections"
    # As much as the other service says is not in it.
    lacks "the log of web" "$(compose logs web 2>&1)" "Ready to accept"
    is "a container for one command" "$(compose run --rm -T -e GREETING=other web sh -c 'echo $GREETING' 2>/dev/null)" other
    has "what it asks of redis" "$(compose run --rm -T redis redis-cli -h redis get hits 2>/dev/null)" 2
    compose stop web
    fails 7 "" page http://127.0.0.1:8101/
    PORT=8101 compose start web
    eventually 20 hits 8101
    compose restart redis
    eventually 20 hits 8101
    has "processes" "$(compose top)" redis-server
    compose down
    gives "" docker ps --all --quiet
    gives "" docker network ls --quiet --filter type=custom
    is "volumes" "$(docker volume ls --quiet)" "$(basename "$PWD" | tr -dc 'a-z0-9_-')_hits"
    # What was written before is there again.
    PORT=8101 compose up --detach
    eventually 20 hits 8101
    more "visits" "$(hits 8101)" 3
    compose down --volumes
    gives "" docker volume ls --quiet
}

# step compose-twice: two copies side by side, of which one ends without the other noticing
step_compose_twice() {
    counter_app
    PORT=8111 compose -p blue up --detach
    PORT=8112 GREETING=hi compose -p green up --detach
    eventually 20 hits 8111
    eventually 20 hits 8112
    hits 8111
    is "visits of blue" "$(hits 8111)" 3
    is "visits of green" "$(hits 8112)" 2
    gives hi compose -p green exec -T web sh -c 'echo $GREETING'
    is "networks" "$(docker network ls --filter type=custom --format '{{.Name}}' | sort | xargs)" "blue_default green_default"
    compose -p blue down --volumes
    is "visits of green" "$(hits 8112)" 3
    fails 7 "" page http://127.0.0.1:8111/
    is "volumes" "$(docker volume ls --quiet)" green_hits
    compose -p green down --volumes
    gives "" docker ps --all --quiet
}

# step compose-scale: three of a service behind one name, then one
step_compose_scale() {
    cat >docker-compose.yml <<'EOT'
version: "3.8"
services:
  worker:
    image: busybox
    command: sh -c 'hostname >/index.html; exec httpd -f -p 80 -h /'
    stop_grace_period: 0s
  client:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
EOT
    compose up --detach --scale worker=3
    is "workers" "$(compose ps --quiet worker | wc -l)" 3
    three_answer() { [ "$(compose exec -T client nslookup worker | grep -c 'Address.*[0-9]$')" -ge 3 ]; }
    eventually 20 three_answer
    compose up --detach --scale worker=1
    is "workers" "$(compose ps --quiet worker | wc -l)" 1
    compose down
}

# step compose-health: depends_on waits until a service is healthy
step_compose_health() {
    cat >docker-compose.yml <<'EOT'
services:
  slow:
    image: busybox
    command: sh -c 'sleep 2; touch /ready; exec sleep 1000'
    healthcheck: { test: ["CMD", "test", "-e", "/ready"], interval: 300ms, timeout: 2s, retries: 30 }
    stop_grace_period: 0s
  after:
    image: busybox
    command: echo "after it"
    depends_on: { slow: { condition: service_healthy } }
EOT
    within 40 compose up --detach
    eventually 10 shows "after it" compose logs after
    has "its state" "$(compose ps | grep slow)" healthy
    compose down
}

# step compose-change: up again changes what has changed, and nothing else
step_compose_change() {
    local web redis
    if [ "$(compose version --short | cut -d. -f1)" = 1 ] && [ "$(engine GET /version | sed 's/.*"ApiVersion":"1\.\([0-9]*\)".*/\1/')" -ge 45 ]; then
        impossible "docker-compose 1 looks into ContainerConfig of images, which API 1.45 took away"
    fi
    counter_app
    PORT=8121 compose up --detach
    eventually 20 hits 8121
    web=$(compose ps --quiet web) redis=$(compose ps --quiet redis)
    PORT=8121 compose up --detach
    is "web of an equal up" "$(compose ps --quiet web)" "$web"
    PORT=8121 GREETING=changed compose up --detach
    is "redis of a changed web" "$(compose ps --quiet redis)" "$redis"
    [ "$(compose ps --quiet web)" != "$web" ] || refuse "web was not made anew"
    gives changed compose exec -T web sh -c 'echo $GREETING'
    eventually 20 hits 8121
    more "visits" "$(hits 8121)" 1
    compose down --volumes
}

# step compose-networks: networks and aliases of a file, one of them internal, a static address, secrets and tmpfs
step_compose_networks() {
    echo hush >secret.txt
    cat >docker-compose.yml <<'EOT'
version: "3.8"
services:
  front:
    image: busybox
    command: sleep 1000
    networks: [outer, inner]
    secrets: [word]
    tmpfs: [/scratch]
    stop_grace_period: 0s
  back:
    image: busybox
    command: sh -c 'echo data >/index.html; exec httpd -f -p 80 -h /'
    networks: { inner: { aliases: [store], ipv4_address: 10.198.4.9 } }
    stop_grace_period: 0s
  stranger:
    image: busybox
    command: sleep 1000
    networks: [outer]
    stop_grace_period: 0s
networks:
  outer:
  inner: { internal: true, ipam: { config: [{ subnet: 10.198.4.0/24 }] } }
secrets:
  word: { file: ./secret.txt }
EOT
    compose up --detach
    eventually 10 compose exec -T front wget -qO- -T 3 http://store
    gives data compose exec -T front wget -qO- -T 3 http://10.198.4.9
    fails 1 "" compose exec -T stranger wget -qO- -T 2 http://back
    gives hush compose exec -T front cat /run/secrets/word
    has "its tmpfs" "$(compose exec -T front grep /scratch /proc/mounts)" tmpfs
    compose down
}

# step compose-foreground: up in the foreground shows what services say, and Ctrl-C ends them
step_compose_foreground() {
    cat >docker-compose.yml <<'EOT'
services:
  one: { image: busybox, command: sh -c 'trap "exit 0" TERM; while true; do echo says one; sleep 0.2; done' }
EOT
    terminal "$TOUR_COMPOSE" up <<'EOT' || true
wait says one
wait says one
send \x03
EOT
    none_runs() { is "what runs" "$(docker ps --quiet)" ""; }
    eventually 15 none_runs
    compose down
    has "up to the end of one" "$(compose run --rm -T one echo ran 2>/dev/null)" ran
}

# step socket: a container that uses the mounted docker.sock
step_socket() {
    if ldd "$TOUR_CLIENT" >/dev/null 2>&1; then
        impossible "this client is no static program; containers of these images have no C library"
    fi
    docker run --detach --name sibling busybox sleep 1000
    has "what it sees" "$(docker run --rm --name seer --volume "$socket:/var/run/docker.sock" --volume "$TOUR_CLIENT:/bin/docker:ro" busybox docker ps --format '{{.Names}}')" sibling
    gives "from a sibling" docker run --rm --volume "$socket:/var/run/docker.sock" --volume "$TOUR_CLIENT:/bin/docker:ro" busybox docker run --rm busybox echo "from a sibling"
}

# shellcheck shell=bash
# Networks, names and addresses. Sourced by step.

# step bridge: the default network: an address, a gateway, others by address
step_bridge() {
    docker run --detach --name web busybox sh -c 'echo hello from web >/index.html; exec httpd -f -p 80 -h /'
    has "its address" "$(address web)" .
    eventually 10 docker run --rm busybox wget -qO- -T 3 "http://$(address web)"
    gives "hello from web" docker run --rm busybox wget -qO- -T 3 "http://$(address web)"
    is "its gateway" "$(docker exec web ip route | awk '/default/ { print $3 }')" "$(docker inspect --format '{{.NetworkSettings.Networks.bridge.Gateway}}' web)"
    has "its hosts file" "$(docker exec web cat /etc/hosts)" "$(address web)"
    has "the network's containers" "$(docker network inspect --format '{{range .Containers}}{{.Name}} {{end}}' bridge)" web
    is "the networks that are always there" "$(docker network ls --format '{{.Name}}' | sort | xargs)" "bridge host none"
    has "its hardware address" "$(docker exec web cat /sys/class/net/eth0/address)" "$(docker inspect --format '{{.NetworkSettings.Networks.bridge.MacAddress}}' web)"
}

# step host-network: the node's own network
step_host_network() {
    # Links of the step before may still be about to go.
    has_the_nodes() { is "its interfaces" "$(docker run --rm --network host busybox ip link | awk -F '[:@] *' '/^[0-9]/ { print $2 }' | sort | xargs)" "$(ip -brief link | awk '{ sub("@.*", "", $1); print $1 }' | sort | xargs)"; }
    eventually 10 has_the_nodes
    gives "$(hostname)" docker run --rm --network host busybox hostname
    docker run --detach --name web --network host busybox sh -c 'echo host >/index.html; exec httpd -f -p 127.0.0.1:8999 -h /'
    eventually 10 page_is http://127.0.0.1:8999/ host
    fails 125 "" docker run --rm --network host --hostname mine --network-alias x busybox true
}

# step no-network: nothing but a loopback
step_no_network() {
    gives lo docker run --rm --network none busybox ls /sys/class/net
    fails 1 "" docker run --rm --network none busybox wget -qO- -T 2 http://10.0.0.1/
}

# step container-network: the network of another container
step_container_network() {
    docker run --detach --name web busybox sh -c 'echo shared >/index.html; exec httpd -f -p 127.0.0.1:80 -h /'
    eventually 10 docker run --rm --network container:web busybox wget -qO- -T 3 http://127.0.0.1
    gives shared docker run --rm --network container:web busybox wget -qO- -T 3 http://127.0.0.1
    is "the name of both" "$(docker run --rm --network container:web busybox hostname)" "$(docker exec web hostname)"
    fails 125 "" docker run --rm --network container:web --publish 80:80 busybox true
    fails 125 "o such container" docker run --rm --network container:nobody busybox true
}

# step user-network: names and aliases are looked up in it, and nowhere else
step_user_network() {
    docker network create --label for=tour back
    docker run --detach --name db --network back --network-alias store busybox sh -c 'echo data >/index.html; exec httpd -f -p 80 -h /'
    eventually 10 docker run --rm --network back busybox wget -qO- -T 3 http://db
    gives data docker run --rm --network back busybox wget -qO- -T 3 http://store
    has "who answers names" "$(docker run --rm --network back busybox cat /etc/resolv.conf)" "nameserver 127.0.0.11"
    has "an address by name" "$(docker run --rm --network back busybox nslookup db)" "$(address db)"
    has "a name by address" "$(docker run --rm --network back busybox nslookup "$(address db)")" db
    fails 1 "" docker run --rm --network back busybox nslookup nobody.of.that.name
    fails 1 "" docker run --rm busybox wget -qO- -T 3 http://db
    fails 1 "" docker run --rm busybox wget -qO- -T 3 "http://$(address db)"
    has "a second one of its name" "$(engine POST /v1.41/networks/create -H 'Content-Type: application/json' -d '{"Name": "back", "CheckDuplicate": true}')" "already exists"
    fails 1 "active endpoints" docker network rm back
    # The name is its present holder's.
    docker rm --force db
    fails 1 "" docker run --rm --network back busybox nslookup db
    gives back docker network rm back
    fails 1 "back" docker network inspect back
}

# step round-robin: an alias of two containers has both addresses
step_round_robin() {
    docker network create many
    docker run --detach --name one --network many --network-alias both busybox sleep 1000
    docker run --detach --name two --network many --network-alias both busybox sleep 1000
    has "the alias" "$(docker run --rm --network many busybox nslookup both)" "$(address one)"
    has "the alias" "$(docker run --rm --network many busybox nslookup both)" "$(address two)"
}

# step connect: connect and disconnect while running
step_connect() {
    docker network create left
    docker network create right
    docker run --detach --name mover --network left busybox sleep 1000
    docker run --detach --name far --network right busybox sh -c 'echo far >/index.html; exec httpd -f -p 80 -h /'
    fails 1 "" docker exec mover wget -qO- -T 2 http://far
    docker network connect --alias nearby right mover
    eventually 10 docker exec mover wget -qO- -T 3 http://far
    is "its interfaces" "$(docker exec mover ls /sys/class/net | grep -c eth)" 2
    has "its alias" "$(docker exec far nslookup nearby)" "$(docker inspect --format '{{.NetworkSettings.Networks.right.IPAddress}}' mover)"
    fails 1 "already" docker network connect right mover
    docker network disconnect right mover
    fails 1 "" docker exec mover wget -qO- -T 2 http://far
    is "its interfaces" "$(docker exec mover ls /sys/class/net | grep -c eth)" 1
    docker network disconnect left mover
    gives lo docker exec mover ls /sys/class/net
    # Of one that does not run, it counts from the next start on.
    docker stop --time 0 mover
    docker network connect right mover
    docker start mover
    eventually 10 docker exec mover wget -qO- -T 3 http://far
}

# step subnet: a subnet, an address and options of one's own; one that overlaps is refused
step_subnet() {
    docker network create --subnet 10.199.7.0/24 --gateway 10.199.7.254 --ip-range 10.199.7.128/25 chosen
    docker run --detach --name fixed --network chosen --ip 10.199.7.20 busybox sleep 1000
    gives 10.199.7.20 address fixed
    docker run --detach --name ranged --network chosen busybox sleep 1000
    more "the last number of an address of the range" "$(address ranged | cut -d. -f4)" 127
    has "its route" "$(docker exec fixed ip route)" "default via 10.199.7.254"
    fails 125 "" docker run --rm --network chosen --ip 10.199.7.20 busybox true
    fails 125 "" docker run --rm --network chosen --ip 10.1.1.1 busybox true
    fails 1 "" docker network create --subnet 10.199.7.0/24 again
    fails 125 "" docker run --rm --network bridge --ip 172.31.0.99 busybox true
    docker network create --opt com.docker.network.driver.mtu=1300 narrow
    gives 1300 docker run --rm --network narrow busybox cat /sys/class/net/eth0/mtu
    # The address is kept over a restart.
    docker restart --time 0 fixed
    gives 10.199.7.20 address fixed
}

# step internal: an internal network leads nowhere else
step_internal() {
    docker network create --internal inside
    docker run --detach --name web --network inside busybox sh -c 'echo in >/index.html; exec httpd -f -p 80 -h /'
    eventually 10 docker run --rm --network inside busybox wget -qO- -T 3 http://web
    gives true docker network inspect --format '{{.Internal}}' inside
    docker run --detach --name outside busybox sh -c 'echo out >/index.html; exec httpd -f -p 80 -h /'
    eventually 10 docker run --rm busybox wget -qO- -T 3 "http://$(address outside)"
    fails 1 "" docker exec web wget -qO- -T 2 "http://$(address outside)"
}

# step hosts: --add-host, --dns, --dns-search, --link
step_hosts() {
    has "an added host" "$(docker run --rm --add-host far:10.1.2.3 busybox cat /etc/hosts)" $'10.1.2.3\tfar'
    has "the node's name" "$(docker run --rm --add-host up:host-gateway busybox cat /etc/hosts)" up
    has "a name server" "$(docker run --rm --dns 10.9.9.9 --dns-search example.org --dns-option ndots:3 busybox cat /etc/resolv.conf)" "nameserver 10.9.9.9"
    has "what is searched" "$(docker run --rm --dns-search example.org busybox cat /etc/resolv.conf)" "search example.org"
    docker run --detach --name old busybox sleep 1000
    has "a link" "$(docker run --rm --link old:friend busybox cat /etc/hosts)" "$(address old)"
}

# step network-prune: networks that nobody uses
step_network_prune() {
    docker network create used
    docker network create unused
    docker run --detach --name user --network used busybox sleep 1000
    docker network prune --force
    is "the networks" "$(docker network ls --filter type=custom --format '{{.Name}}')" used
    fails 1 "" docker network rm bridge
}

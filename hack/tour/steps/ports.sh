# shellcheck shell=bash
# Ports of the node that lead into containers. Sourced by step.

# step port: a web page on a mapped port
step_port() {
    docker run --detach --name web --publish 8081:80 nginx
    eventually 10 page http://127.0.0.1:8081/
    has "the page" "$(page http://127.0.0.1:8081/)" "nginx"
    shows 8081 docker port web 80
    has "its line" "$(docker ps --format '{{.Ports}}')" "0.0.0.0:8081->80/tcp"
    fails 125 "8081" docker run --rm --publish 8081:80 busybox true
    docker stop web
    fails 7 "" page http://127.0.0.1:8081/
    docker start web
    eventually 10 page http://127.0.0.1:8081/
}

# step port-own-page: a page of one's own from a bind mount
step_port_own_page() {
    mkdir html
    chmod 0755 html
    echo '<h1>mine</h1>' >html/index.html
    docker run --detach --name web --publish 8082:80 --volume "$PWD/html:/usr/share/nginx/html:ro" nginx
    eventually 10 page_is http://127.0.0.1:8082/ '<h1>mine</h1>'
    echo '<h1>changed</h1>' >html/index.html
    eventually 10 page_is http://127.0.0.1:8082/ '<h1>changed</h1>'
}

# step port-random: a port that the daemon chooses, and all that an image exposes
step_port_random() {
    local port
    docker run --detach --name web --publish 80 nginx
    port=$(docker port web 80 | head -n 1 | sed 's/.*://')
    more "the port" "$port" 1023
    eventually 10 page "http://127.0.0.1:$port/"
    docker run --detach --name all --publish-all nginx
    port=$(docker inspect --format '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}' all)
    eventually 10 page "http://127.0.0.1:$port/"
}

# step port-range: a range onto a range, and one of a range
step_port_range() {
    docker run --detach --name many --publish 9100-9102:8000-8002 busybox sh -c 'for p in 0 1 2; do mkdir /$p; echo $p >/$p/index.html; httpd -p 800$p -h /$p; done; sleep 1000'
    eventually 10 page_is http://127.0.0.1:9100/ 0
    eventually 10 page_is http://127.0.0.1:9101/ 1
    eventually 10 page_is http://127.0.0.1:9102/ 2
    docker run --detach --name first --publish 9110-9111:80 nginx
    docker run --detach --name second --publish 9110-9111:80 nginx
    eventually 10 page http://127.0.0.1:9110/
    eventually 10 page http://127.0.0.1:9111/
    fails 125 "" docker run --rm --publish 9110-9111:80 nginx true
}

# step port-host-ip: bound to one address of the node alone
step_port_host_ip() {
    docker run --detach --name web --publish 127.0.0.2:8083:80 nginx
    eventually 10 page http://127.0.0.2:8083/
    fails 7 "" page http://127.0.0.1:8083/
    # Another address has room for the same port.
    docker run --detach --name other --publish 127.0.0.3:8083:80 nginx
    eventually 10 page http://127.0.0.3:8083/
}

# step port-udp: UDP, beside TCP of the same number
step_port_udp() {
    docker run --detach --name echo --publish 8084:8084/udp --publish 8084:80/tcp busybox sh -c 'mkdir /w; echo tcp >/w/index.html; httpd -p 80 -h /w; udpsvd -E 0.0.0.0 8084 cat'
    answers() {
        python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.sendto(b"over udp", ("127.0.0.1", 8084))
assert s.recv(100) == b"over udp"'
    }
    eventually 15 answers
    eventually 10 page_is http://127.0.0.1:8084/ tcp
}

# step port-from-container: another container reaches it at the gateway
step_port_from_container() {
    docker run --detach --name web --publish 8085:80 nginx
    eventually 10 page http://127.0.0.1:8085/
    has "the page" "$(docker run --rm busybox sh -c 'wget -qO- -T 5 http://$(ip route | awk "/default/ { print \$3 }"):8085/')" nginx
    # Also itself.
    has "the page" "$(docker exec web sh -c 'wget -qO- -T 5 http://$(ip route | awk "/default/ { print \$3 }"):8085/')" nginx
}

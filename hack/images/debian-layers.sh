#!/usr/bin/env bash
# Writes layers of Debian packages with all that they link, to lie above busybox: those that are named, into the directory that is the last argument.
set -euo pipefail

# shellcheck source=hack/images/debian.sh
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

out=${*: -1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
private_apt "$work" deb

# write_layer NAME PACKAGE...
write_layer() {
    local name=$1 root=$work/$1 deb
    shift
    mkdir -p "$root" "$work/debs-$name/partial"
    "${apt[@]}" install -y --no-install-recommends --download-only -o "Dir::Cache::archives=$work/debs-$name" "$@"
    for deb in "$work/debs-$name"/*.deb; do
        dpkg-deb -x "$deb" "$root"
    done
    # Above a root file system with users and directories of its own; nobody reads the rest.
    (cd "$root" && rm -rf dev home proc root run sys tmp var/run var/lock usr/share/{doc,info,lintian,locale,man})
    find "$root/usr" -name gconv -type d -prune -exec rm -rf {} +
    tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1704067200 --format=posix \
        --pax-option=delete=atime,delete=ctime --exclude=./etc/passwd --exclude=./etc/group -cf - . | gzip -n -6 >"$out/$name.tar.gz"
    rm -rf "$root" "$work/debs-$name"
}

for layer in "${@:1:$#-1}"; do
    case $layer in
    # What pods of the suites call by name: names, addresses, connections and load. getent is libc-bin's.
    tools) write_layer tools bash bind9-dnsutils curl iperf iproute2 libc-bin netcat-openbsd socat stress util-linux ;;
    perl) write_layer perl perl-base ;;
    nginx) write_layer nginx nginx ;;
    redis) write_layer redis redis-server ;;
    *) echo "no layer is named '$layer'" >&2 && exit 2 ;;
    esac
done

#!/usr/bin/env bash
# Writes the 8 layers (together about 200 MiB compressed) of the benchmark image into the directory $1.
#
# Files of Debian packages, so that sizes, counts and compressibility are those of real images; the last layer
# is pseudo-random data from a fixed key, which does not compress.
set -euo pipefail

# shellcheck source=hack/images/debian.sh
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

out=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

layers=(
    "base-files base-passwd bash coreutils libc6 libc-bin util-linux perl-base tar gzip sed grep findutils dpkg apt"
    "python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libssl3 libicu72"
    "perl-modules-5.36 libperl5.36 git vim-runtime"
    "cpp-12 libc6-dev linux-libc-dev"
    "gcc-12"
    "libllvm14"
    "golang-1.19-src"
)

private_apt "$work" deb
number=0
for packages in "${layers[@]}"; do
    number=$((number + 1))
    root=$work/layer-$number
    mkdir -p "$root" "$work/debs/$number"
    # shellcheck disable=SC2086 # a list of names
    (cd "$work/debs/$number" && "${apt[@]}" download $packages)
    for deb in "$work/debs/$number"/*.deb; do
        dpkg-deb -x "$deb" "$root"
    done
done
mkdir -p "$work/layer-8/opt/data"
for part in 1 2 3 4; do
    head -c 6M /dev/zero | openssl enc -aes-128-ctr -nosalt -K "0000000000000000000000000000000$part" -iv 0 2>/dev/null \
        >"$work/layer-8/opt/data/part-$part"
done

for number in 1 2 3 4 5 6 7 8; do
    tar -C "$work/layer-$number" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1704067200 --format=posix \
        --pax-option=delete=atime,delete=ctime -cf - . | gzip -n -6 >"$out/layer-$number.tar.gz"
    rm -rf "$work/layer-$number"
done

# shellcheck shell=bash
# private_apt DIRECTORY deb|deb-src: sets $apt to apt-get with lists of its own in DIRECTORY, and fetches them: what the
# machine has configured or installed neither changes nor matters.
private_apt() {
    local mirror=${HUSK_DEBIAN_MIRROR:-http://deb.debian.org/debian}
    mkdir -p "$1/lists/partial"
    echo "$2 [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" >"$1/sources.list"
    apt=(apt-get -qq -o "Dir::Etc::sourcelist=$1/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::status=/dev/null
        -o "Dir::State::lists=$1/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
    "${apt[@]}" update
}

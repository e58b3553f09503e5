# shellcheck shell=bash
# One function a tool: builds it into the directory $1, as version $2. Sourced by build and path.
#
# Tools whose main module has `replace` lines, or is a test package, have a module directory here (go.mod and go.sum);
# the others are installed by version, checked by Go's checksum database.

tools_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools_cache=${HUSK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/husk}/tools

# Static, without debug information, and independent of the directory it was built in.
go_env() { env GOFLAGS='-buildvcs=false -trimpath -modcacherw' GOTOOLCHAIN=auto CGO_ENABLED="${CGO_ENABLED:-0}" GOBIN="${GOBIN:-}" nice -n 10 go "$@"; }

cri_version=sigs.k8s.io/cri-tools/pkg/version.Version
build_crictl() { go_env build -C "$tools_dir/cri-tools" -ldflags "-s -w -X $cri_version=${2#v}" -o "$1/crictl" sigs.k8s.io/cri-tools/cmd/crictl; }
build_critest() { go_env test -C "$tools_dir/cri-tools" -c -ldflags "-s -w -X $cri_version=${2#v}" -o "$1/critest" sigs.k8s.io/cri-tools/cmd/critest; }
build_crictl-e2e() { go_env test -C "$tools_dir/cri-tools" -c -ldflags '-s -w' -o "$1/crictl-e2e" sigs.k8s.io/cri-tools/test/e2e; }
# critest --parallel runs it; the version that critest links.
build_ginkgo() { go_env build -C "$tools_dir/cri-tools" -ldflags '-s -w' -o "$1/ginkgo" github.com/onsi/ginkgo/v2/ginkgo; }

build_registry() { GOBIN=$1 go_env install -ldflags '-s -w' "github.com/distribution/distribution/v3/cmd/registry@$2"; }

build_cni() {
    local p=github.com/containernetworking/plugins/plugins
    GOBIN=$1 go_env install -ldflags "-s -w -X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=$2" \
        "$p/main/bridge@$2" "$p/main/ptp@$2" "$p/main/loopback@$2" "$p/ipam/host-local@$2" "$p/meta/portmap@$2" "$p/meta/firewall@$2"
}

build_kind() { GOBIN=$1 go_env install -ldflags '-s -w' "sigs.k8s.io/kind@$2"; }

# Static as in its releases: a dynamic runc pays for ld.so at every start.
build_runc() { CGO_ENABLED=1 GOBIN=$1 go_env install -tags 'seccomp netgo osusergo' -ldflags '-s -w -linkmode external -extldflags -static' "github.com/opencontainers/runc@$2"; }

build_containerd() {
    local p=github.com/containerd/containerd/v2 flags
    flags="-s -w -X $p/version.Version=$2"
    GOBIN=$1 go_env install -tags 'urfave_cli_no_docs osusergo netgo static_build' -ldflags "$flags" "$p/cmd/containerd@$2" "$p/cmd/ctr@$2"
    GOBIN=$1 go_env install -tags 'urfave_cli_no_docs osusergo netgo static_build no_grpc' -ldflags "$flags" "$p/cmd/containerd-shim-runc-v2@$2"
}

# CRI-O, with pinns, which it pins namespaces with and which is C in the same module. GPG by Go's own code, no btrfs and no
# ostree: what they need is not among the packages of hack/install-deps. conmon, its monitor, is a Debian package.
build_crio() {
    local module=github.com/cri-o/cri-o source
    CGO_ENABLED=1 go_env build -C "$tools_dir/crio" -ldflags '-s -w' -o "$1/crio" \
        -tags 'containers_image_ostree_stub containers_image_openpgp exclude_graphdriver_btrfs seccomp netgo osusergo' "$module/cmd/crio"
    source=$(go_env list -C "$tools_dir/crio" -m -f '{{.Dir}}' "$module")
    gcc -O2 -static -std=c99 -DVERSION="\"${2#v}\"" -o "$1/pinns" "$source"/pinns/src/*.c
}

# kubernetes_flags VERSION: what tells a program of Kubernetes its own version.
kubernetes_flags() {
    local v=k8s.io/component-base/version minor
    minor=${1#v*.} minor=${minor%%.*}
    echo "-s -w -X $v.gitVersion=$1 -X $v.gitMajor=1 -X $v.gitMinor=$minor"
}

# kubernetes_build DIRECTORY VERSION PROGRAM...: all in one call, which compiles what they share once.
kubernetes_build() {
    local dir=$1 version=$2
    shift 2
    go_env build -C "$tools_dir/kubelet" -ldflags "$(kubernetes_flags "$version")" -o "$dir/" "${@/#/k8s.io/kubernetes/cmd/}"
}
build_kubelet() { kubernetes_build "$1" "$2" kubelet; }
build_kubernetes() { kubernetes_build "$1" "$2" kubeadm kubectl kube-apiserver kube-controller-manager kube-scheduler kube-proxy; }

# Kubernetes' own end-to-end tests of a cluster, the conformance suite among them. Vetting two thousand packages would take longer than building.
build_e2e.test() { go_env test -C "$tools_dir/kubelet" -c -vet=off -ldflags "$(kubernetes_flags "$2")" -o "$1/e2e.test" k8s.io/kubernetes/test/e2e; }

# Kubernetes' own tests of a node, and the programs and files of the images that both suites pull.
build_e2e-node() { go_env test -C "$tools_dir/kubelet" -c -vet=off -ldflags "$(kubernetes_flags "$2")" -o "$1/e2e-node" k8s.io/kubernetes/test/e2e_node; }
build_e2e-programs() {
    local p=k8s.io/kubernetes/test/images source
    go_env build -C "$tools_dir/kubelet" -ldflags '-s -w' -o "$1/" \
        "$p/agnhost" "$p/resource-consumer" "$p/resource-consumer/consume-cpu" "$p/regression-issue-74839" "$p/sample-device-plugin"
    GOBIN=$1 go_env install -ldflags '-s -w' "k8s.io/sample-apiserver@v0.${2#v1.}"
    source=$(go_env list -C "$tools_dir/kubelet" -m -f '{{.Dir}}' k8s.io/kubernetes)/test/images
    cp "$source"/agnhost/porter/localhost.{crt,key} "$1/"
    cp -r "$source/nautilus/html" "$1/nautilus"
    cp -r "$source/kitten/html" "$1/kitten"
}

build_etcd() { go_env build -C "$tools_dir/etcd" -ldflags '-s -w' -o "$1/etcd" go.etcd.io/etcd/server/v3; }
build_coredns() { GOBIN=$1 go_env install -ldflags '-s -w' "github.com/coredns/coredns@$2"; }

# What a cluster has beyond what kubeadm sets up.
build_metrics-server() {
    GOBIN=$1 go_env install -ldflags "-s -w -X sigs.k8s.io/metrics-server/pkg/version.gitVersion=$2" "sigs.k8s.io/metrics-server/cmd/metrics-server@$2"
}
build_local-path-provisioner() { GOBIN=$1 go_env install -ldflags "-s -w -X main.VERSION=$2" "github.com/rancher/local-path-provisioner@$2"; }

# A gRPC client that is not Go's, from PyPI: a directory for PYTHONPATH. The venv is only there for its pip.
build_grpcio() {
    nice -n 10 python3 -m venv "$1/venv"
    nice -n 10 "$1/venv/bin/pip" --quiet --disable-pip-version-check install --only-binary :all: --target "$1/grpcio" "grpcio==${2#v}" "grpcio-tools==${2#v}"
    rm -rf "$1/venv"
}

# Docker's client for Python with its tests, and what they import: a directory to run pytest in, with packages/ for PYTHONPATH. Of later versions,
# PyPI has no tests.
build_docker-py() {
    nice -n 10 python3 -m venv "$1/venv"
    nice -n 10 "$1/venv/bin/pip" --quiet --disable-pip-version-check install --only-binary :all: --target "$1/packages" \
        requests==2.31.0 urllib3==1.26.20 websocket-client==1.8.0 packaging==24.2 paramiko==3.5.1 pytest==7.4.4 pytest-timeout==2.3.1
    nice -n 10 "$1/venv/bin/pip" --quiet --disable-pip-version-check download --no-deps --no-binary docker --dest "$1" "docker==${2#v}"
    mkdir "$1/docker-py"
    tar -xzf "$1/docker-${2#v}.tar.gz" --strip-components=1 -C "$1/docker-py"
    rm -r "$1/venv" "$1/docker-${2#v}.tar.gz"
}

# Testcontainers for Python, with the clients of what tests start: a directory for PYTHONPATH.
build_testcontainers-python() {
    nice -n 10 python3 -m venv "$1/venv"
    nice -n 10 "$1/venv/bin/pip" --quiet --disable-pip-version-check install --only-binary :all: --target "$1/testcontainers-python" \
        "testcontainers==${2#v}" docker==7.2.0 requests==2.34.2 urllib3==2.8.0 wrapt==2.5.2 python-dotenv==1.2.4 typing-extensions==4.16.0 redis==8.1.0
    rm -r "$1/venv"
}

# Tests of ours on Testcontainers for Go, and what stands for its reaper in an image.
testcontainers=$tools_dir/../tour/testcontainers
build_testcontainers-go() { go_env test -C "$testcontainers" -c -ldflags '-s -w' -o "$1/testcontainers-go" .; }
build_ryuk() { go_env build -C "$testcontainers" -ldflags '-s -w' -o "$1/ryuk" ./ryuk; }

# A plugin for tests, on containerd's stub.
build_nri-plugin() { go_env build -C "$tools_dir/nri-plugin" -ldflags '-s -w' -o "$1/nri-plugin" .; }

# Debian's, unpacked and not installed, with the libraries that a small system lacks: its package brings configuration into
# /etc/containers, which is a node's own matter.
build_skopeo() {
    local work=$1/apt apt deb
    # shellcheck source=hack/images/debian.sh
    . "$tools_dir/../images/debian.sh"
    mkdir "$work"
    private_apt "$work" deb
    (cd "$work" && "${apt[@]}" download "skopeo=$2" libgpgme11 libassuan0 libgpg-error0 libdevmapper1.02.1 libsubid4)
    for deb in "$work"/*.deb; do
        dpkg-deb -x "$deb" "$1/root"
    done
    rm -r "$work"
    cat >"$1/skopeo" <<'WRAPPER'
#!/usr/bin/env bash
root=$(dirname "${BASH_SOURCE[0]}")/root
export LD_LIBRARY_PATH
for directory in "$root"/usr/lib/*-linux-gnu* "$root"/lib/*-linux-gnu*; do
    LD_LIBRARY_PATH=$directory${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
exec "$root/usr/bin/skopeo" "$@"
WRAPPER
    chmod 0755 "$1/skopeo"
}

# go_unpacked DIRECTORY MODULE@VERSION: the module's files in DIRECTORY, writable: for modules that cannot be installed by version.
go_unpacked() {
    local json
    json=$(cd "$1" && go_env mod download -json "$2")
    cp -r "$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$json")/." "$1"
    chmod -R u+w "$1"
}

# Docker's command line keeps its go.mod under another name; static, because test images lack a C library.
build_docker() {
    mkdir "$1/source"
    go_unpacked "$1/source" "github.com/docker/cli@$2+incompatible"
    cp "$1/source/vendor.mod" "$1/source/go.mod"
    cp "$1/source/vendor.sum" "$1/source/go.sum"
    go_env build -C "$1/source" -mod=mod -ldflags "-s -w -X github.com/docker/cli/cli/version.Version=${2#v}" -o "$1/docker" ./cmd/docker
    rm -r "$1/source"
}

build_docker-compose() {
    go_env build -C "$tools_dir/compose" -ldflags "-s -w -X github.com/docker/compose/v5/internal.Version=$2" -o "$1/docker-compose" github.com/docker/compose/v5/cmd
}

# These have replace lines, with which Go does not install by version. buildctl lies beside buildkitd.
build_buildkitd() {
    mkdir "$1/source"
    go_unpacked "$1/source" "github.com/moby/buildkit@$2"
    go_env build -C "$1/source" -mod=mod -tags 'osusergo netgo static_build' \
        -ldflags "-s -w -X github.com/moby/buildkit/version.Version=$2" -o "$1/" ./cmd/buildkitd ./cmd/buildctl
    rm -r "$1/source"
}
build_docker-buildx() {
    mkdir "$1/source"
    go_unpacked "$1/source" "github.com/docker/buildx@$2"
    go_env build -C "$1/source" -mod=mod -ldflags "-s -w -X github.com/docker/buildx/version.Version=$2" -o "$1/docker-buildx" ./cmd/buildx
    rm -r "$1/source"
}

# The newest Docker Engine, as a peer.
build_dockerd() {
    mkdir "$1/source"
    go_unpacked "$1/source" "github.com/moby/moby/v2@$2"
    go_env build -C "$1/source" -mod=mod -tags 'osusergo netgo' -ldflags "-s -w -X github.com/moby/moby/v2/dockerversion.Version=${2#v}" \
        -o "$1/dockerd" ./cmd/dockerd
    rm -r "$1/source"
}

# Debian's older pair of clients, with dockerd, containerd and runc, unpacked and not installed: no service is started, and the
# machine's own stay as they are.
build_docker-debian() {
    local work=$1/apt apt deb
    # shellcheck source=hack/images/debian.sh
    . "$tools_dir/../images/debian.sh"
    mkdir "$work"
    private_apt "$work" deb
    (cd "$work" && "${apt[@]}" download "docker.io=$2" containerd runc tini docker-compose python3-{attr,cached-property,certifi,chardet,charset-normalizer} \
        python3-{distro,distutils,lib2to3,docker,dockerpty,docopt,dotenv,idna,jsonschema,pkg-resources,pyrsistent,requests,setuptools,six} \
        python3-{texttable,urllib3,websocket,yaml} libyaml-0-2)
    for deb in "$work"/*.deb; do
        dpkg-deb -x "$deb" "$1/root"
    done
    rm -r "$work"
    ln -sf tini-static "$1/root/usr/bin/docker-init"
    ln -s root/usr/sbin/dockerd root/usr/bin/docker root/usr/bin/{containerd,containerd-shim-runc-v2,docker-init} root/usr/sbin/{docker-proxy,runc} "$1/"
    cat >"$1/docker-compose" <<'WRAPPER'
#!/usr/bin/env bash
root=$(dirname "${BASH_SOURCE[0]}")/root
export PYTHONPATH=$root/usr/lib/python3/dist-packages:$root/usr/lib/python3.11 LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(echo "$root"/usr/lib/*-linux-gnu)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec /usr/bin/python3 -W ignore "$root/usr/bin/docker-compose" "$@"
WRAPPER
    chmod 0755 "$1/docker-compose"
}

# tools_names: every name, in the order of the pins (quick ones first).
tools_names() { awk '!/^#/ && NF { print $1 }' "$tools_dir/pins"; }
tools_version() { awk -v n="$1" '$1 == n { print $2 }' "$tools_dir/pins"; }

# tools_home NAME: the directory of NAME's build. Its name holds a hash of all that decides the content.
tools_home() {
    local name=$1 version module=/dev/null hash
    version=$(tools_version "$name")
    [ -n "$version" ] || { echo "no tool is named '$name'; there are: $(tools_names | xargs)" >&2; return 2; }
    case $name in
    crictl | critest | crictl-e2e | ginkgo) module=cri-tools ;;
    kubelet | kubernetes | e2e.test | e2e-node | e2e-programs) module=kubelet ;;
    etcd | nri-plugin | crio) module=$name ;;
    docker-compose) module=compose ;;
    testcontainers-go | ryuk) module=../tour/testcontainers ;;
    esac
    hash=$({
        echo "$name $version"
        declare -f go_env "build_$name"
        case $(declare -f "build_$name") in *go_unpacked*) declare -f go_unpacked ;; esac
        [ "$module" = /dev/null ] || cat "$tools_dir/$module/go.mod" "$tools_dir/$module/go.sum"
        case $name in
        nri-plugin) cat "$tools_dir/$module/main.go" ;;
        testcontainers-go) cat "$testcontainers"/*.go ;;
        ryuk) cat "$testcontainers/ryuk/main.go" ;;
        esac
    } | sha256sum)
    echo "$tools_cache/$name-${version#v}-${hash:0:12}"
}

# tools_build NAME: builds it unless it is there. Whole or not at all: built beside, then renamed; two at once wait.
tools_build() {
    local name=$1 home version start
    home=$(tools_home "$name")
    [ ! -d "$home" ] || return 0
    command -v go >/dev/null || { echo "tools: go is not in PATH (see hack/install-deps)" >&2; return 1; }
    mkdir -p "$tools_cache"
    (
        flock 9
        [ ! -d "$home" ] || exit 0
        version=$(tools_version "$name")
        start=$SECONDS
        echo "tools: building $name $version" >&2
        rm -rf "$home.partial"
        mkdir "$home.partial"
        "build_$name" "$home.partial" "$version" >&2
        mv "$home.partial" "$home"
        echo "tools: built $name $version in $((SECONDS - start)) s" >&2
    ) 9>"$tools_cache/.$name.lock"
}

# tools_path NAME: what callers use: the binary, or for cni, kubernetes and docker-debian (and containerd's companions) the directory of them.
tools_path() {
    local home
    home=$(tools_home "$1")
    case $1 in
    cni | kubernetes | e2e-programs | docker-debian) echo "$home" ;;
    *) echo "$home/$1" ;;
    esac
}

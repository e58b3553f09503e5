#!/usr/bin/env python3
"""Assembles the test images and writes them as the storage directory of a registry (distribution's filesystem driver).

usage: store.py --store DIR --bin DIR [--bench DIR --shapes DIR] [--cluster DIR] [--addons DIR] [--e2e DIR --debian DIR]
                [--docker DIR --ryuk FILE]

--bin holds busybox, server, nnp, pause and hello (static binaries); --bench and --shapes hold what bench-layers.sh and bench-shapes.py
write, for the benchmark images; --cluster holds what `cluster` of build collects, for the images of a Kubernetes cluster; --e2e holds the programs that Kubernetes'
own suites have in their images (e2e-programs of hack/tools), --debian the layers that debian-layers.sh writes for them; --docker holds such layers too, and
--ryuk is the program that runs as Testcontainers' reaper.
The content is reproducible: the same binaries give the same digests on one version of zlib and zstd.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import tarfile
from pathlib import Path

DOCKER = {
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
OCI = {
    "index": "application/vnd.oci.image.index.v1+json",
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "plain": "application/vnd.oci.image.layer.v1.tar",
}
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CREATED = "2024-01-01T00:00:00Z"
PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
NONROOT = "nonroot:x:65532:65532:nonroot:/home:/bin/false\n"
GROUP = """root:x:0:
daemon:x:1:
bin:x:2:
tty:x:5:
www-data:x:33:
nogroup:x:65534:
"""


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layer:
    """A layer's tar, and how it is compressed."""

    def __init__(self, tar, compression="gzip"):
        self.diff_id = digest(tar)
        self.compression = compression
        if compression == "gzip":
            self.blob = gzip.compress(tar, compresslevel=6, mtime=0)
        elif compression == "zstd":
            self.blob = subprocess.run(["zstd", "-q", "-c", "-3"], input=tar, stdout=subprocess.PIPE, check=True).stdout
        else:
            self.blob = tar

    @classmethod
    def from_file(cls, path):
        """A compressed layer: its name ends with .gz or .zst."""
        layer = cls.__new__(cls)
        layer.compression = {".gz": "gzip", ".zst": "zstd"}[path.suffix]
        layer.blob = path.read_bytes()
        tool = subprocess.Popen([layer.compression, "-q", "-d", "-c", path], stdout=subprocess.PIPE)
        layer.diff_id = "sha256:" + hashlib.file_digest(tool.stdout, "sha256").hexdigest()
        if tool.wait() != 0:
            raise OSError(f"{path} cannot be read")
        return layer


class Tree:
    """Collects the entries of a layer, in order."""

    def __init__(self):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", format=tarfile.PAX_FORMAT)

    def _entry(self, name, mode, kind, data=b"", target="", headers=None):
        info = tarfile.TarInfo(name)
        info.pax_headers = headers or {}
        info.mode, info.type, info.size, info.linkname = mode, kind, len(data), target
        info.mtime = 1704067200
        self.tar.addfile(info, io.BytesIO(data))
        return self

    def directory(self, name, mode=0o755):
        return self._entry(name, mode, tarfile.DIRTYPE)

    def file(self, name, data, mode=0o644):
        return self._entry(name, mode, tarfile.REGTYPE, data if isinstance(data, bytes) else data.encode())

    def program(self, path, name, capabilities=0):
        """A file of the node as an executable, with these file capabilities (permitted and effective, bits below 32)."""
        headers = {}
        if capabilities:
            # struct vfs_cap_data of revision 2; every byte is ASCII, as pax wants text.
            value = struct.pack("<5I", 0x02000001, capabilities, 0, 0, 0)
            headers["SCHILY.xattr.security.capability"] = value.decode("ascii")
        return self._entry(name, 0o755, tarfile.REGTYPE, path.read_bytes(), headers=headers)

    def files(self, directory, prefix=""):
        """The files of a directory of the node, in order of their names."""
        for path in sorted(directory.iterdir()):
            self.file(f"{prefix}{path.name}", path.read_bytes())
        return self

    def symbolic_link(self, name, target):
        return self._entry(name, 0o777, tarfile.SYMTYPE, target=target)

    def hard_link(self, name, target):
        return self._entry(name, 0o755, tarfile.LNKTYPE, target=target)

    def layer(self, compression="gzip"):
        self.tar.close()
        return Layer(self.buffer.getvalue(), compression)


class Store:
    """A registry's storage directory: blobs by digest, and per repository links to them."""

    def __init__(self, root):
        self.base = Path(root) / "docker/registry/v2"
        self.digests = {}

    def _link(self, path, value):
        path.mkdir(parents=True, exist_ok=True)
        (path / "link").write_text(value)

    def blob(self, repository, data, kind):
        name = digest(data)
        hexa = name.removeprefix("sha256:")
        path = self.base / "blobs/sha256" / hexa[:2] / hexa / "data"
        if not path.exists():
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
        self._link(self.base / "repositories" / repository / kind / "sha256" / hexa, name)
        return name

    def tag(self, repository, tag, name):
        tags = self.base / "repositories" / repository / "_manifests/tags" / tag
        self._link(tags / "current", name)
        self._link(tags / "index/sha256" / name.removeprefix("sha256:"), name)

    def _platform(self, repository, types, architecture, config, layers):
        document = {
            "architecture": architecture,
            "os": "linux",
            "created": CREATED,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": CREATED, "created_by": "hack/images"} for _ in layers],
        }
        data = json.dumps(document, sort_keys=True).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": types["manifest"],
            "config": {"mediaType": types["config"], "size": len(data), "digest": self.blob(repository, data, "_layers")},
            "layers": [
                {"mediaType": types[layer.compression], "size": len(layer.blob), "digest": self.blob(repository, layer.blob, "_layers")}
                for layer in layers
            ],
        }
        data = json.dumps(manifest, sort_keys=True).encode()
        name = self.blob(repository, data, "_manifests/revisions")
        return {
            "mediaType": types["manifest"],
            "size": len(data),
            "digest": name,
            "platform": {"architecture": architecture, "os": "linux"},
        }

    def image(self, repository, tags, config, layers, types=DOCKER, index=True):
        """Stores an image under its tags; returns the digest that the tags point to."""
        config = {"Env": [PATH], **config}
        entry = self._platform(repository, types, "amd64", config, layers)
        name = entry["digest"]
        if index:
            # The other architecture comes first, so that taking the first entry is a mistake that shows.
            entries = [self._platform(repository, types, "arm64", config, layers), entry]
            document = {"schemaVersion": 2, "mediaType": types["index"], "manifests": entries}
            name = self.blob(repository, json.dumps(document, sort_keys=True).encode(), "_manifests/revisions")
        for tag in tags:
            self.tag(repository, tag, name)
            self.digests[f"{repository}:{tag}"] = name
        return name


def busybox_tree(binaries, passwd=PASSWD, group=GROUP):
    """A root file system of hard links to one busybox: a masked /bin/ls must not mask /bin/sh."""
    busybox = (binaries / "busybox").read_bytes()
    applets = subprocess.run([str(binaries / "busybox"), "--list"], stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    tree = Tree()
    for name, mode in (
        ("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("proc", 0o755), ("root", 0o700), ("run", 0o755),
        ("sys", 0o755), ("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755), ("usr/sbin", 0o755), ("usr/local", 0o755),
        ("usr/local/bin", 0o755), ("var", 0o755), ("var/run", 0o755), ("var/www", 0o755),
    ):  # fmt: skip
        tree.directory(name, mode)
    tree.file("bin/busybox", busybox, 0o755)
    for applet in applets:
        if applet != "busybox":
            tree.hard_link(f"bin/{applet}", "bin/busybox")
    return tree.file("etc/passwd", passwd).file("etc/group", group)


def write_bench_images(store, layers, shapes):
    """What the benchmark pulls: four shapes of an image."""
    for tag, folder, pattern in (
        ("8", layers, "layer-*.tar.gz"), ("8-zstd", shapes, "layer-*.tar.zst"), ("1-gib", shapes, "big.tar.gz"),
        ("60", shapes, "small-*.tar.gz"),
    ):  # fmt: skip
        content = [Layer.from_file(path) for path in sorted(folder.glob(pattern))]
        store.image("husk-bench/layers", [tag], {"Cmd": ["sh"]}, content, OCI)


CAP_NET_BIND_SERVICE = 1 << 10


def write_cluster_images(store, root):
    """What kubeadm names, as published: no shell, programs in PATH; nft beside kube-proxy; CoreDNS without root."""
    versions = json.loads((root / "versions.json").read_text())
    base = Tree().directory("etc").directory("tmp", 0o1777)
    base = base.file("etc/passwd", PASSWD + NONROOT).file("etc/group", GROUP + "nonroot:x:65532:\n").layer()
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd"):
        layers = [base, Tree().program(root / name, f"usr/local/bin/{name}").layer()]
        if name == "kube-proxy":
            nft = Tree()
            for path in sorted((root / "nft").rglob("*")):
                if path.is_file():
                    nft.program(path, str(path.relative_to(root / "nft")))
            layers.insert(1, nft.layer())
        store.image(name, [versions[name]], {"Entrypoint": [f"/usr/local/bin/{name}"]}, layers, OCI)
    # It may bind port 53 by the file's capability: its pod drops all others and allows no more privileges.
    program = Tree().program(root / "coredns", "coredns", CAP_NET_BIND_SERVICE).layer()
    config = {"Entrypoint": ["/coredns"], "User": "nonroot:nonroot", "WorkingDir": "/"}
    store.image("coredns/coredns", [versions["coredns"]], config, [base, program], OCI)


def write_addon_images(store, root):
    """What hack/cluster adds to what kubeadm sets up, as published: the provisioner has a shell beside it, the metrics server nothing."""
    versions = json.loads((root / "versions.json").read_text())
    base = Tree().directory("tmp", 0o1777).file("etc/passwd", PASSWD + NONROOT).file("etc/group", GROUP + "nonroot:x:65532:\n").layer()
    for repository in ("metrics-server/metrics-server", "rancher/local-path-provisioner"):
        name = repository.split("/")[1]
        program = Tree().program(root / name, name).layer()
        store.image(repository, [versions[name]], {"Entrypoint": [f"/{name}"]}, [base, program], OCI)


NGINX = """user www-data;
pid /run/nginx.pid;
error_log stderr;
events {}
http {
    include /etc/nginx/mime.types;
    access_log /dev/stdout;
    server {
        listen 80;
        listen [::]:80;
        root /usr/share/nginx/html;
    }
}
"""


def fake_registry(store, tree, reference, tag):
    """The files that agnhost's fake-registry-server serves: an image of the store under its last name and the given tag."""
    repository = reference.split(":")[0]
    name = f"var/registry/{repository}"

    def put(kind, blob):
        data = (store.base / "blobs/sha256" / blob[7:9] / blob[7:] / "data").read_bytes()
        tree.file(f"{name}/{kind}/sha256/{blob[7:9]}/{blob[7:]}/data", data)
        return data

    tree.file(f"{name}/manifests/{tag}", store.digests[reference] + "\n")
    blobs = {}
    for entry in json.loads(put("manifests", store.digests[reference]))["manifests"]:
        manifest = json.loads(put("manifests", entry["digest"]))
        blobs.update({blob["digest"]: None for blob in [manifest["config"], *manifest["layers"]]})
    for blob in blobs:
        put("blobs", blob)


def write_e2e_images(store, binaries, programs, debian):
    """What Kubernetes' suites of a node and of a cluster pull, as test/utils/image/manifest.go names it."""
    base = busybox_tree(binaries).layer()
    tools, perl, nginx = (Layer.from_file(debian / f"{name}.tar.gz") for name in ("tools", "perl", "nginx"))
    shell = {"Cmd": ["sh"]}

    def image(name, tags, config, layers):
        store.image(f"e2e-test-images/{name}", tags, config, layers, OCI)

    image("busybox", ["1.37.0-2", "1.36.1-1"], shell, [base])
    image("nonroot", ["1.5"], {"User": "1234", **shell}, [base])
    image("perl", ["5.26"], shell, [base, perl])
    nnp = Tree().file("usr/local/bin/nnp", (binaries / "nnp").read_bytes(), 0o6755).layer()
    image("nonewprivs", ["1.4"], {"Cmd": ["nnp"]}, [base, nnp])
    image("ipc-utils", ["1.4"], shell, [base, tools])
    image("glibc-dns-testing", ["2.1.1"], shell, [base, tools])
    config = nginx_config()
    serve = {"Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    for tag in ("1.27.0-2", "1.28.0-2"):
        image("nginx", [tag], {**serve, "Labels": {"version": tag}}, [base, nginx, config])

    users = PASSWD + "user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n"
    groups = GROUP + "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"
    own = Tree().directory("uploads").file("etc/passwd", users).file("etc/group", groups)
    own.file("localhost.crt", (programs / "localhost.crt").read_bytes()).file("localhost.key", (programs / "localhost.key").read_bytes())
    own.program(programs / "agnhost", "agnhost").symbolic_link("agnhost-2", "agnhost")
    # Its package leaves the name to update-alternatives; busybox's nc has not all its options.
    own.symbolic_link("usr/local/bin/nc", "/bin/nc.openbsd")
    fake_registry(store, own, "pause:3.10.2", "testing")
    agnhost = [base, tools, own.layer()]
    serve = {"Entrypoint": ["/agnhost"], "Cmd": ["pause"], "ExposedPorts": {f"{port}/tcp": {} for port in (80, 5000, 8080, 8081, 9376)}}
    for tag in ("2.55", "2.66.1"):
        image("agnhost", [tag], {**serve, "Labels": {"version": tag}}, agnhost)
    for name in ("nautilus", "kitten"):
        # The published one is made of Alpine Linux, and by that the suite knows its files in a volume.
        own = Tree().files(programs / name).file("etc/os-release", 'NAME="Alpine Linux"\nID=alpine\n')
        image(name, ["1.8"], {**serve, "Cmd": ["test-webserver"]}, [*agnhost, own.layer()])

    consumer = Tree().program(programs / "resource-consumer", "consumer").program(programs / "consume-cpu", "consume-cpu")
    image("resource-consumer", ["1.14"], {"Entrypoint": ["/consumer"], "ExposedPorts": {"8080/tcp": {}}}, [base, tools, consumer.layer()])
    for name, tags, arguments in (
        ("sample-apiserver", ["1.29.2"], []), ("regression-issue-74839", ["1.5"], []),
        ("sample-device-plugin", ["1.7", "1.8.0"], ["-alsologtostderr"]),
    ):  # fmt: skip
        image(name, tags, {"Entrypoint": [f"/{name}", *arguments]}, [base, Tree().program(programs / name, name).layer()])


def nginx_config():
    return Tree().directory("var/log/nginx").directory("var/lib/nginx").file("etc/nginx/nginx.conf", NGINX).layer()


def write_docker_images(store, binaries, layers, ryuk):
    """What the tour of Docker's door runs, under the names that tutorials use."""
    base = busybox_tree(binaries).layer()
    nginx, redis = (Layer.from_file(layers / f"{name}.tar.gz") for name in ("nginx", "redis"))
    hello = Tree().program(binaries / "hello", "hello").layer()
    # What docker-py's tests know of it.
    alpine = Tree().directory("var/opt").file("etc/passwd", PASSWD + "postgres:x:70:70::/var/lib/postgresql:/bin/sh\n").layer()
    store.image("library/hello-world", ["latest"], {"Cmd": ["/hello"]}, [hello], OCI)
    for tag in ("latest", "3.10"):
        store.image("library/alpine", [tag], {"Cmd": ["sh"], "Labels": {"tag": tag}}, [base, alpine], OCI)
    for tag in ("latest", "1.36"):
        store.image("library/busybox", [tag], {"Cmd": ["sh"], "Labels": {"tag": tag}}, [base], OCI)
    serve = {"Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    store.image("library/nginx", ["latest"], serve, [base, nginx, nginx_config()])
    serve = {"Cmd": ["redis-server", "--protected-mode", "no"], "ExposedPorts": {"6379/tcp": {}}, "Volumes": {"/data": {}}, "WorkingDir": "/data"}
    store.image("library/redis", ["latest", "7"], serve, [base, redis, Tree().directory("data").layer()])
    # The tags that Testcontainers' libraries ask for: 0.8.1 is Python's, 0.14.0 Go's.
    serve = {"Cmd": ["/bin/ryuk"], "Labels": {"org.testcontainers.ryuk": "true"}}
    store.image("testcontainers/ryuk", ["0.8.1", "0.14.0"], serve, [Tree().directory("bin").program(ryuk, "bin/ryuk").layer()], OCI)


def write_images(store, binaries):
    base = busybox_tree(binaries).layer()
    server = (binaries / "server").read_bytes()
    nginx = Tree().file("usr/sbin/nginx", server, 0o755).layer()
    httpd = Tree().file("usr/local/bin/httpd", server, 0o755).layer()
    nnp = Tree().file("usr/local/bin/nnp", (binaries / "nnp").read_bytes(), 0o6755).layer()
    pause = Tree().file("pause", (binaries / "pause").read_bytes(), 0o755).layer()
    shell = {"Cmd": ["sh"]}

    store.image("e2e-test-images/busybox", ["1.29-2"], shell, [base], OCI)
    serve = {"Entrypoint": ["nginx"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    store.image("e2e-test-images/nginx", ["1.14-2"], serve, [base, nginx])
    serve = {"Cmd": ["httpd"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGINT"}
    store.image("e2e-test-images/httpd", ["2.4.39-4"], serve, [base, httpd])
    store.image("e2e-test-images/nonewprivs", ["1.3"], {"Cmd": ["nnp"]}, [base, nnp])
    store.image("pause", ["3.9"], {"Entrypoint": ["/pause"], "User": "65535:65535"}, [pause])
    # What the peers run as sandbox: another image than 3.9, whose tags critest counts.
    store.image("pause", ["3.10.2"], {"Entrypoint": ["/pause"], "User": "65535:65535", "Labels": {"for": "sandboxes"}}, [pause])

    staging = "k8s-staging-cri-tools"
    store.image(f"{staging}/hostnet-nginx-amd64", ["latest"], {"Entrypoint": ["nginx", "12003"]}, [base, nginx])
    marker = lambda name: Tree().file(name, name).layer()  # noqa: E731
    for name in ("latest", "1", "2", "3"):
        store.image(f"{staging}/test-image-{name}", ["latest"], shell, [base, marker(f"test-image-{name}")])
    store.image(f"{staging}/test-image-digest", ["test"], shell, [base, marker("test-image-digest")])
    for tag in ("test", "all"):
        store.image(f"{staging}/test-image-tag", [tag], shell, [base, marker(tag)], OCI)
    store.image(f"{staging}/test-image-tags", ["1", "2", "3"], shell, [base, marker("same-image")])
    for name, user in (
        ("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:1004"), ("username-group", "www-data:1004"),
    ):  # fmt: skip
        store.image(f"{staging}/test-image-user-{name}", ["latest"], {"User": user, **shell}, [base])
    groups = GROUP + "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"
    users = PASSWD + "default-user:x:1000:1000::/home:/bin/sh\n"
    predefined = Tree().file("etc/passwd", users).file("etc/group", groups).layer()
    store.image(f"{staging}/test-image-predefined-group", ["latest"], {"User": "1000", **shell}, [base, predefined])

    # Not of critest: the same files in each compression, and a plain manifest without an index.
    for compression in ("gzip", "zstd", "plain"):
        store.image("husk-test/busybox", [compression], shell, [busybox_tree(binaries).layer(compression)], OCI, index=False)
    store.image("husk-test/busybox", ["docker"], shell, [base], DOCKER, index=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--bench", type=Path)
    parser.add_argument("--shapes", type=Path)
    parser.add_argument("--cluster", type=Path)
    parser.add_argument("--addons", type=Path)
    parser.add_argument("--e2e", type=Path)
    parser.add_argument("--debian", type=Path)
    parser.add_argument("--docker", type=Path)
    parser.add_argument("--ryuk", type=Path)
    options = parser.parse_args()
    store = Store(options.store)
    write_images(store, options.bin)
    if options.bench:
        write_bench_images(store, options.bench, options.shapes)
    if options.cluster:
        write_cluster_images(store, options.cluster)
    if options.addons:
        write_addon_images(store, options.addons)
    if options.e2e:
        write_e2e_images(store, options.bin, options.e2e, options.debian)
    if options.docker:
        write_docker_images(store, options.bin, options.docker, options.ryuk)
    # Repositories of the three hosts do not collide, so one flat registry serves them all.
    (options.store / "digests.json").write_text(json.dumps(store.digests, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    os.umask(0o022)
    main()

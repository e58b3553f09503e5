#!/usr/bin/env python3
"""Writes images of a store of hack/images as one OCI layout.

usage: archive.py --store DIR --output FILE REPOSITORY...

Every tag of each repository is in it under registry.k8s.io, with all that its manifests name and the store has.
"""

import argparse
import io
import json
import tarfile
from pathlib import Path


class Archive:
    def __init__(self, store, output):
        self.blobs = Path(store) / "docker/registry/v2/blobs/sha256"
        self.tar = tarfile.open(output, "w", format=tarfile.PAX_FORMAT)
        self.done = set()

    def add(self, name, data):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))

    def blob(self, digest):
        """A blob with all that it names; returns its size."""
        hexa = digest.removeprefix("sha256:")
        path = self.blobs / hexa[:2] / hexa / "data"
        if digest not in self.done:
            self.done.add(digest)
            self.tar.add(path, f"blobs/sha256/{hexa}")
            if path.stat().st_size < 1 << 20:
                self.children(path.read_bytes())
        return path.stat().st_size

    def children(self, data):
        try:
            document = json.loads(data)
        except ValueError:
            return
        for entry in document.get("manifests", []) + document.get("layers", []) + [document.get("config")]:
            # An image's configuration has a "config" of its own, which is no descriptor.
            if isinstance(entry, dict) and "digest" in entry:
                self.blob(entry["digest"])

    def close(self, manifests):
        self.add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        self.add("index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())
        self.tar.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("repositories", nargs="+")
    options = parser.parse_args()
    digests = json.loads((Path(options.store) / "digests.json").read_text())
    archive, manifests = Archive(options.store, options.output), []
    for repository in options.repositories:
        tags = [name for name in digests if name.rpartition(":")[0] == repository]
        if not tags:
            parser.error(f"the store has no {repository}")
        for tag in sorted(tags):
            size = archive.blob(digests[tag])
            media_type = "application/vnd.oci.image.index.v1+json"
            names = {"io.containerd.image.name": f"registry.k8s.io/{tag}"}
            manifests.append({"mediaType": media_type, "digest": digests[tag], "size": size, "annotations": names})
    archive.close(manifests)


if __name__ == "__main__":
    main()

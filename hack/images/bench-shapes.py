#!/usr/bin/env python3
"""Makes other shapes of the benchmark image's layers: the same as zstd, one layer of 1 GiB, 60 small layers.

usage: bench-shapes.py LAYERS OUT

LAYERS holds what bench-layers.sh writes (layer-*.tar.gz). OUT gets layer-*.tar.zst, big.tar.gz and small-*.tar.gz.
"""

import gzip
import hashlib
import io
import random
import subprocess
import sys
import tarfile
from pathlib import Path

BIG = 1 << 30
SMALL_LAYERS = 60
FILES = 50
MTIME = 1704067200


def zstd(layers, out):
    """The same tars in the compression that newer builders choose, at its default level."""
    for path in layers:
        with gzip.open(path) as tar, open(out / path.name.replace(".gz", ".zst"), "wb") as compressed:
            subprocess.run(["zstd", "-q", "-c", "-3"], input=tar.read(), stdout=compressed, check=True)


def entry(name, data):
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, MTIME
    return info, io.BytesIO(data)


def big(layers, out):
    """One layer: the files of all the others, then files that do not compress until the tar has 1 GiB."""
    with gzip.GzipFile(out / "big.tar.gz", "wb", compresslevel=6, mtime=0) as compressed:
        with tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for path in layers:
                with tarfile.open(path) as part:
                    for member in part:
                        tar.addfile(member, part.extractfile(member) if member.isreg() else None)
            number = 0
            while tar.offset < BIG:
                data = hashlib.shake_128(f"big {number}".encode()).digest(min(32 << 20, BIG - tar.offset))
                tar.addfile(*entry(f"opt/big/part-{number}", data))
                number += 1


def small(out):
    """Layers as a Dockerfile of many lines makes them: a few dozen small text files each."""
    chance = random.Random(60)
    words = [hashlib.sha256(str(n).encode()).hexdigest()[: 3 + n % 9] for n in range(3000)]
    for number in range(1, SMALL_LAYERS + 1):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for file in range(FILES):
                text = " ".join(chance.choices(words, k=chance.randrange(100, 3000)))
                tar.addfile(*entry(f"srv/layer-{number:02}/file-{file:02}", text.encode()))
        (out / f"small-{number:02}.tar.gz").write_bytes(gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0))


def main():
    layers, out = sorted(Path(sys.argv[1]).glob("layer-*.tar.gz")), Path(sys.argv[2])
    zstd(layers, out)
    big(layers, out)
    small(out)


if __name__ == "__main__":
    main()

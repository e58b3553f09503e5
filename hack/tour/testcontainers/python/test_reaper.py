"""Ryuk removes what a run leaves, and only that."""

import json
import subprocess
import sys
import unittest

from help import busybox, daemon, eventually, exists
from testcontainers.core.container import DockerContainer
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from testcontainers.core.network import Network


def leave():
    """A run that makes one of everything, says what it is, and goes on."""
    network = Network().create()
    volume = daemon().volumes.create(labels={LABEL_SESSION_ID: SESSION_ID})
    running = busybox("").with_network(network).with_volume_mapping(volume.name, "/data", "rw").start()
    # The image declares a volume, which has no name and no label.
    ended = DockerContainer("redis").with_command(["true"]).start()
    ended.wait()
    anonymous = ended.get_wrapped_container().attrs["Mounts"][0]["Name"]
    print(
        json.dumps({
            "session": SESSION_ID,
            "containers": [running.get_container_id(), ended.get_container_id()],
            "networks": [network.id],
            "volumes": [volume.name, anonymous],
        }),
        flush=True,
    )
    sys.stdin.read()


class Reaper(unittest.TestCase):
    def run_of_another(self):
        """Its process, and what it has made."""
        process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        line = process.stdout.readline()
        self.assertTrue(line, "the run ended early")
        return process, json.loads(line)

    def things(self, made):
        """What is there of what was made."""
        client = daemon()
        return [
            f"{kind}: {name}"
            for kind in ("containers", "networks", "volumes")
            for name in made[kind]
            if exists(getattr(client, kind), name)
        ]

    def test_what_a_killed_run_leaves_goes(self):
        with busybox("") as of_this_run:
            process, made = self.run_of_another()
            name = f"testcontainers-ryuk-{made['session']}"
            self.assertEqual(5, len(self.things(made)))
            self.assertTrue(exists(daemon().containers, name))
            process.kill()
            process.wait()
            # It waits ten seconds for the run to come back, as both libraries tell it.
            self.assertFalse(eventually(5, lambda: len(self.things(made)) < 5), "it does not wait")
            self.assertTrue(eventually(45, lambda: not self.things(made)), f"not removed: {self.things(made)}")
            self.assertTrue(eventually(10, lambda: not exists(daemon().containers, name)), "ryuk goes on")
            self.assertTrue(exists(daemon().containers, of_this_run.get_container_id()), "it removes what others made")

    def test_a_run_that_ends_well_takes_its_reaper_along(self):
        process, made = self.run_of_another()
        process.stdin.close()
        self.assertEqual(0, process.wait(timeout=30))
        self.assertFalse(exists(daemon().containers, f"testcontainers-ryuk-{made['session']}"))
        for name in made["containers"]:
            daemon().containers.get(name).remove(force=True, v=True)
        for kind in ("networks", "volumes"):
            for name in made[kind]:
                if exists(getattr(daemon(), kind), name):
                    getattr(daemon(), kind).get(name).remove()


if __name__ == "__main__":
    leave()

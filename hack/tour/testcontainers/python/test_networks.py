"""Containers that reach each other by name, images from Dockerfiles, and applications of compose."""

import pathlib
import subprocess
import tempfile
import unittest

from docker.errors import BuildError
from help import busybox, daemon, exists, page
from testcontainers.compose import DockerCompose
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

WEB = "mkdir /www; echo hello >/www/greeting; httpd -p 8080 -h /www; echo serving"


def web():
    return busybox(WEB).waiting_for(LogMessageWaitStrategy("serving"))


class Networks(unittest.TestCase):
    def get(self, container, name):
        return container.exec(["wget", "-q", "-T", "5", "-O", "-", f"http://{name}:8080/greeting"])

    def test_aliases(self):
        with (
            Network() as network,
            web().with_network(network).with_network_aliases("server", "other-name").with_name("by-its-name"),
            busybox("").with_network(network) as client,
        ):
            for name in ("server", "other-name", "by-its-name"):
                self.assertEqual((0, b"hello\n"), self.get(client, name), name)
            self.assertNotEqual(0, self.get(client, "nobody").exit_code)

    def test_networks_do_not_see_each_other(self):
        with Network() as network, Network() as other:
            server = web().with_network(network).with_network_aliases("server")
            with server, busybox("").with_network(other) as client:
                self.assertNotEqual(0, self.get(client, "server").exit_code)
                network.connect(client.get_container_id(), ["late"])
                self.assertEqual((0, b"hello\n"), self.get(client, "server"))
                # The alias is what others call it.
                self.assertEqual(0, server.exec(["nslookup", "late"]).exit_code)

    def test_a_network_ends(self):
        networks = daemon().networks
        with Network(docker_network_kw={"labels": {"of": "user"}, "internal": True}) as network:
            found = networks.get(network.id).attrs
            self.assertEqual((network.name, True, "user"), (found["Name"], found["Internal"], found["Labels"]["of"]))
            self.assertEqual("python", found["Labels"]["org.testcontainers.lang"])
        self.assertFalse(exists(networks, network.name))


class Images(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = pathlib.Path(scratch.name)

    def write(self, name, text):
        self.directory.joinpath(name).write_text(text)

    def test_a_dockerfile(self):
        self.write("greeting", "hello, ")
        self.write("Dockerfile.test", 'FROM busybox\nARG WHO\nCOPY greeting /\nRUN echo "$WHO" >>/greeting && echo it was built\nCMD ["cat", "/greeting"]\n')
        images = daemon().images
        with DockerImage(self.directory, tag="of-testcontainers:1", dockerfile_path="Dockerfile.test", buildargs={"WHO": "world"}) as image:
            self.assertIn("it was built", "".join(line.get("stream", "") for line in image.get_logs()))
            self.assertEqual(["of-testcontainers:1"], images.get("of-testcontainers:1").tags)
            with DockerContainer(str(image)) as container:
                self.assertEqual(0, container.wait())
                self.assertEqual((b"hello, world\n", b""), container.get_logs())
        self.assertFalse(exists(images, "of-testcontainers:1"))

    def test_an_image_without_a_name(self):
        self.write("Dockerfile", "FROM busybox\nENV IS=nameless\n")
        with DockerImage(self.directory) as image, DockerContainer(image.short_id).with_command(["sh", "-c", "echo $IS"]) as container:
            self.assertEqual(0, container.wait())
            self.assertEqual(b"nameless\n", container.get_logs()[0])

    def test_a_build_that_fails(self):
        self.write("Dockerfile", "FROM busybox\nRUN echo before the end; exit 9\n")
        with self.assertRaisesRegex(BuildError, "9") as failure:
            # Without forcerm, builders before BuildKit keep the container of the step that failed.
            DockerImage(self.directory, tag="never", forcerm=True).build()
        self.assertIn("before the end", "".join(line.get("stream", "") for line in failure.exception.build_log))
        self.assertFalse(exists(daemon().images, "never"))


class Compose(unittest.TestCase):
    def setUp(self):
        if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0:
            self.skipTest("this docker has no compose")

    def test_an_application(self):
        text = f"""
services:
  web:
    image: busybox
    command: ["sh", "-c", "{WEB}; exec sleep 1000"]
    ports: ["127.0.0.1::8080"]
    healthcheck: {{test: ["CMD", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/greeting"], interval: 1s, retries: 30}}
    stop_grace_period: 0s
  client:
    image: busybox
    command: ["sleep", "1000"]
    depends_on: {{web: {{condition: service_healthy}}}}
    stop_grace_period: 0s
"""
        with tempfile.TemporaryDirectory() as directory:
            pathlib.Path(directory, "compose.yaml").write_text(text)
            with DockerCompose(directory, compose_file_name="compose.yaml") as application:
                self.assertEqual({"web", "client"}, {container.Service for container in application.get_containers()})
                host, port = application.get_service_host_and_port("web", 8080)
                self.assertEqual((200, "hello\n"), page(f"http://{host}:{port}/greeting"))
                said = application.exec_in_container(["wget", "-q", "-O", "-", "http://web:8080/greeting"], "client")
                self.assertEqual(("hello\n", 0), (said[0], said[2]))
                self.assertIn("serving", application.get_logs("web")[0])
                name = application.get_container("web").ID
            self.assertFalse(exists(daemon().containers, name))

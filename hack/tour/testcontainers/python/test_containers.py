"""What a container is given, what it says and does, and what is left of it."""

import concurrent.futures
import pathlib
import socket
import tempfile
import unittest

from docker.types import Mount
from help import busybox, daemon, eventually, exists, page, url
from testcontainers.community.nginx import NginxContainer
from testcontainers.community.redis import RedisContainer
from testcontainers.core.container import DockerContainer, ExecConfig
from testcontainers.core.wait_strategies import ContainerStatusWaitStrategy, LogMessageWaitStrategy, PortWaitStrategy


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Given(unittest.TestCase):
    def test_environment(self):
        with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
            file.write("FROM_FILE='several words'\n")
            file.flush()
            container = busybox("").with_env("ONE", "1").with_envs(TWO="zwei", EMPTY="").with_env_file(file.name)
            with container:
                said = container.exec(["sh", "-c", 'echo "$ONE-$TWO-${EMPTY-unset}-$FROM_FILE"']).output
        self.assertEqual(b"1-zwei--several words\n", said)

    def test_command_entrypoint_and_the_rest(self):
        container = DockerContainer("busybox").with_command(["'a", "b c", "$HOME"])
        container.with_kwargs(entrypoint=["printf", "<%s>"], working_dir="/usr", user="33", hostname="somebody")
        with container:
            self.assertEqual(0, container.wait())
            self.assertEqual((b"<'a><b c><$HOME>", b""), container.get_logs())
            config = container.get_wrapped_container().attrs["Config"]
            self.assertEqual(("/usr", "33", "somebody"), (config["WorkingDir"], config["User"], config["Hostname"]))

    def test_a_command_as_one_string(self):
        with DockerContainer("busybox").with_command("sh -c 'echo one string; id -u'").with_kwargs(user="33:33") as container:
            self.assertEqual(0, container.wait())
            self.assertEqual((b"one string\n33\n", b""), container.get_logs())

    def test_labels_of_the_user_and_of_testcontainers(self):
        with busybox("").with_kwargs(labels={"of": "user"}) as container:
            labels = container.get_wrapped_container().labels
            self.assertEqual(("user", "python", "true"), tuple(labels[name] for name in ("of", "org.testcontainers.lang", "org.testcontainers")))
            found = daemon().containers.list(filters={"label": [f"org.testcontainers.session-id={labels['org.testcontainers.session-id']}", "of=user"]})
            self.assertEqual([container.get_container_id()], [one.id for one in found])

    def test_tmpfs(self):
        with busybox("").with_tmpfs_mount("/scratch", "size=16m").with_tmpfs_mount("/other") as container:
            mounts = container.exec(["grep", "^tmpfs /scratch\\|^tmpfs /other", "/proc/mounts"]).output.decode()
            self.assertRegex(mounts, r"tmpfs /scratch tmpfs rw,.*size=16384k")
            self.assertRegex(mounts, r"tmpfs /other tmpfs rw,")
            self.assertNotEqual(0, container.exec(["dd", "if=/dev/zero", "of=/scratch/file", "bs=1M", "count=17"]).exit_code)

    def test_directories_of_the_host(self):
        with tempfile.TemporaryDirectory() as read, tempfile.TemporaryDirectory() as write:
            pathlib.Path(read, "file").write_text("of the host")
            with busybox("").with_volume_mapping(read, "/read").with_volume_mapping(write, "/write", "rw") as container:
                self.assertEqual((0, b"of the host"), container.exec(["cat", "/read/file"]))
                self.assertEqual(0, container.exec(["touch", "/write/new"]).exit_code)
                refused = container.exec(["touch", "/read/newer"])
                self.assertEqual(1, refused.exit_code)
                self.assertIn(b"Read-only file system", refused.output)
            self.assertEqual(["file"], [path.name for path in pathlib.Path(read).iterdir()])
            self.assertEqual(["new"], [path.name for path in pathlib.Path(write).iterdir()])

    def test_volumes(self):
        volumes = daemon().volumes
        volume = volumes.create("testcontainers-kept", labels={"of": "user"})
        self.addCleanup(volume.remove)
        for before, text in (b"", "first"), (b"first\n", "second"):
            mounts = [Mount("/kept", volume.name, type="volume"), Mount("/fresh", None, type="volume")]
            with busybox("").with_kwargs(mounts=mounts) as container:
                said = container.exec(["sh", "-c", f"ls /fresh /kept; echo -n >/fresh/file; echo >/kept/{text}"])
                self.assertEqual((0, b"/fresh:\n\n/kept:\n" + before), said)
                anonymous = [mount["Name"] for mount in container.get_wrapped_container().attrs["Mounts"] if mount["Destination"] == "/fresh"]
                self.assertTrue(exists(volumes, anonymous[0]))
            # Testcontainers removes a container with its volumes, but for those that have a name.
            self.assertFalse(exists(volumes, anonymous[0]))
            self.assertTrue(exists(volumes, volume.name))


class Files(unittest.TestCase):
    def test_copied_in_before_it_starts(self):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, "script")
            path.write_text("#!/bin/sh\necho started by a file\n")
            container = DockerContainer("busybox").with_command(["/opt/new/script"])
            container.with_copy_into_container(path, "/opt/new/script", 0o755).with_copy_into_container(b"bytes", "/etc/bytes")
            with container:
                self.assertEqual(0, container.wait())
                self.assertEqual((b"started by a file\n", b""), container.get_logs())

    def test_copied_in_and_out(self):
        content = bytes(range(256)) * 4096
        with tempfile.TemporaryDirectory() as directory, busybox("") as container:
            tree = pathlib.Path(directory, "tree")
            tree.joinpath("deep").mkdir(parents=True)
            tree.joinpath("deep/file").write_text("deep")
            container.copy_into_container(content, "/tmp/content", 0o640)
            container.copy_into_container(tree, "/srv")
            self.assertEqual((0, b"640 1048576\n"), container.exec(["stat", "-c", "%a %s", "/tmp/content"]))
            self.assertEqual((0, b"deep"), container.exec(["cat", "/srv/tree/deep/file"]))
            back = pathlib.Path(directory, "back")
            container.copy_from_container("/tmp/content", back)
            self.assertEqual(content, back.read_bytes())

    def test_copied_out_when_it_has_ended(self):
        with tempfile.TemporaryDirectory() as directory:
            with DockerContainer("busybox").with_command(["sh", "-c", "echo a report >/report"]) as container:
                self.assertEqual(0, container.wait())
                container.copy_from_container("/report", pathlib.Path(directory, "report"))
            self.assertEqual("a report\n", pathlib.Path(directory, "report").read_text())


class Said(unittest.TestCase):
    def test_exec(self):
        with busybox("") as container:
            self.assertEqual((7, b"both\n"), container.exec(["sh", "-c", "echo both >&2; exit 7"]))
            self.assertEqual((0, b"a string\n"), container.exec("echo a string"))
            config = ExecConfig(["sh", "-c", "id -u; pwd; echo $WHO"], user="33", environment={"WHO": "me"}, workdir="/usr/bin")
            self.assertEqual((0, b"33\n/usr/bin\nme\n"), container.exec(config))

    def test_exec_with_its_streams_apart(self):
        with busybox("") as container:
            both = container.get_wrapped_container().exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
            self.assertEqual((4, (b"out\n", b"err\n")), both)
            only = container.get_wrapped_container().exec_run(["echo", "out"], demux=True)
            self.assertEqual((0, (b"out\n", None)), only)

    def test_exec_of_much(self):
        with busybox("") as container:
            said = container.exec(["sh", "-c", "seq 200000"])
            self.assertEqual(b"".join(b"%d\n" % number for number in range(1, 200001)), said.output)

    def test_logs(self):
        with DockerContainer("busybox").with_command(["sh", "-c", "echo out; echo err >&2; printf unended"]) as container:
            self.assertEqual(0, container.wait())
            self.assertEqual((b"out\nunended", b"err\n"), container.get_logs())
            stamped = container.get_wrapped_container().logs(stderr=False, timestamps=True).decode()
            self.assertRegex(stamped, r"^\d{4}-\d\d-\d\dT\S+Z out\n\d{4}-\d\d-\d\dT\S+Z unended$")
            self.assertEqual(b"unended", container.get_wrapped_container().logs(stderr=False, tail=1))

    def test_logs_that_are_followed(self):
        with DockerContainer("busybox").with_command(["sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.3; done"]) as container:
            self.assertEqual(b"1\n2\n3\n", b"".join(container.get_wrapped_container().logs(stream=True, follow=True)))

    def test_inspection(self):
        with busybox("").with_exposed_ports(80).with_name("inspected") as container:
            info = container.get_container_info()
            self.assertEqual((container.get_container_id(), "/inspected", "running", True), (info.Id, info.Name, info.State.Status, info.State.Running))
            self.assertGreater(info.State.Pid, 0)
            self.assertEqual("created", container.status)
            container.reload()
            self.assertEqual("running", container.status)


class Ports(unittest.TestCase):
    def test_random_ports(self):
        with NginxContainer("nginx") as one, NginxContainer("nginx") as other:
            self.assertNotEqual(url(one, 80), url(other, 80))
            for name, container in (("one", one), ("other", other)):
                container.copy_into_container(name.encode(), "/usr/share/nginx/html/name")
            self.assertEqual((200, "one"), page(url(one, 80, "/name")))
            self.assertEqual((200, "other"), page(url(other, 80, "/name")))

    def test_a_port_that_is_chosen(self):
        port = free_port()
        with DockerContainer("nginx").with_bind_ports(80, port).waiting_for(PortWaitStrategy(80)) as container:
            self.assertEqual(port, container.get_exposed_port(80))
            self.assertEqual(200, page(f"http://127.0.0.1:{port}/")[0])

    def test_a_port_that_is_not_published(self):
        with DockerContainer("nginx") as container, self.assertRaises(ConnectionError):
            container.get_exposed_port(80)

    def test_redis(self):
        with RedisContainer("redis:7", password="secret") as container:
            client = container.get_client()
            self.assertTrue(client.set("visits", 41))
            self.assertEqual(42, client.incr("visits"))
            self.assertEqual((0, b"42\n"), container.exec(["redis-cli", "--no-auth-warning", "-a", "secret", "--raw", "get", "visits"]))
            self.assertIn(b"NOAUTH", container.exec(["redis-cli", "get", "visits"]).output)


class Ends(unittest.TestCase):
    def test_nothing_is_left(self):
        containers = daemon().containers
        with busybox("") as container:
            name = container.get_container_id()
            self.assertTrue(exists(containers, name))
        self.assertFalse(exists(containers, name))

    def test_exit_codes(self):
        with DockerContainer("busybox").with_command(["sh", "-c", "exit 42"]) as container:
            self.assertEqual(42, container.wait())
            container.reload()
            self.assertEqual("exited", container.status)

    def test_a_container_stops_and_starts_again(self):
        with NginxContainer("nginx") as container:
            wrapped, address = container.get_wrapped_container(), url(container, 80)
            wrapped.stop()
            container.reload()
            self.assertEqual("exited", container.status)
            self.assertRaises(OSError, page, address)
            wrapped.start()
            ContainerStatusWaitStrategy().wait_until_ready(container)
            self.assertTrue(eventually(10, lambda: page(url(container, 80))[0] == 200))

    def test_several_at_once(self):
        def start(number):
            container = busybox(f"mkdir /www; echo {number} >/www/number; httpd -p 8080 -h /www").with_exposed_ports(8080)
            self.addCleanup(container.stop)
            return container.waiting_for(PortWaitStrategy(8080).with_poll_interval(0.1)).start()

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            containers = list(pool.map(start, range(8)))
        self.assertEqual([f"{number}\n" for number in range(8)], [page(url(container, 8080, "/number"))[1] for container in containers])
        self.assertEqual(8, len({container.get_exposed_port(8080) for container in containers}))

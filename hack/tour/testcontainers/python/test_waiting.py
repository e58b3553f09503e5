"""Wait strategies: start() returns when what is waited for has happened, and not before."""

import socket
import unittest
from datetime import timedelta

from help import busybox, page, url
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import (
    CompositeWaitStrategy,
    ExecWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)

SECOND = 1_000_000_000  # Docker counts nanoseconds

# Ready after two seconds, in every way that is waited for.
SERVER = """
mkdir /www && sleep 2
echo ready >/www/ready
touch /tmp/ready
echo it is ready >&2
httpd -p 8080 -h /www
"""


def quick(strategy):
    return strategy.with_poll_interval(0.1).with_startup_timeout(timedelta(seconds=60))


class Waiting(unittest.TestCase):
    def server(self, strategy):
        container = busybox(SERVER).with_exposed_ports(8080).waiting_for(quick(strategy))
        self.addCleanup(container.stop)
        self.assertIs(container.start(), container)
        return container

    def test_a_line_of_the_logs(self):
        container = self.server(LogMessageWaitStrategy("^it is ready$"))
        self.assertEqual((b"", b"it is ready\n"), container.get_logs())

    def test_a_listening_port(self):
        container = self.server(PortWaitStrategy(8080))
        with socket.create_connection((container.get_container_host_ip(), container.get_exposed_port(8080)), timeout=5) as connection:
            connection.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
            self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 200 OK\r\n"))

    def test_a_page(self):
        container = self.server(HttpWaitStrategy(8080, "/ready").for_response_predicate(lambda text: text == "ready\n"))
        self.assertEqual((200, "ready\n"), page(url(container, 8080, "/ready")))

    def test_a_status_that_is_no_success(self):
        self.server(HttpWaitStrategy(8080, "/nothing").for_status_code(404))

    def test_a_command(self):
        container = self.server(ExecWaitStrategy(["test", "-e", "/tmp/ready"]))
        self.assertEqual(0, container.exec(["cat", "/www/ready"]).exit_code)

    def test_all_of_several(self):
        self.server(CompositeWaitStrategy(LogMessageWaitStrategy("ready"), PortWaitStrategy(8080), ExecWaitStrategy(["pidof", "httpd"])))

    def test_a_health_check(self):
        check = {"test": ["CMD-SHELL", "cat /www/ready"], "interval": SECOND // 2, "timeout": 10 * SECOND, "retries": 100}
        container = busybox(SERVER).with_kwargs(healthcheck=check).waiting_for(quick(HealthcheckWaitStrategy()))
        with container:
            health = container.get_wrapped_container().attrs["State"]["Health"]
            self.assertEqual("healthy", health["Status"])
            self.assertEqual((0, "ready\n"), (health["Log"][-1]["ExitCode"], health["Log"][-1]["Output"]))
            # It was not at once, and the log has how it was until then.
            self.assertEqual(1, health["Log"][0]["ExitCode"])

    def test_a_health_check_that_fails(self):
        check = {"test": ["CMD-SHELL", "echo all is lost; exit 7"], "interval": SECOND // 2, "retries": 2}
        container = busybox("").with_kwargs(healthcheck=check).waiting_for(quick(HealthcheckWaitStrategy()))
        with self.assertRaisesRegex(RuntimeError, r"unhealthy. Exit code: 7, Output: all is lost"), container:
            pass

    def test_no_health_check(self):
        container = busybox("").waiting_for(quick(HealthcheckWaitStrategy()))
        with self.assertRaisesRegex(RuntimeError, "No health check configured"), container:
            pass

    def test_the_end_of_the_container_ends_the_wait(self):
        container = DockerContainer("busybox").with_command(["sh", "-c", "echo too bad; exit 3"])
        container.waiting_for(quick(LogMessageWaitStrategy("never said")))
        with self.assertRaisesRegex(RuntimeError, r"exited \(status: exited, exit code: 3\)"), container:
            pass

    def test_patience_has_an_end_and_the_logs_are_shown(self):
        strategy = LogMessageWaitStrategy("never said").with_poll_interval(0.1).with_startup_timeout(timedelta(seconds=2))
        container = busybox("echo something else").waiting_for(strategy)
        with self.assertRaisesRegex(TimeoutError, "Container status: running, .* Recent stdout: something else") as failure, container:
            pass
        self.assertEqual(["something else\n"], failure.exception.__notes__)

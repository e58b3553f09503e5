"""What the tests share."""

import time
import urllib.request

import docker
from docker.errors import NotFound
from testcontainers.core.container import DockerContainer


def daemon():
    """The daemon as docker-py sees it: the second opinion on what Testcontainers says."""
    return docker.from_env()


def busybox(script):
    """A container that runs a script and then goes on until it is killed."""
    return DockerContainer("busybox").with_command(["sh", "-c", f"{script}\nexec sleep 1000"])


def url(container, port, path="/"):
    return f"http://{container.get_container_host_ip()}:{container.get_exposed_port(port)}{path}"


def page(address):
    """The status and the text of a page."""
    with urllib.request.urlopen(address, timeout=5) as answer:
        return answer.status, answer.read().decode()


def exists(collection, name):
    """Whether a collection of docker-py (containers, networks, volumes, images) has this one."""
    try:
        collection.get(name)
    except NotFound:
        return False
    return True


def eventually(seconds, condition):
    """Whether the condition becomes true within these seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True

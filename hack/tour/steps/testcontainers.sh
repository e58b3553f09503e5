# shellcheck shell=bash disable=SC2154
# Testcontainers, by which test suites start what they need: tests of ours on its libraries, in hack/tour/testcontainers. Sourced by step.

# as_tests: what the tests find around them.
as_tests() {
    # The libraries look at files of the user's, and compose at the docker in PATH.
    export HOME=$PWD PATH=$PWD/bin:$PATH
    mkdir bin
    ln -s "$TOUR_CLIENT" bin/docker
    # A node that is a container itself makes the libraries take a gateway's address. Its ports are on its loopback all the same.
    [ ! -e /.dockerenv ] || export TESTCONTAINERS_HOST_OVERRIDE=localhost TESTCONTAINERS_CONNECTION_MODE=docker_host
}

# tested PATTERN COMMAND...: it succeeds; otherwise the lines of its output that match name what failed.
tested() {
    local pattern=$1
    shift
    "$@" 2>&1 | tee tests.log || refuse "$(grep -E "$pattern" tests.log | sort -u | paste -sd ';' || tail -n 1 tests.log)"
}

# A reaper takes ten seconds to know that its tests have ended, and goes then.
nothing_left() { is "what is left" "$(docker ps --all --quiet; docker network ls --quiet --filter type=custom; docker volume ls --quiet)" ""; }

# step testcontainers-python: waits, ports, files, exec, logs, mounts, networks, builds, compose, and the reaper, as tests in Python use them
step_testcontainers_python() {
    local packages
    packages=$("$TOUR_HACK/tools/path" testcontainers-python)
    as_tests
    PYTHONPATH=$packages PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore \
        tested '^(FAIL|ERROR): ' python3 -m unittest discover --verbose --start-directory "$TOUR_HACK/tour/testcontainers/python"
    eventually 40 nothing_left
}

# step testcontainers-go: the same as tests in Go use it, with reuse, log consumers and lifecycle hooks
step_testcontainers_go() {
    local tests
    tests=$("$TOUR_HACK/tools/path" testcontainers-go)
    as_tests
    tested '^ *--- FAIL: ' "$tests" -test.v -test.timeout 3m
    eventually 40 nothing_left
}

# shellcheck shell=bash
# What steps of the tour are made of. Sourced by step, after `set -euo pipefail`.
#
# A step is a function step_NAME of a file in steps/, run by a process of its own in a directory of its own ($PWD), against a daemon that has no
# container, volume or network of a user. The comment above it is what --list prints. Its commands are those that a user types.

: "${TOUR_CLIENT:?run it by hack/docker-tour}" "${TOUR_COMPOSE:?}" "${TOUR_REGISTRY:?}" "${TOUR_WRITABLE:?}" "${TOUR_PRIVATE:?}" "${DOCKER_HOST:?}"
socket=${DOCKER_HOST#unix://}

docker() { command "$TOUR_CLIENT" "$@"; }
compose() { command "$TOUR_COMPOSE" "$@"; }

# engine METHOD PATH [CURL-ARGUMENTS...]: the API without a client.
engine() {
    local method=$1 path=$2
    shift 2
    curl -sS --max-time 30 --unix-socket "$socket" -X "$method" "$@" "http://docker$path"
}

# refuse REASON: fails the step.
refuse() {
    echo "$*" >"$PWD/reason"
    exit 1
}

# impossible REASON: ends the step, which counts neither as passed nor as failed.
impossible() {
    echo "$*" >"$PWD/reason"
    exit 77
}

is() { [ "$2" = "$3" ] || refuse "$1 is '$2' instead of '$3'"; }
has() { case $2 in *"$3"*) ;; *) refuse "$1 does not have '$3' in it: '${2:0:400}'" ;; esac; }
lacks() { case $2 in *"$3"*) refuse "$1 has '$3' in it: '${2:0:400}'" ;; esac; }
more() { [ "$2" -gt "$3" ] || refuse "$1 is $2, not more than $3"; }

# gives WANTED COMMAND...: succeeds, and its output is this.
gives() {
    local want=$1 output
    shift
    output=$("$@") || refuse "'$*' failed with $?"
    is "the output of '$*'" "$output" "$want"
}

# shows PART COMMAND...: succeeds, and its output or its errors have this in them.
shows() {
    local part=$1 output
    shift
    output=$("$@" 2>&1) || refuse "'$*' failed with $?: ${output:0:400}"
    has "the output of '$*'" "$output" "$part"
}

# fails STATUS PART COMMAND...: ends with this exit code (a pattern), and says this, whose case is the client's choice.
fails() {
    local want=$1 part=$2 output status=0
    shift 2
    output=$("$@" 2>&1) || status=$?
    # shellcheck disable=SC2053 # it is a pattern
    [[ $status == $want ]] || refuse "the exit code of '$*' is $status instead of $want: ${output:0:400}"
    has "what '$*' says" "${output,,}" "${part,,}"
}

# eventually SECONDS COMMAND...
eventually() {
    local seconds=$1 deadline
    deadline=$((SECONDS + $1))
    shift
    # In a shell of its own, because a check that fails exits.
    until ("$@") >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || refuse "not within $seconds s: $*"
        sleep 0.1
    done
    rm -f "$PWD/reason"
}

# within SECONDS COMMAND...: it ends in that time.
within() {
    local seconds=$1 start=$SECONDS
    shift
    "$@"
    [ $((SECONDS - start)) -le "$seconds" ] || refuse "'$*' took $((SECONDS - start)) s, more than $seconds"
}

# state NAME: running, exited, ...
state() { docker inspect --format '{{.State.Status}}' "$1"; }
in_state() { [ "$(state "$1")" = "$2" ]; }
address() { docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1"; }

# page URL: what a browser would show.
page() { curl -fsS --max-time 5 "$1"; }
page_is() { [ "$(page "$1")" = "$2" ]; }

# terminal COMMAND...: it has a terminal, on which somebody types what standard input says (see terminal --help).
terminal() { "$TOUR_HACK/tour/terminal" "$@"; }

#!/usr/bin/env bash
# Builds a static busybox from Debian's source into the file $1 (a minute on two cores).
#
# Debian's own static package lacks pgrep, ipcs and brctl, and its shell runs applets without executing them, which
# hides a masked /bin/ls.
set -euo pipefail

# shellcheck source=hack/images/debian.sh
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

out=$1
work=$(mktemp -d)

finish() {
    local status=$?
    [ $status -eq 0 ] || tail -n 30 "$work/log" >&3
    rm -rf "$work"
}
trap finish EXIT
exec 3>&2 >"$work/log" 2>&1

private_apt "$work" deb-src
mkdir "$work/source"
cd "$work/source"
"${apt[@]}" source busybox

cd busybox-*/
make -s defconfig
# tc does not compile with kernel headers from 6.8 on. The shell hands on variables whose names are not a shell's, as upstream's
# does by default: keys of Secrets and ConfigMaps may hold dashes.
sed -i -e 's/^# CONFIG_FEATURE_DI_ENV_HACK is not set/CONFIG_FEATURE_DI_ENV_HACK=y/' \
    -e 's/^# CONFIG_STATIC is not set/CONFIG_STATIC=y/' -e 's/^CONFIG_TC=y/# CONFIG_TC is not set/' .config
make -s oldconfig </dev/null
# Its shell keeps variables of the environment from commands when their names are not a shell's (data-1); newer ones do not.
sed -i "s/if (p != \*envp && \*p == '=')/if (strchr(*envp, '='))/" shell/ash.c
grep -qF "if (strchr(*envp, '='))" shell/ash.c
nice -n 10 make -s -j"$(nproc)" busybox
install -m 0755 busybox "$out"

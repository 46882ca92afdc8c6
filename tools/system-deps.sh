#!/bin/sh
# Gets what only a system package can give: PgBouncer, a browser, bubblewrap, a Docker engine.
# Starts no service: the lab and the tests start what they need, when they need it.
set -eu

if ! command -v apt-get >/dev/null; then
    echo "make system-deps needs apt (Debian, Ubuntu). Elsewhere install pgbouncer, chromium, bubblewrap and Docker yourself; macOS: brew install pgbouncer" >&2
    exit 2
fi

# Only what is missing: Docker's own packages, for one, do not go together with Debian's.
missing=
need() {
    package=$1
    shift
    for program; do
        if command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ]; then return; fi
    done
    missing="$missing $package"
}
need pgbouncer pgbouncer
need chromium chromium google-chrome google-chrome-stable
need bubblewrap bwrap
need docker.io dockerd
need debootstrap debootstrap

if [ -z "$missing" ]; then
    echo "All system packages are there."
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "make system-deps must be root to install:$missing. Next: sudo make system-deps" >&2
    exit 2
fi

# Debian starts a service as soon as its package is in, and a pgbouncer on its usual port is in
# the way. This file is where a machine says no to that; one that is there already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi

echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing

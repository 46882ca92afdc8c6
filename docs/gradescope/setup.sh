#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the container of an assignment.
set -euo pipefail
autograder=${AUTOGRADER_ROOT:-/autograder}
export ENGINEROOM_HOME=$autograder/engine-room-home ENGINEROOM_POSTGRES=embedded
export DEBIAN_FRONTEND=noninteractive

apt-get update
apt-get install -y --no-install-recommends ca-certificates make python3 python3-venv
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    apt-get install -y --no-install-recommends python3.11 python3.11-venv # Ubuntu 22.04

cd "$autograder/source/engine-room"
make install
# The first start makes certificates and a cluster; no submission should wait for that.
.venv/bin/engineroom db up
.venv/bin/engineroom db down

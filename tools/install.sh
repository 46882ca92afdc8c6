#!/bin/sh
# Makes .venv with the pinned set in it, or finds at once that it is there.
#
#   tools/install.sh [PYTHON]
#
# This half finds a Python; tools/install.py, which needs one, does the work.
set -eu
cd "$(dirname "$0")/.."
asked=${1:-}

# The usual case, and the only one that must work offline: nothing to do.
if [ -z "$asked" ] && .venv/bin/python -I tools/install.py --fresh 2>/dev/null; then
    exit 0
fi

# Prints "ok", or why this Python will not do. It must run on any Python there ever was.
question='
import sys
found = ".".join([str(part) for part in sys.version_info[:3]])
if sys.version_info < (3, 11):
    print("is Python " + found)
else:
    try:
        import ensurepip, venv
        print("ok")
    except ImportError:
        print("is Python %s without its venv module" % found)
'

if [ -n "$asked" ]; then
    set -- "$asked"
else
    set -- python3.14 python3.13 python3.12 python3.11 python3 python
fi
rejected=
for python; do
    answer=$("$python" -I -c "$question" 2>/dev/null) || answer=
    # Python 2 knows no -I.
    [ -n "$answer" ] || answer=$("$python" -c "$question" 2>/dev/null) || answer=
    case $answer in
        ok) exec "$python" -I tools/install.py ${asked:+--asked} ;;
        '') [ -z "$asked" ] || rejected="$asked cannot be run" ;;
        *) [ -n "$rejected" ] || rejected="$python $answer" ;;
    esac
done

case $rejected in
    *venv*) get="Install that (Debian, Ubuntu: apt install python3-venv)" ;;
    *) get="Install one (Debian 12, Ubuntu 24.04: apt install python3 python3-venv; macOS: brew install python@3.13)" ;;
esac
echo "Engine Room needs Python 3.11 or newer, and ${rejected:-there is none on PATH}. $get, or name one: make install PYTHON=/path/to/python3" >&2
exit 2

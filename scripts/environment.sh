#!/usr/bin/env bash
# Makes .venv if it is not there, and installs into it what pip is told by the arguments.
# Assumes Python 3.11 or later and pip; $PYTHON chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
        if works "$name"; then
            echo "$name"
            return
        fi
    done
    echo "no Python 3.11 or later found; install one, or name it: make PYTHON=/path/to/python3" >&2
    return 1
}

make_venv() {
    local python
    python=$(find_python)
    if "$python" -c 'import ensurepip' >/dev/null 2>&1; then
        "$python" -m venv --clear .venv
    else # Debian and Ubuntu keep ensurepip in a package of its own; pip can serve a venv from outside
        "$python" -m venv --clear --without-pip .venv
        "$python" -m pip --python .venv/bin/python install --quiet pip
    fi
}

works .venv/bin/python || make_venv
.venv/bin/python -m pip install --quiet 'pip>=25.1' # the first that knows --group
.venv/bin/python -m pip install --quiet --constraint constraints.txt "$@"

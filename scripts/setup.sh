#!/usr/bin/env bash
# Make .venv ready for development: everything pinned, bytecode compiled, the package editable. Quick when it is so.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
extras='all,examples,test,dev'

say() { printf '%s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3 python; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die 'no Python 3.11, 3.12 or 3.13 on the PATH. Install one (Debian: apt-get install python3 python3-venv), or name it: make setup PYTHON=/path/to/python3.11'
}

if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python)
    say "setup: making $venv with $("$python" --version)"
    "$python" -m venv "$venv" || {
        rm -rf "$venv"
        die "$python cannot make virtual environments. On Debian: apt-get install python3-venv"
    }
fi

version=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
constraints=constraints/python-$version.txt
[ -f "$constraints" ] || die "no $constraints: Python $version is not pinned here. Remove $venv and use another Python, or run 'make constraints PYTHON_VERSIONS=$version'"

stamp=$venv/.setup-stamp
state=$(cat setup.cfg pyproject.toml "$constraints" scripts/setup.sh | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$state" ] && "$venv/bin/python" -c 'import airflow_zen' 2>/dev/null; then
    exit 0
fi
rm -f "$stamp"

say "setup: installing $(grep -c == "$constraints") pinned packages into $venv (a few minutes the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" uv
# Compiled now, once: an Airflow process reads thousands of modules, and a hundred processes would compile them again
# wherever PYTHONDONTWRITEBYTECODE is set.
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --compile-bytecode \
    --constraint "$constraints" --editable ".[$extras]"
# The build leaves it here, where Airflow would find this provider a second time.
rm -rf airflow_provider_zen.egg-info
printf '%s' "$state" >"$stamp"
say "setup: ready"

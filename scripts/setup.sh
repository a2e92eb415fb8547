#!/usr/bin/env bash
# Make .venv ready for development: everything pinned, bytecode compiled, the package editable. Quick when it is so.
# `scripts/setup.sh ml` adds the large libraries that `make test-ml` exercises.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
extras='test,dev'
part=${1:-}

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

stamp=$venv/.setup${part:+-$part}-stamp
state=$(cat setup.cfg pyproject.toml "$constraints" scripts/setup.sh | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$state" ] && "$venv/bin/python" -c 'import airflow_zen' 2>/dev/null; then
    exit 0
fi
rm -f "$stamp"

say "setup: installing pinned packages into $venv (a few minutes the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" uv
if [ "$part" = ml ]; then
    extras=$extras,test-ml
    # By pip: where there is a build of torch for the CPU alone, pip takes it, and uv one with all of CUDA.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" torch
fi
# Compiled now, once: an Airflow process reads thousands of modules, and a hundred processes would compile them again
# wherever PYTHONDONTWRITEBYTECODE is set.
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --compile-bytecode \
    --constraint "$constraints" --editable ".[$extras]"
# The build leaves it here, where Airflow would find this provider a second time.
rm -rf airflow_provider_zen.egg-info
printf '%s' "$state" >"$stamp"
say "setup: ready"

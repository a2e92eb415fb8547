#!/usr/bin/env bash
# Create .venv for development: pinned dependencies, compiled bytecode, this package editable. Quick if it is up to date.
# `scripts/setup.sh ml` adds the large libraries that `make test-ml` needs.
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
    die 'no Python 3.11, 3.12 or 3.13 on the PATH. Install one (Debian: apt-get install python3 python3-venv), or name one: make setup PYTHON=/path/to/python3.11'
}

if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python)
    say "setup: creating $venv with $("$python" --version)"
    "$python" -m venv "$venv" || {
        rm -rf "$venv"
        die "$python cannot create virtual environments. On Debian: apt-get install python3-venv"
    }
fi

version=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
constraints=constraints/python-$version.txt
[ -f "$constraints" ] || die "no $constraints: Python $version has no pinned dependencies. Remove $venv and use another Python, or run 'make constraints PYTHON_VERSIONS=$version'"

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
    # With pip: it takes a build of torch for the CPU if there is one, while uv takes the one with CUDA.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" torch
fi
# Compile once: an Airflow process imports thousands of modules, and each process would compile them again if
# PYTHONDONTWRITEBYTECODE is set.
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --compile-bytecode \
    --constraint "$constraints" --editable ".[$extras]"
printf '%s' "$state" >"$stamp"
say "setup: ready"

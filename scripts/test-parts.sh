#!/usr/bin/env bash
# Install the programs that tests need and that are not Python packages, if this user may install them.
set -euo pipefail

# program:Debian package
parts='ceph:ceph-common radosgw-admin:ceph-common monmaptool:ceph-base ceph-mon:ceph-mon ceph-osd:ceph-osd radosgw:radosgw chromium-headless-shell:chromium-headless-shell dockerd:docker.io busybox:busybox-static mmdebstrap:mmdebstrap redis-server:redis-server'

missing_packages() {
    local part
    for part in $parts; do
        command -v "${part%%:*}" >/dev/null || printf '%s\n' "${part##*:}"
    done | sort -u | tr '\n' ' '
}

# The emulator of Azure Blob Storage is a program of Node.js, which is not on the PATH.
azurite=3.35.0
azurite_directory=${XDG_CACHE_HOME:-$HOME/.cache}/airflow-zen/azurite

azurite_version() {
    sed -n 's/^ *"version": "\(.*\)",\{0,1\}$/\1/p' "$azurite_directory/node_modules/azurite/package.json" 2>/dev/null | head -n 1
}

if [ "$(azurite_version)" != "$azurite" ]; then
    if ! command -v npm >/dev/null; then
        echo "test-parts: npm is not installed, so tests of Azure are skipped. On Debian or Ubuntu: apt-get install nodejs npm"
    else
        echo "test-parts: installing azurite $azurite"
        mkdir -p "$azurite_directory"
        npm install --prefix "$azurite_directory" --no-audit --no-fund --loglevel=error "azurite@$azurite" >/dev/null
    fi
fi

missing=$(missing_packages)
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "test-parts: $missing is not installed, so tests that need it are skipped. On Debian or Ubuntu: apt-get install --no-install-recommends $missing"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "test-parts: $missing is not installed, so tests that need it are skipped. To install: sudo apt-get install --no-install-recommends $missing"
    exit 0
fi

echo "test-parts: installing $missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 - a list of words
install() { apt-get install --yes --quiet --no-install-recommends $missing >/dev/null; }
# The package lists of a new machine may be empty or old.
install 2>/dev/null || { apt-get update --quiet >/dev/null && install; }

missing=$(missing_packages)
[ -z "$missing" ] || { echo "test-parts: could not install $missing" >&2; exit 1; }

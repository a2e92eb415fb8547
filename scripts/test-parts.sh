#!/usr/bin/env bash
# See that the programs the tests run, and pip cannot bring, are here; install them where that needs no question.
set -euo pipefail

# program:Debian package
parts='ceph:ceph-common radosgw-admin:ceph-common monmaptool:ceph-base ceph-mon:ceph-mon ceph-osd:ceph-osd radosgw:radosgw chromium:chromium redis-server:redis-server'

missing_packages() {
    local part
    for part in $parts; do
        command -v "${part%%:*}" >/dev/null || printf '%s\n' "${part##*:}"
    done | sort -u | tr '\n' ' '
}

missing=$(missing_packages)
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "test-parts: no $missing here; tests that need it are skipped. On Debian or Ubuntu: apt-get install --no-install-recommends $missing"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "test-parts: no $missing here; tests that need it are skipped. To have it: sudo apt-get install --no-install-recommends $missing"
    exit 0
fi

echo "test-parts: installing $missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 - a list of words
install() { apt-get install --yes --quiet --no-install-recommends $missing >/dev/null; }
# The package lists of a fresh machine may be empty or old.
install 2>/dev/null || { apt-get update --quiet >/dev/null && install; }

missing=$(missing_packages)
[ -z "$missing" ] || { echo "test-parts: could not install $missing" >&2; exit 1; }

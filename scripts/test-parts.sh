#!/usr/bin/env bash
# See that the programs the tests run, and pip cannot bring, are here; install them where that needs no question.
set -euo pipefail

declare -A package_of=(
    [ceph]=ceph-base [ceph-mon]=ceph-mon [ceph-osd]=ceph-osd [ceph-mgr]=ceph-mgr
    [monmaptool]=ceph-base [radosgw]=radosgw [radosgw-admin]=radosgw
)

missing_packages() {
    local program
    for program in "${!package_of[@]}"; do
        command -v "$program" >/dev/null || printf '%s\n' "${package_of[$program]}"
    done | sort -u | tr '\n' ' '
}

missing=$(missing_packages)
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "test-parts: Ceph is not installed (wanted: $missing). Its tests are skipped; on Debian or Ubuntu: apt-get install $missing"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "test-parts: not installed: $missing. Their tests are skipped; to have them: sudo apt-get install --no-install-recommends $missing"
    exit 0
fi

echo "test-parts: installing $missing"
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install --yes --quiet --no-install-recommends $missing >/dev/null; }
# The package lists of a fresh machine may be empty or old.
install 2>/dev/null || { apt-get update --quiet >/dev/null && install; }

missing=$(missing_packages)
[ -z "$missing" ] || { echo "test-parts: still missing: $missing" >&2; exit 1; }

#!/usr/bin/env bash
# On Debian and Ubuntu: installs the named packages that are missing when run as root, and
# otherwise prints the command that does. Elsewhere the system is taken as it is.
set -euo pipefail

command -v dpkg-query >/dev/null || exit 0

# Also what a package provides: libglib2.0-0 goes by the name of libglib2.0-0t64 in newer releases.
installed=$(dpkg-query --show --showformat='${db:Status-Status} ${Package}, ${Provides}\n' |
    sed -n 's/^installed //p' | tr ',' '\n' | awk '{print $1}')

missing=()
for package in "$@"; do
    grep -qxF "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    apt-get update
    apt-get install --yes --no-install-recommends "${missing[@]}"
else
    echo "system libraries are missing; install them and try again:" >&2
    echo "    sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

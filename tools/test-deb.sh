#!/bin/bash
#
# Copyright (C) the refund-notify authors
#
# Installs, upgrades and purges the Debian package in a fresh Debian of the
# release that runs here: t/deb/package.t, which serves notifies meanwhile.
#
#   tools/test-deb.sh directory debs newer-debs
#
# The Debian is made in the first directory, and kept there for the next run,
# which begins with a copy of it.  The other two hold what build-deb.sh built.

set -eu

. "$(dirname "$0")/chroot.sh"

in_namespace "$@"

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1/archives/partial"
dir=$(cd "$1" && pwd)
chroot=$dir/root
package=libnginx-mod-http-refund-notify

make_debian "$(. /etc/os-release; echo "$VERSION_CODENAME")" "$dir/base"

rm -rf "$chroot"
cp -a --reflink=auto "$dir/base" "$chroot"
mount_debian "$chroot"
mount --bind "$dir/archives" "$chroot/var/cache/apt/archives"
cp "$2/${package}_"*.deb "$chroot/older.deb"
cp "$3/${package}_"*.deb "$chroot/newer.deb"

# services are to be started here, although no init runs

printf '#!/bin/sh\nexit 0\n' >"$chroot/usr/sbin/policy-rc.d"
chmod 755 "$chroot/usr/sbin/policy-rc.d"

echo "fetching what the package depends on"

if ! chroot "$chroot" sh -c 'apt-get -qq update && apt-get -qqy install \
         --download-only /older.deb' >"$dir/log" 2>&1
then
    tail -n 12 "$dir/log" >&2
    exit 1
fi

# in a network of its own: Debian's nginx takes port 80, and nothing is fetched

export REFUND_NOTIFY_CHROOT=$chroot
cd "$root"
unshare --net sh -c 'ip link set lo up && exec prove -It/lib t/deb/package.t'

#!/bin/bash
#
# Copyright (C) the refund-notify authors
#
# Builds the module in a Debian 13 (trixie) and runs the suite there, with its
# nginx, hiredis, OpenSSL and Redis; what concerns the store with Valkey, too.
#
#   tools/test-trixie.sh directory [test ...]
#
# The Debian is made in the directory, by debootstrap and from the mirror that
# apt uses here, and kept there for the next run.  Named tests only are run with
# Redis only; REFUND_NOTIFY_SANITIZE=1: under the sanitizers.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift

if [ "$(id -u)" != 0 ]; then
    exec sudo env "REFUND_NOTIFY_SANITIZE=${REFUND_NOTIFY_SANITIZE-}" \
        "$root/tools/test-trixie.sh" "$dir" "$@"
fi

# What is mounted in a namespace is gone with its last process, and they go with
# its first: so nothing is left, whichever way this ends.

if [ "${REFUND_NOTIFY_NAMESPACE-}" != "$dir" ]; then
    exec env REFUND_NOTIFY_NAMESPACE="$dir" unshare --mount --pid --fork \
        --kill-child --mount-proc "$root/tools/test-trixie.sh" "$dir" "$@"
fi

trap 'exit 130' INT TERM

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C.UTF-8 HOME=/root TMPDIR=/tmp
unset MAKEFLAGS MFLAGS MAKELEVEL
chroot=$dir/root
source=$chroot/refund-notify


if [ ! -d "$chroot" ]; then
    echo "making a Debian 13 in $dir"
    rm -rf "$dir/new"

    mirror=$(apt-get indextargets --format '$(REPO_URI)' \
                 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' \
             | sort -u | head -n 1)

    if ! debootstrap --variant=minbase trixie "$dir/new" $mirror \
             >"$dir/debootstrap.log" 2>&1
    then
        tail -n 12 "$dir/debootstrap.log" >&2
        exit 1
    fi

    mv "$dir/new" "$chroot"
fi

mount -t proc proc "$chroot/proc"
mount --rbind /dev "$chroot/dev"
cp /etc/resolv.conf "$chroot/etc/resolv.conf"
grep -q localhost "$chroot/etc/hosts" 2>/dev/null \
    || echo '127.0.0.1 localhost' >>"$chroot/etc/hosts"

# the tree as it is, in the place of the last one; what was built there stays

mkdir -p "$source/build"
find "$source" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
tar -C "$root" --exclude=./build --exclude=./.git -cf - . \
    | tar -C "$source" --no-same-owner -xf -

cat >"$source/build/run.sh" <<'END'
set -eu
cd /refund-notify
tools/install-dependencies.sh build suite valkey

name=ngx_http_refund_notify_module.so

if [ -n "${REFUND_NOTIFY_SANITIZE-}" ]; then
    make build-asan
    export REFUND_NOTIFY_MODULE=/refund-notify/build/asan/$name
else
    unset REFUND_NOTIFY_SANITIZE
    make
fi

if [ $# != 0 ]; then
    exec prove -It/lib -j3 "$@"
fi

prove -It/lib -j3 t
echo
echo "the store, with Valkey"
REDIS_SERVER=valkey-server prove -It/lib -j3 t/[23]*.t
END

chroot "$chroot" /bin/bash /refund-notify/build/run.sh "$@"

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

. "$(dirname "$0")/chroot.sh"

in_namespace "$@"

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
chroot=$dir/root
source=$chroot/refund-notify

make_debian trixie "$chroot"
mount_debian "$chroot"
copy_tree "$root" "$source"

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

rc=0
prove -It/lib -j3 t || rc=1
printf '\n%s\n' "the store, with Valkey"
REDIS_SERVER=valkey-server prove -It/lib -j3 t/[23]*.t || rc=1
exit $rc
END

chroot "$chroot" /bin/bash /refund-notify/build/run.sh "$@"

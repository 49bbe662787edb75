# Copyright (C) the refund-notify authors
#
# What the scripts share that work in a Debian of their own.  They source it.


# Runs the script again, with the same arguments, as root and in namespaces of
# mounts and processes.  What is mounted there is gone with the last process,
# and they go with the first: so nothing is left, whichever way it ends.

in_namespace() {
    local self

    self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")

    if [ "$(id -u)" != 0 ]; then
        exec sudo env "REFUND_NOTIFY_SANITIZE=${REFUND_NOTIFY_SANITIZE-}" \
            "$self" "$@"
    fi

    if [ "${REFUND_NOTIFY_NAMESPACE-}" != "$self $*" ]; then
        exec env REFUND_NOTIFY_NAMESPACE="$self $*" unshare --mount --pid \
            --fork --kill-child --mount-proc "$self" "$@"
    fi

    trap 'exit 130' INT TERM

    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export LC_ALL=C.UTF-8 HOME=/root TMPDIR=/tmp
    unset MAKEFLAGS MFLAGS MAKELEVEL
}


# Makes a minimal Debian in a directory by debootstrap, from the mirror that apt
# uses here, unless it is there already.
#
#   make_debian trixie directory

make_debian() {
    local mirror

    if [ -d "$2" ]; then
        return
    fi

    echo "making a Debian ($1) in $2"
    rm -rf "$2.new"

    mirror=$(apt-get indextargets --format '$(REPO_URI)' \
                 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' \
             | sort -u | head -n 1)

    if ! debootstrap --variant=minbase "$1" "$2.new" $mirror >"$2.log" 2>&1
    then
        tail -n 12 "$2.log" >&2
        exit 1
    fi

    mv "$2.new" "$2"
}


# What programs in the Debian of a directory find wanting otherwise

mount_debian() {
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    cp /etc/resolv.conf "$1/etc/resolv.conf"
    grep -q localhost "$1/etc/hosts" 2>/dev/null \
        || echo '127.0.0.1 localhost' >>"$1/etc/hosts"
}


# The tree as it is, in the place of the last one; what was built there stays.

copy_tree() {
    mkdir -p "$2/build"
    find "$2" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
    tar -C "$1" --exclude=./build --exclude=./.git -cf - . \
        | tar -C "$2" --no-same-owner -xf -
}

#!/bin/bash
#
# Copyright (C) the refund-notify authors
#
# Builds the Debian package in a directory of its own, for the nginx that is
# installed, from a copy of the tree: what debhelper writes stays out of it.
#
#   tools/build-deb.sh directory [version]
#
# The version is that of debian/changelog; another one is for trying upgrades.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
version=${2-}
source=$dir/refund-notify

rm -rf "$source" "$dir"/*.deb "$dir"/*.changes "$dir"/*.buildinfo
mkdir -p "$source"
tar -C "$root" --exclude=./build --exclude=./.git --exclude=node_modules \
    -cf - . \
    | tar -C "$source" --no-same-owner -xf -
cd "$source"

if [ -n "$version" ]; then
    sed "1s/(.*)/($version)/" "$root/debian/changelog" >debian/changelog
    echo >>debian/changelog
    cat "$root/debian/changelog" >>debian/changelog
fi

# what a make that calls this has set is not for debhelper's

unset MAKEFLAGS MFLAGS MAKELEVEL

if ! dpkg-buildpackage -b -us -uc -j"$(nproc)" >"$dir/log" 2>&1; then
    tail -n 30 "$dir/log" >&2
    exit 1
fi

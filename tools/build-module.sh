#!/bin/bash
#
# Copyright (C) the refund-notify authors
#
# Builds the module in a directory of its own, which it configures first where
# that was not done yet, or was done in another way.  What has not changed is
# not built again.
#
#   tools/build-module.sh directory [compiler [cc options [ld options]]]
#
# NGINX_SRC: an nginx source tree; by default that of Debian's nginx-dev, with
# the options that Debian's nginx was built with.

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
compiler=${2:-cc}

# what Debian builds its nginx with

cc_opt="-g -O2 -fPIC -fstack-protector-strong -Wformat"
cc_opt="$cc_opt -Werror=format-security -Wdate-time ${3--D_FORTIFY_SOURCE=2}"
ld_opt="-fPIC -Wl,-z,relro -Wl,-z,now ${4-}"

if [ -n "${NGINX_SRC-}" ]; then
    tree=$(cd "$NGINX_SRC" && pwd)
    options=(--with-compat --with-debug --with-threads --with-http_ssl_module
             --with-http_v2_module)

else
    tree=/usr/share/nginx/src

    if [ ! -f $tree/conf_flags ]; then
        echo "no nginx to build against: install Debian's nginx-dev, or name" \
             "a source tree: make NGINX_SRC=directory" >&2
        exit 1
    fi

    . $tree/conf_flags
    options=("${NGX_CONF_FLAGS[@]}")
fi

cd "$tree"
configure=./configure

if [ ! -x $configure ]; then
    configure=auto/configure
fi

command=($configure --builddir="$dir" --with-cc="$compiler"
         --with-cc-opt="$cc_opt" --with-ld-opt="$ld_opt" "${options[@]}"
         --add-dynamic-module="$root")

# another compiler, nginx or list of sources is another build

configured=$(cd "$tree" && printf '%s\n' "$tree" "${command[@]}"
             "$compiler" --version
             cat src/core/nginx.h src/core/ngx_config.h "$root/config" \
                 "$root/config.make")

if [ ! -f "$dir/Makefile" ] \
   || [ "$configured" != "$(cat "$dir/configured" 2>/dev/null)" ]
then
    rm -rf "$dir"
    mkdir -p "$dir"

    if ! "${command[@]}" >"$dir/configure.log" 2>&1; then
        rm -f "$dir/Makefile"
        tail -n 12 "$dir/configure.log" >&2
        exit 1
    fi

    printf '%s\n' "$configured" >"$dir/configured"
fi

version=$(sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' src/core/nginx.h)
installed=$(nginx -v 2>&1 | sed -n 's#^nginx version: [^/]*/\([0-9.]*\).*#\1#p')

echo "building for nginx $version with $compiler in $1"

if [ "${installed:-$version}" != "$version" ]; then
    echo "warning: the nginx installed is $installed, and will not load it" >&2
fi

exec "${MAKE:-make}" -s --no-print-directory -f "$dir/Makefile" \
    -C "$tree" modules

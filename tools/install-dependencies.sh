#!/bin/bash
#
# Copyright (C) the refund-notify authors
#
# Installs the Debian packages that are missing, and says which.
#
#   tools/install-dependencies.sh \
#       [bench|build|coverage|deb|demo|fuzz-coverage|sandbox|suite|test|
#        test-deb|trixie|valkey] ...
#
# No service is started: not nginx' on port 80, nor Redis'.  Where all is
# there, nothing is done, not even apt-get update.

set -eu

# With a source tree of its own nginx needs no package.

build="gcc libc6-dev libhiredis-dev libjansson-dev libssl-dev libxml2-dev"

if [ -n "${NGINX_SRC-}" ]; then
    build="$build libpcre2-dev zlib1g-dev"

else
    build="$build nginx nginx-dev"
fi

simulators="nginx perl libcryptx-perl libio-socket-ssl-perl libjson-xs-perl
            libmojolicious-perl"

demo="$simulators"

if [ "${STORE-}" = redis ]; then
    demo="$demo redis-server"
fi

suite="$simulators ca-certificates chromium chromium-driver curl libfaketime
       openssl pkg-config prometheus python3-jsonschema redis-server strace"

# Debian's nodejs comes without npm, others' with one that Debian's cannot join.

npm=

if ! command -v npm >/dev/null; then
    npm=npm
fi

test="$suite clang libclang-rt-dev dpkg-dev libcmocka-dev libxml-libxml-perl
      nodejs $npm php-cli php-sqlite3 spin valgrind"

bench="$suite gnuplot-nox libnginx-mod-http-lua lua-cjson nodejs $npm
       util-linux valgrind wrk"

wanted=

for purpose in "${@:-build}"; do
    case $purpose in
        bench)    wanted="$wanted $bench" ;;
        build)    wanted="$wanted $build" ;;
        coverage) wanted="$wanted gcovr libjson-xs-perl" ;;
        fuzz-coverage)
                  wanted="$wanted clang libclang-rt-dev llvm $build" ;;
        deb)      wanted="$wanted build-essential debhelper pkgconf" ;;
        demo)     wanted="$wanted $demo" ;;
        sandbox)  wanted="$wanted $demo curl" ;;
        suite)    wanted="$wanted $suite" ;;
        test)     wanted="$wanted $test" ;;
        test-deb) wanted="$wanted debootstrap iproute2 lintian util-linux" ;;
        trixie)   wanted="$wanted debootstrap util-linux" ;;
        valkey)   wanted="$wanted valkey-server" ;;
        *)        echo "usage: $0 [bench|build|coverage|deb|demo|\
fuzz-coverage|sandbox|suite|test|test-deb|trixie|valkey] ..." >&2
                  exit 2 ;;
    esac
done

# Elsewhere the build's own checks name what is missing.

if ! command -v dpkg-query >/dev/null; then
    exit 0
fi

installed=" $(dpkg-query -W -f '${Package}:${db:Status-Status} ' $wanted \
              2>/dev/null || true)"
missing=

for package in $wanted; do
    case "$installed$missing " in
        *" $package:installed "* | *" $package "*) ;;
        *) missing="$missing $package" ;;
    esac
done

if [ -z "$missing" ]; then
    exit 0
fi

echo "installing with apt-get:$missing"

sudo=

if [ "$(id -u)" != 0 ]; then
    sudo=sudo

    if ! command -v sudo >/dev/null; then
        echo "neither root nor sudo: run as root: apt-get install$missing" >&2
        exit 1
    fi
fi

# Debian starts a service when it is installed, unless this file says no.

policy=/usr/sbin/policy-rc.d

if [ ! -e $policy ]; then
    trap '$sudo rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
    $sudo chmod 755 $policy
fi

log=$(mktemp)

apt_get() {
    if ! $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq \
         -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >"$log" 2>&1
    then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
}

apt_get update
apt_get install -y --no-install-recommends $missing
rm -f "$log"

case $missing in
    *nginx* | *prometheus* | *redis-server*)
        echo "their services were not started, and will be at the next boot" \
             "unless they are disabled"
        ;;
esac

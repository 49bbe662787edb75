#!/bin/bash
#
# Copyright (C) the refund-notify authors
#
# Unpacks the source of Debian's nginx into a directory, unless it is there.
#
#   tools/fetch-nginx-source.sh directory
#
# Where apt knows no sources of it, those of Debian's archives are enabled, as
# they stand in apt's own files, in a file beside them.

set -eu

mkdir -p "$(dirname "$1")"
dir=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
parts=/etc/apt/sources.list.d
name=refund-notify-source
sudo=

if [ -f "$dir/src/core/nginx.h" ]; then
    exit 0
fi

if [ "$(id -u)" != 0 ]; then
    sudo=sudo
fi

versions() {
    apt-cache showsrc --only-source nginx 2>/dev/null \
    | sed -n 's/^Version: //p' | sort -rV
}

# one file for each of the two forms; the rest of an entry stays as it is, for
# apt refuses an archive that is signed by two keys

enable() {
    local files one_line deb822

    files=$(apt-get indextargets --format '$(SOURCESENTRY)' \
                'Created-By: Packages' 'Origin: Debian' \
            | sed 's/:[0-9]*$//' | sort -u)

    one_line=$(grep -hE '^deb[[:space:]]' $files /dev/null \
               | sed 's/^deb/deb-src/' || true)

    deb822=$(for file in $files; do
                 case $file in
                     *.sources) cat "$file"; echo ;;
                 esac
             done | sed 's/^Types:.*/Types: deb-src/')

    if [ -n "$one_line" ]; then
        echo "enabling Debian's sources in $parts/$name.list"
        echo "$one_line" | $sudo tee $parts/$name.list >/dev/null
    fi

    if [ -n "$deb822" ]; then
        echo "enabling Debian's sources in $parts/$name.sources"
        echo "$deb822" | $sudo tee $parts/$name.sources >/dev/null
    fi

    if ! $sudo apt-get -qq update; then
        $sudo rm -f $parts/$name.list $parts/$name.sources
        exit 1
    fi
}

if [ -z "$(versions)" ]; then

    # what apt has no lists of is not in its index targets either

    $sudo apt-get -qq update
fi

if [ -z "$(versions)" ]; then
    enable
fi

if [ -z "$(versions)" ]; then
    echo "apt knows no source of nginx: add a \"deb-src\" line of Debian's to" \
         "/etc/apt/sources.list, or name a source tree: make" \
         "NGINX_SRC=directory" >&2
    exit 1
fi

scratch=$dir.new
rm -rf "$dir" "$scratch"
mkdir -p "$scratch"
cd "$scratch"

# That of the nginx installed, which has to load the module; else the newest, or
# an older one where a mirror does not have that yet.

installed=$(dpkg-query -W -f '${source:Version}' nginx 2>/dev/null || true)

for version in $installed $(versions); do
    if apt-get -qq -o APT::Sandbox::User=root source --only-source \
           "nginx=$version" >log 2>&1
    then
        break
    fi
done

if ! mv nginx-*/ "$dir" 2>/dev/null; then
    cat log >&2
    exit 1
fi

rm -rf "$scratch"

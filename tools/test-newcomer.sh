#!/bin/bash
#
# Copyright (C) the refund-notify authors
#
# A newcomer's path, timed: make demo on a fresh Debian of the release that runs
# here, and what of the time was apt's.  Fails if the demo does, or if it takes
# three times what README.md promises, for machines differ.
#
#   tools/test-newcomer.sh directory
#
# The Debian is made in the directory, and kept there for the next run, which
# begins with a copy of it; packages are fetched anew each time.

set -eu

. "$(dirname "$0")/chroot.sh"

in_namespace "$@"

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
chroot=$dir/newcomer

make_debian "$(. /etc/os-release; echo "$VERSION_CODENAME")" "$dir/base"

rm -rf "$chroot"
cp -a --reflink=auto "$dir/base" "$chroot"
mount_debian "$chroot"

# what install-dependencies.sh calls is timed too

cat >"$chroot/usr/local/bin/apt-get" <<'END'
#!/bin/bash
from=$EPOCHREALTIME
/usr/bin/apt-get "$@" || exit
echo "$EPOCHREALTIME - $from" >>/apt
END

chmod 755 "$chroot/usr/local/bin/apt-get"

from=$EPOCHREALTIME
copy_tree "$root" "$chroot/refund-notify"
chroot "$chroot" /bin/bash -eu <<'END'
apt-get -qq update
DEBIAN_FRONTEND=noninteractive \
    apt-get -qqy --no-install-recommends install make >/dev/null 2>&1
cd /refund-notify
make demo
END
to=$EPOCHREALTIME

awk -v total="$to - $from" '
    function seconds(difference,  of) {
        split(difference, of, " - ")
        return of[1] - of[2]
    }

    { apt += seconds($0) }

    END {
        own = seconds(total) - apt
        printf "\nfrom nothing to the end of the demo: %.0f s, ", own + apt
        printf "of which %.0f s were apt'\''s and %.0f s ours\n", apt, own
        exit own > 3 * 60 || own + apt > 3 * 180
    }' "$chroot/apt"

#!/bin/sh
#
# Copyright (C) the refund-notify authors
#
#   t/fuzz/run.sh build/fuzz seconds target
#
# Runs one target and says what it reached: the inputs run, the edges of the
# code (cov) and the features (ft) that libFuzzer counts, and the inputs that it
# keeps for them.  With 0 seconds what is in the corpus is run, and no more; to
# libFuzzer a time of 0 is no limit.

set -eu

dir=$1
seconds=$2
target=$3

case $target in
    v3_headers) dict=headers ;;
    json* | v3* | request) dict=json ;;
    redis* | store*) dict=redis ;;
    *) dict=xml ;;
esac

case $seconds in
    0) limit=-runs=0 ;;
    *) limit=-max_total_time=$seconds ;;
esac

log=$dir/$target.log

mkdir -p "$dir/corpus/$target"

set -- "$dir/corpus/$target" "t/fuzz/corpus/$target"

if [ -d "t/fuzz/seeds/$target" ]; then
    set -- "$@" "t/fuzz/seeds/$target"
fi

if ! "$dir/fuzz_$target" "$limit" -max_len=8192 -timeout=10 \
         -rss_limit_mb=2048 -dict=t/fuzz/$dict.dict \
         -artifact_prefix="$dir/$target-" -print_final_stats=1 \
         "$@" >"$log" 2>&1
then
    tail -n 60 "$log"
    echo "fuzz_$target: FAILED"
    exit 1
fi

awk -v target="$target" -v seconds="$seconds" '
    / cov: / {
        for (i = 1; i < NF; i++) {
            value[$i] = $(i + 1)
        }
    }

    /^stat::number_of_executed_units:/ { runs = $2 }

    END {
        split(value["corp:"], kept, "/")
        printf "fuzz_%-14s %6d s %11d runs %6d cov %6d ft %6d inputs\n",
               target, seconds, runs, value["cov:"], value["ft:"], kept[1]
    }' "$log"

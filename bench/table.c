
/*
 * Copyright (C) the refund-notify authors
 *
 * Fills the table in shared memory with accepted ids, as notifies do: each is
 * claimed and committed.
 *
 *     table bytes ids key
 *
 * bytes: of the zone; key: a key of the store with a %llu for the number of its
 * refund.  Prints how many ids it holds before the first has to go, the bytes
 * of each, and nanoseconds for the two operations: of the first tenth and of
 * the last.
 */


#include "nginx.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ngx_http_refund_store_table.h"


#define BENCH_OWNER   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define BENCH_LEASE   10000
#define BENCH_RETAIN  (72 * 3600 * 1000)


static ngx_uint_t bench_fill(ngx_http_refund_store_table_t *table,
    const char *format, ngx_uint_t from, ngx_uint_t to);
static double bench_now(void);


int
main(int argc, char **argv)
{
    double                          first, last, start;
    size_t                          size;
    ngx_uint_t                      n, held;
    ngx_conf_t                      cf;
    ngx_shm_zone_t                 *zone;
    ngx_http_refund_store_table_t  *table;

    static ngx_str_t  name = ngx_string("refund_store:bench");

    if (argc != 4) {
        fprintf(stderr, "usage: table bytes ids key\n");
        return 1;
    }

    size = strtoull(argv[1], NULL, 10);
    n = strtoull(argv[2], NULL, 10);

    ngx_memzero(&cf, sizeof(ngx_conf_t));

    zone = ngx_http_refund_store_table_add(&cf, &name, size, 0);
    test_zone_init(zone);
    table = zone->data;

    start = bench_now();
    held = bench_fill(table, argv[3], 0, n / 10);
    first = bench_now() - start;

    held += bench_fill(table, argv[3], n / 10, n - n / 10);

    start = bench_now();
    held += bench_fill(table, argv[3], n - n / 10, n);
    last = bench_now() - start;

    printf("%llu %.1f %.0f %.0f\n", (unsigned long long) held,
           (double) size / held, first / (n / 10) * 1e9,
           last / (n / 10) * 1e9);

    test_zone_done(zone);
    test_cleanup();

    return 0;
}


/* How many were added before the first one had to go. */

static ngx_uint_t
bench_fill(ngx_http_refund_store_table_t *table, const char *format,
    ngx_uint_t from, ngx_uint_t to)
{
    char                            text[256];
    ngx_uint_t                      i, held;
    ngx_http_refund_store_fill_t    fill;
    ngx_http_refund_store_entry_t   entry;

    held = 0;

    for (i = from; i < to; i++) {
        ngx_memzero(&entry, sizeof(ngx_http_refund_store_entry_t));

        entry.key.data = (u_char *) text;
        entry.key.len = (size_t) snprintf(text, sizeof(text), format,
                                          (unsigned long long) i);
        entry.owner = (u_char *) BENCH_OWNER;
        entry.lease = BENCH_LEASE;
        entry.retain = BENCH_RETAIN;

        if (ngx_http_refund_store_table_claim(table, &entry)
            != NGX_HTTP_REFUND_STORE_TABLE_OK
            || ngx_http_refund_store_table_commit(table, &entry)
               != NGX_HTTP_REFUND_STORE_TABLE_OK)
        {
            fprintf(stderr, "id %llu was not taken\n", (unsigned long long) i);
            exit(1);
        }

        ngx_http_refund_store_table_fill(table, &fill);

        held += fill.evicted == 0;
    }

    return held;
}


static double
bench_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}


/*
 * Copyright (C) the refund-notify authors
 *
 * Writes notifies as requests of HTTP/1.1, before any time is measured:
 *
 *     notifies directory kind first count extra time
 *
 * directory: of the merchant; kind: one of the names below; of the refunds
 * first, first + 1, ...; extra: bytes that make each longer; time: that v3's
 * are signed as of, seconds.  Before each request stands its length in eight
 * digits.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "notify.h"


typedef struct {
    const char    *name;
    int            version;
    bench_bend_e   bend;
} bench_kind_t;


static void bench_write(const bench_kind_t *kind,
    const bench_notify_t *notify);


static const bench_kind_t  bench_kinds[] = {
    { "v2", 2, BENCH_GENUINE },
    { "v2-other-key", 2, BENCH_OTHER_KEY },
    { "v2-no-req-info", 2, BENCH_NO_REQ_INFO },
    { "v2-bad-fee", 2, BENCH_BAD_FEE },
    { "v2-no-fee", 2, BENCH_NO_FEE },
    { "v3", 3, BENCH_GENUINE },
    { "v3-forged", 3, BENCH_FORGED },
    { "v3-bad-fee", 3, BENCH_BAD_FEE },
    { "v3-no-fee", 3, BENCH_NO_FEE },
    { "v3-other-serial", 3, BENCH_OTHER_SERIAL }
};

#define BENCH_NKINDS  (sizeof(bench_kinds) / sizeof(bench_kinds[0]))


static bench_notify_t  bench_notify;


int
main(int argc, char **argv)
{
    size_t                i, extra;
    uint64_t              n, first, count;
    bench_merchant_t      merchant;
    const bench_kind_t   *kind;

    if (argc != 7) {
        bench_die("usage: notifies directory kind first count extra time");
    }

    kind = NULL;

    for (i = 0; i < BENCH_NKINDS; i++) {
        if (strcmp(argv[2], bench_kinds[i].name) == 0) {
            kind = &bench_kinds[i];
        }
    }

    if (kind == NULL) {
        bench_die("there is no kind \"%s\"", argv[2]);
    }

    first = strtoull(argv[3], NULL, 10);
    count = strtoull(argv[4], NULL, 10);
    extra = strtoul(argv[5], NULL, 10);

    bench_merchant_read(&merchant, argv[1]);

    for (n = first; n < first + count; n++) {

        if (kind->version == 2) {
            bench_v2_notify(&merchant, kind->bend, n, extra, &bench_notify);

        } else {
            bench_v3_notify(&merchant, kind->bend, n, extra,
                            (time_t) strtoll(argv[6], NULL, 10),
                            &bench_notify);
        }

        bench_write(kind, &bench_notify);
    }

    if (fflush(stdout) != 0) {
        bench_die("the notifies cannot be written");
    }

    bench_merchant_free(&merchant);

    return 0;
}


static void
bench_write(const bench_kind_t *kind, const bench_notify_t *notify)
{
    int   n;
    char  head[4096];

    n = snprintf(head, sizeof(head),
                 "POST /wechatpay/refund-notify HTTP/1.1\r\n"
                 "Host: pay.example.com\r\n"
                 "User-Agent: Mozilla/4.0\r\n"
                 "Accept: */*\r\n"
                 "Content-Type: %s\r\n"
                 "Content-Length: %zu\r\n",
                 kind->version == 2 ? "text/xml" : "application/json",
                 notify->len);

    if (kind->version == 3) {
        n += snprintf(head + n, sizeof(head) - n,
                      "Wechatpay-Nonce: %s\r\n"
                      "Wechatpay-Serial: %s\r\n"
                      "Wechatpay-Signature: %s\r\n"
                      "Wechatpay-Signature-Type: WECHATPAY2-SHA256-RSA2048\r\n"
                      "Wechatpay-Timestamp: %s\r\n",
                      notify->nonce, notify->serial, notify->signature,
                      notify->timestamp);
    }

    n += snprintf(head + n, sizeof(head) - n, "\r\n");

    if (printf("%08zu", (size_t) n + notify->len) < 0
        || fwrite(head, 1, (size_t) n, stdout) != (size_t) n
        || fwrite(notify->body, 1, notify->len, stdout) != notify->len)
    {
        bench_die("the notifies cannot be written");
    }
}

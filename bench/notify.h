
/*
 * Copyright (C) the refund-notify authors
 *
 * Notifies as WeChat Pay sends them, in the form of its public documentation of
 * the v2 and the v3 refund notify: each of a refund of its own, encrypted and
 * signed as it has to be.
 */


#ifndef BENCH_NOTIFY_H
#define BENCH_NOTIFY_H


#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <openssl/evp.h>


/* of the decrypted part, what makes it longer; and of all that it becomes */

#define BENCH_NOTIFY_EXTRA_MAX  (64 * 1024)
#define BENCH_NOTIFY_MAX        (4 * BENCH_NOTIFY_EXTRA_MAX)


typedef struct {
    char             mch_id[33];
    char             v2_key[33];
    char             v3_key[33];
    char             serial[65];
    EVP_PKEY        *key;               /* WeChat Pay's, which signs */
    EVP_CIPHER_CTX  *cipher;
} bench_merchant_t;


/* How one can be other than WeChat Pay would send it. */

typedef enum {
    BENCH_GENUINE = 0,
    BENCH_OTHER_KEY,                    /* v2: encrypted under a stranger's */
    BENCH_NO_REQ_INFO,                  /* v2 */
    BENCH_BAD_FEE,                      /* of what is refunded: no fen */
    BENCH_NO_FEE,                       /* what is refunded is not said */
    BENCH_FORGED,                       /* v3: a bit of the signature is off */
    BENCH_OTHER_SERIAL                  /* v3 */
} bench_bend_e;


typedef struct {
    char             body[BENCH_NOTIFY_MAX];
    size_t           len;

    /* v3 */
    char             timestamp[21];
    char             nonce[33];
    char             serial[65];
    char             signature[1025];
} bench_notify_t;


/*
 * Reads mch_id, v2.key, v3.key, serial and wechatpay.key of a directory.  What
 * is missing ends the program, here and below, with a line that says what.
 */

void bench_merchant_read(bench_merchant_t *merchant, const char *directory);
void bench_merchant_free(bench_merchant_t *merchant);


/*
 * Makes the notify of refund n, with extra bytes, at most
 * BENCH_NOTIFY_EXTRA_MAX, of a field that is none of the documented ones.
 */

void bench_v2_notify(bench_merchant_t *merchant, bench_bend_e bend, uint64_t n,
    size_t extra, bench_notify_t *notify);


/* v3's is signed as of a time, seconds. */

void bench_v3_notify(bench_merchant_t *merchant, bench_bend_e bend, uint64_t n,
    size_t extra, time_t time, bench_notify_t *notify);


/* Prints the line, with OpenSSL's errors, and ends the program. */

void bench_die(const char *format, ...)
    __attribute__ ((format(printf, 1, 2), noreturn));


#endif /* BENCH_NOTIFY_H */

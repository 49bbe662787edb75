
/*
 * Copyright (C) the refund-notify authors
 *
 * The protocol of WeChat Pay, free of nginx: what every file here shares.
 */


#ifndef WECHATPAY_H
#define WECHATPAY_H


#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>


/* A span of bytes that somebody else owns; not terminated by a NUL. */

typedef struct {
    const unsigned char  *data;
    size_t                len;
} wechatpay_str_t;

#define wechatpay_string(s)  { (const unsigned char *) (s), sizeof(s) - 1 }


/*
 * Returns 1 if both hold the same bytes, else 0.  Not for secrets: the time
 * that it takes tells where they differ.
 */

static inline int
wechatpay_str_equal(wechatpay_str_t a, wechatpay_str_t b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}


/*
 * Where results are put: alloc(data, size) returns size bytes (alignment as
 * malloc()'s) that live as long as the results are used, or NULL.  Nothing is
 * ever given back piece by piece: the caller drops all of it at once.
 */

typedef struct {
    void  *(*alloc)(void *data, size_t size);
    void    *data;
} wechatpay_memory_t;


typedef enum {
    WECHATPAY_VERSION_UNKNOWN = 0,
    WECHATPAY_V2,
    WECHATPAY_V3
} wechatpay_version_e;


/*
 * How a notify can end: the word in the answer, in $refund_notify_result and
 * in the counters, and the HTTP status of a v3 answer.  A v2 answer is always
 * HTTP 200.
 */

#define WECHATPAY_RESULTS(X)                                                  \
    X(DELIVERED,     "delivered",     200)                                    \
    X(DUPLICATE,     "duplicate",     200)                                    \
    X(IGNORED,       "ignored",       200)                                    \
    X(UNSUPPORTED,   "unsupported",   403)                                    \
    X(IN_FLIGHT,     "in_flight",     503)                                    \
    X(UPSTREAM_ERROR, "upstream_error", 502)                                  \
    X(DEADLINE,      "deadline",      504)                                    \
    X(STORE_ERROR,   "store_error",   503)                                    \
    X(MALFORMED,     "malformed",     400)                                    \
    X(UNVERIFIED,    "unverified",    401)                                    \
    X(UNDECRYPTABLE, "undecryptable", 400)                                    \
    X(MISMATCH,      "mismatch",      403)

typedef enum {
#define X(name, word, status)  WECHATPAY_RESULT_##name,
    WECHATPAY_RESULTS(X)
#undef X
    WECHATPAY_RESULT_COUNT
} wechatpay_result_e;


#endif /* WECHATPAY_H */


/*
 * Copyright (C) the refund-notify authors
 *
 * From the bytes of a notify to a refund that is proven to be the merchant's.
 */


#ifndef WECHATPAY_NOTIFY_H
#define WECHATPAY_NOTIFY_H


#include "wechatpay_error.h"
#include "wechatpay_merchant.h"
#include "wechatpay_refund.h"


/*
 * The parsers' contexts, one a worker, reused for each notify, whose refund
 * needs them no more.  On the heap, and the caller's, who destroys them; NULL:
 * out of memory, which may be destroyed too.
 */

typedef struct wechatpay_parser_s  wechatpay_parser_t;

wechatpay_parser_t *wechatpay_parser_create(void);
void wechatpay_parser_destroy(wechatpay_parser_t *parser);


/* Told by the first character after white space: '<' v2, '{' v3. */

wechatpay_version_e wechatpay_notify_version(wechatpay_str_t body);


/*
 * Parses, decrypts and checks a v2 notify (the <xml> around, req_info, the
 * <root> within).  On WECHATPAY_OK refund is filled; its spans lie in memory.
 */

wechatpay_error_e wechatpay_v2_notify(wechatpay_parser_t *parser,
    wechatpay_merchant_t *merchant, wechatpay_str_t body,
    wechatpay_memory_t *memory, wechatpay_refund_t *refund);


/*
 * The request headers that a v3 notify is signed with.  Zero it, offer it every
 * header of the request (lower-case name; the value is not copied), and give
 * it to wechatpay_v3_notify(), which refuses a missing, empty, repeated or
 * oversized one.
 */

typedef enum {
    WECHATPAY_HEADER_TIMESTAMP = 0,
    WECHATPAY_HEADER_NONCE,
    WECHATPAY_HEADER_SIGNATURE,
    WECHATPAY_HEADER_SERIAL,
    WECHATPAY_HEADER_SIGNATURE_TYPE,    /* optional */
    WECHATPAY_HEADER_COUNT
} wechatpay_header_e;

typedef struct {
    wechatpay_str_t   value[WECHATPAY_HEADER_COUNT];
    unsigned          count[WECHATPAY_HEADER_COUNT];
} wechatpay_headers_t;

/* Returns 1 if it is a header of WeChat Pay's signature, else 0. */

int wechatpay_headers_add(wechatpay_headers_t *headers, wechatpay_str_t name,
    wechatpay_str_t value);


/*
 * Verifies the signature over body, then parses, decrypts and checks it.
 * now: wall clock, seconds; skew: seconds either way that the timestamp may be
 * off.  WECHATPAY_OK: refund is filled.  A verified SECURITY_ECHO.SUCCESS gives
 * an error whose result is IGNORED, another event one that is UNSUPPORTED.
 */

wechatpay_error_e wechatpay_v3_notify(wechatpay_parser_t *parser,
    wechatpay_merchant_t *merchant, const wechatpay_headers_t *headers,
    wechatpay_str_t body, time_t now, time_t skew,
    wechatpay_memory_t *memory, wechatpay_refund_t *refund);


#endif /* WECHATPAY_NOTIFY_H */

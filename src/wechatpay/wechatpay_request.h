
/*
 * Copyright (C) the refund-notify authors
 *
 * What a business app asks for, checked as far as it can be before anything is
 * signed: the body is that of v3's refund under either version of the API, as
 * WeChat Pay's pages on the refund, its query and the abnormal refund have it.
 */


#ifndef WECHATPAY_REQUEST_H
#define WECHATPAY_REQUEST_H


#include "wechatpay_failure.h"
#include "wechatpay_merchant.h"


#define WECHATPAY_REQUEST_MAX_BODY    (64 * 1024)
#define WECHATPAY_REQUEST_DIGEST_LEN  64


typedef enum {
    WECHATPAY_CALL_CREATE = 0,
    WECHATPAY_CALL_QUERY,
    WECHATPAY_CALL_ABNORMAL         /* v3 only */
} wechatpay_call_e;


/* The spans live in the memory given; a string with len 0 is absent. */

typedef struct {
    wechatpay_version_e  version;
    wechatpay_call_e     call;

    /* create: exactly one of the order's; query under v2: one of the four */
    wechatpay_str_t      refund_id;
    wechatpay_str_t      out_refund_no;
    wechatpay_str_t      transaction_id;
    wechatpay_str_t      out_trade_no;
    wechatpay_str_t      sub_mch_id;

    /* create */
    int64_t              refund;            /* fen */
    int64_t              total;             /* fen */
    wechatpay_str_t      currency;
    wechatpay_str_t      reason;
    wechatpay_str_t      notify_url;
    wechatpay_str_t      funds_account;     /* v3's name */

    wechatpay_str_t      offset;            /* query under v2, digits */

    wechatpay_str_t      json;              /* v3: the body that goes out */
} wechatpay_request_t;


/* What a query's arguments are, unescaped; those that are absent: len 0. */

typedef struct {
    wechatpay_str_t      refund_id;
    wechatpay_str_t      out_refund_no;
    wechatpay_str_t      transaction_id;
    wechatpay_str_t      out_trade_no;
    wechatpay_str_t      sub_mch_id;
    wechatpay_str_t      offset;
} wechatpay_query_t;


/*
 * Each of these returns 0 with request filled, or -1 with failure filled, whose
 * field names what is wrong ("amount.refund", "goods_detail[].unit_price").
 * Nothing of the result lies in what they are given, but for the notify_url.
 */


/* body: at most WECHATPAY_REQUEST_MAX_BODY bytes; notify_url: the one that is
 * sent where the body has none, checked before; or len 0. */

int wechatpay_request_create(const wechatpay_merchant_t *merchant,
    wechatpay_version_e version, wechatpay_str_t body,
    wechatpay_str_t notify_url, wechatpay_memory_t *memory,
    wechatpay_request_t *request, wechatpay_failure_t *failure);


/*
 * Of several ids the first of refund_id, out_refund_no, transaction_id,
 * out_trade_no decides; v3 knows out_refund_no only.  The others are absent in
 * request.
 */

int wechatpay_request_query(const wechatpay_merchant_t *merchant,
    wechatpay_version_e version, const wechatpay_query_t *query,
    wechatpay_memory_t *memory, wechatpay_request_t *request,
    wechatpay_failure_t *failure);


/*
 * refund_id: of the path, unescaped.  bank_account and real_name leave this
 * function only as encrypted (RSA-OAEP with SHA-1, as WeChat Pay's page on the
 * encryption of sensitive fields has it) to the key of
 * wechatpay_merchant_serial().  The strings of the parsed object are wiped;
 * body is the caller's, who should wipe it.  What remains is in memory that
 * Jansson's parser has freed: the characters that it gathered last of a string,
 * for whose wiping the allocator of the whole process would have to be another.
 */

int wechatpay_request_abnormal(const wechatpay_merchant_t *merchant,
    wechatpay_version_e version, wechatpay_str_t refund_id,
    wechatpay_str_t body, wechatpay_memory_t *memory,
    wechatpay_request_t *request, wechatpay_failure_t *failure);


/*
 * NULL, or what is wrong with the URL, static: https, no query, at most 256
 * bytes, as WeChat Pay's page on notify_url has it.
 */

const char *wechatpay_request_notify_url(wechatpay_str_t url);


/*
 * What a repeated create has to have in common with the first under its
 * out_refund_no: SHA-256 in lower-case hex over the order's id and its kind,
 * refund, total, currency and sub_mch_id.  Returns 0, or -1: out of memory.
 */

int wechatpay_request_digest(const wechatpay_request_t *request,
    unsigned char digest[WECHATPAY_REQUEST_DIGEST_LEN]);


#endif /* WECHATPAY_REQUEST_H */

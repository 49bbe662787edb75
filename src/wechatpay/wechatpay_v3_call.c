
/*
 * Copyright (C) the refund-notify authors
 *
 * The refund, its query and the abnormal refund of API v3, as WeChat Pay's
 * pages on them have it, under a signature as its page on signing has it.
 */


#include <stdio.h>

#include <openssl/err.h>

#include "wechatpay_call_internal.h"
#include "wechatpay_merchant_internal.h"


#define WECHATPAY_V3_REFUNDS   "/v3/refund/domestic/refunds"
#define WECHATPAY_V3_ABNORMAL  "/apply-abnormal-refund"


static int wechatpay_v3_call_target(const wechatpay_request_t *request,
    wechatpay_memory_t *memory, wechatpay_call_t *call);
static unsigned char *wechatpay_v3_call_escape(unsigned char *dst,
    wechatpay_str_t path);
static int wechatpay_v3_call_digest(EVP_MD_CTX *sha256,
    const wechatpay_call_t *call, wechatpay_str_t timestamp,
    wechatpay_str_t nonce, unsigned char digest[SHA256_DIGEST_LENGTH]);
static int wechatpay_v3_call_authorization(
    const wechatpay_merchant_t *merchant, wechatpay_str_t timestamp,
    wechatpay_str_t nonce, wechatpay_memory_t *memory,
    wechatpay_call_t *call);


int
wechatpay_v3_call(wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, time_t now, wechatpay_str_t nonce,
    wechatpay_memory_t *memory, wechatpay_call_t *call)
{
    char             text[24];
    wechatpay_str_t  timestamp;

    static const wechatpay_str_t  get = wechatpay_string("GET");
    static const wechatpay_str_t  post = wechatpay_string("POST");
    static const wechatpay_str_t  json = wechatpay_string("application/json");

    call->method = post;
    call->accept = json;
    call->serial = wechatpay_merchant_serial(merchant);

    if (request->call == WECHATPAY_CALL_QUERY) {
        call->method = get;

    } else {
        call->content_type = json;
        call->body = request->json;
    }

    timestamp.data = (unsigned char *) text;
    timestamp.len = (size_t) snprintf(text, sizeof(text), "%lld",
                                      (long long) now);

    if (wechatpay_v3_call_target(request, memory, call) != 0
        || wechatpay_v3_call_digest(merchant->sha256, call, timestamp, nonce,
                                    call->digest)
           != 0)
    {
        return -1;
    }

    return wechatpay_v3_call_authorization(merchant, timestamp, nonce, memory,
                                           call);
}


static int
wechatpay_v3_call_target(const wechatpay_request_t *request,
    wechatpay_memory_t *memory, wechatpay_call_t *call)
{
    size_t            size;
    unsigned char    *p;
    wechatpay_str_t   id;

    static const char  args[] = "sub_mchid=";

    switch (request->call) {

    case WECHATPAY_CALL_QUERY:
        id = request->out_refund_no;
        break;

    case WECHATPAY_CALL_ABNORMAL:
        id = request->refund_id;
        break;

    default:
        id.data = NULL;
        id.len = 0;
        break;
    }

    size = sizeof(WECHATPAY_V3_REFUNDS WECHATPAY_V3_ABNORMAL "/") + id.len;

    p = memory->alloc(memory->data,
                      size + size * 3 + 1 + sizeof(args)
                      + request->sub_mch_id.len);
    if (p == NULL) {
        return -1;
    }

    call->path.data = p;

    memcpy(p, WECHATPAY_V3_REFUNDS, sizeof(WECHATPAY_V3_REFUNDS) - 1);
    p += sizeof(WECHATPAY_V3_REFUNDS) - 1;

    if (id.len != 0) {
        *p++ = '/';
        memcpy(p, id.data, id.len);
        p += id.len;
    }

    if (request->call == WECHATPAY_CALL_ABNORMAL) {
        memcpy(p, WECHATPAY_V3_ABNORMAL, sizeof(WECHATPAY_V3_ABNORMAL) - 1);
        p += sizeof(WECHATPAY_V3_ABNORMAL) - 1;
    }

    call->path.len = (size_t) (p - call->path.data);

    call->target.data = p;

    p = wechatpay_v3_call_escape(p, call->path);

    /* a body has it among its members */

    if (request->call == WECHATPAY_CALL_QUERY && request->sub_mch_id.len != 0)
    {
        *p++ = '?';

        call->args.data = p;

        memcpy(p, args, sizeof(args) - 1);
        p += sizeof(args) - 1;
        memcpy(p, request->sub_mch_id.data, request->sub_mch_id.len);
        p += request->sub_mch_id.len;

        call->args.len = (size_t) (p - call->args.data);
    }

    call->target.len = (size_t) (p - call->target.data);

    return 0;
}


/* What ngx_escape_uri() escapes in a path. */

static unsigned char *
wechatpay_v3_call_escape(unsigned char *dst, wechatpay_str_t path)
{
    size_t         i;
    unsigned char  c;

    static const char  digits[] = "0123456789ABCDEF";

    for (i = 0; i < path.len; i++) {
        c = path.data[i];

        if (c > 0x20 && c < 0x7f && strchr("\"#%<>?\\^`{|}", c) == NULL) {
            *dst++ = c;
            continue;
        }

        *dst++ = '%';
        *dst++ = (unsigned char) digits[c >> 4];
        *dst++ = (unsigned char) digits[c & 0x0f];
    }

    return dst;
}


static int
wechatpay_v3_call_digest(EVP_MD_CTX *sha256, const wechatpay_call_t *call,
    wechatpay_str_t timestamp, wechatpay_str_t nonce,
    unsigned char digest[SHA256_DIGEST_LENGTH])
{
    size_t           i;
    wechatpay_str_t  parts[5];

    parts[0] = call->method;
    parts[1] = call->target;
    parts[2] = timestamp;
    parts[3] = nonce;
    parts[4] = call->body;

    if (EVP_DigestInit_ex2(sha256, NULL, NULL) != 1) {
        goto failed;
    }

    for (i = 0; i < 5; i++) {
        if (EVP_DigestUpdate(sha256, parts[i].data, parts[i].len) != 1
            || EVP_DigestUpdate(sha256, "\n", 1) != 1)
        {
            goto failed;
        }
    }

    if (EVP_DigestFinal_ex(sha256, digest, NULL) != 1) {
        goto failed;
    }

    return 0;

failed:

    ERR_clear_error();

    return -1;
}


/* The signature's place is filled when it is made: its length is the key's. */

static int
wechatpay_v3_call_authorization(const wechatpay_merchant_t *merchant,
    wechatpay_str_t timestamp, wechatpay_str_t nonce,
    wechatpay_memory_t *memory, wechatpay_call_t *call)
{
    size_t            i, size;
    unsigned char    *p;
    wechatpay_str_t   parts[10];

    static const wechatpay_str_t  names[] = {
        wechatpay_string("WECHATPAY2-SHA256-RSA2048 mchid=\""),
        wechatpay_string("\",nonce_str=\""),
        wechatpay_string("\",signature=\""),
        wechatpay_string("\",timestamp=\""),
        wechatpay_string("\",serial_no=\"")
    };

    call->key = merchant->sign;
    call->verify = merchant->verify;
    call->signature_len =
                 ((size_t) EVP_PKEY_get_size(merchant->key) + 2) / 3 * 4;

    for (i = 0; i < 5; i++) {
        parts[i * 2] = names[i];
    }

    parts[1] = wechatpay_merchant_mch_id(merchant);
    parts[3] = nonce;
    parts[5].data = NULL;
    parts[5].len = call->signature_len;
    parts[7] = timestamp;
    parts[9].data = merchant->serial;
    parts[9].len = merchant->serial_len;

    size = sizeof("\"") - 1;

    for (i = 0; i < 10; i++) {
        size += parts[i].len;
    }

    p = memory->alloc(memory->data, size);
    if (p == NULL) {
        return -1;
    }

    call->authorization.data = p;
    call->authorization.len = size;

    for (i = 0; i < 10; i++) {

        if (parts[i].data == NULL) {
            call->signature = p;
            memset(p, ' ', parts[i].len);

        } else {
            memcpy(p, parts[i].data, parts[i].len);
        }

        p += parts[i].len;
    }

    *p = '"';

    return 0;
}

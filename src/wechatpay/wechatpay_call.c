
/*
 * Copyright (C) the refund-notify authors
 */


#include <openssl/err.h>
#include <openssl/rand.h>

#include "wechatpay_call_internal.h"


#define WECHATPAY_NONCE_LEN   32

/* more signatures than OpenSSL makes with one blinding of a key */

#define WECHATPAY_CALL_TRIES  33


int
wechatpay_call_prepare(wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, time_t now, wechatpay_str_t nonce,
    wechatpay_memory_t *memory, wechatpay_call_t *call)
{
    size_t         i;
    unsigned char  bytes[WECHATPAY_NONCE_LEN / 2], text[WECHATPAY_NONCE_LEN];

    static const char  digits[] = "0123456789abcdef";

    memset(call, 0, sizeof(wechatpay_call_t));

    if (nonce.len == 0) {

        if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
            ERR_clear_error();
            return -1;
        }

        for (i = 0; i < sizeof(bytes); i++) {
            text[i * 2] = (unsigned char) digits[bytes[i] >> 4];
            text[i * 2 + 1] = (unsigned char) digits[bytes[i] & 0x0f];
        }

        nonce.data = text;
        nonce.len = sizeof(text);
    }

    if (request->version == WECHATPAY_V2) {
        return wechatpay_v2_call(merchant, request, nonce, memory, call);
    }

    return wechatpay_v3_call(merchant, request, now, nonce, memory, call);
}


int
wechatpay_call_sign(wechatpay_call_t *call)
{
    int             rc, tries;
    size_t          len;
    unsigned char   signature[WECHATPAY_CALL_SIGNATURE_MAX];
    EVP_PKEY_CTX   *ctx, *verify;

    if (call->key == NULL) {
        return 0;
    }

    rc = -1;

    /* copies, for the merchant's may be copied by another thread just now */

    ctx = EVP_PKEY_CTX_dup(call->key);
    verify = EVP_PKEY_CTX_dup(call->verify);

    /*
     * OpenSSL 3.0 that lacks memory while it makes a key's blinding anew, at
     * each 32nd signature, leaves one that signs wrongly until the next is
     * made: WeChat Pay would reject for good what may be tried again.  Wrong
     * signatures, too, lead to the next.
     */

    for (tries = 0; tries < WECHATPAY_CALL_TRIES; tries++) {
        len = sizeof(signature);

        if (ctx == NULL || verify == NULL
            || EVP_PKEY_sign(ctx, signature, &len, call->digest,
                             sizeof(call->digest))
               != 1
            || (len + 2) / 3 * 4 != call->signature_len)
        {
            break;
        }

        if (EVP_PKEY_verify(verify, signature, len, call->digest,
                            sizeof(call->digest))
            == 1)
        {
            (void) EVP_EncodeBlock(call->signature, signature, (int) len);

            /* it has put a NUL behind */

            call->signature[call->signature_len] = '"';

            rc = 0;
            break;
        }
    }

    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_CTX_free(verify);

    /* what has failed within it may be told although it signed */

    ERR_clear_error();

    return rc;
}

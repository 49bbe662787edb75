
/*
 * Copyright (C) the refund-notify authors
 *
 * What is sent to WeChat Pay, byte for byte, and its signature.
 */


#ifndef WECHATPAY_CALL_H
#define WECHATPAY_CALL_H


#include <openssl/evp.h>
#include <openssl/sha.h>

#include "wechatpay_request.h"


/* bytes: of a key of 4096 bits */

#define WECHATPAY_CALL_SIGNATURE_MAX  512


/* Spans live in the memory given, in the merchant, or are static. */

typedef struct {
    wechatpay_str_t       method;           /* "POST" or "GET" */

    /*
     * The path as nginx holds it, decoded, and the arguments without "?", or
     * len 0.  target is both as they have to go out: the path escaped exactly
     * as ngx_escape_uri() of type NGX_ESCAPE_URI does it (nginx 1.21.1 and
     * later), for that is what proxy_pass with a URI sends.  It is signed.
     */
    wechatpay_str_t       path;
    wechatpay_str_t       args;
    wechatpay_str_t       target;

    wechatpay_str_t       content_type;     /* of the body; len 0: no body */
    wechatpay_str_t       accept;
    wechatpay_str_t       body;

    /* v3's headers, with len 0 under v2 */
    wechatpay_str_t       authorization;    /* complete once it is signed */
    wechatpay_str_t       serial;           /* Wechatpay-Serial */

    /* of the signature to be made */
    const EVP_PKEY_CTX   *key;              /* NULL: none is needed */
    const EVP_PKEY_CTX   *verify;           /* of the same key */
    unsigned char        *signature;        /* its place in authorization */
    size_t                signature_len;    /* in base64 */
    unsigned char         digest[SHA256_DIGEST_LENGTH];
} wechatpay_call_t;


/*
 * Makes all of the call but v3's signature.  now: wall clock, seconds.  nonce:
 * 1 to 32 of [0-9A-Za-z]; len 0: 32 random ones, which is the only right choice
 * but for tests.  The merchant has passed the check above.  v2 signs with the
 * first of the APIv2 keys.  Returns 0, or -1: out of memory or randomness.
 */

int wechatpay_call_prepare(wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, time_t now, wechatpay_str_t nonce,
    wechatpay_memory_t *memory, wechatpay_call_t *call);


/*
 * Signs, and verifies the signature: RSA, about a millisecond, and once more for
 * each that is wrong, at most 33 times.  Under v2 there is nothing left to do.
 * May run in another thread: it reads call->key and call->verify, which are the
 * merchant's, and call->digest, writes into authorization, and touches nothing
 * else; the call, its memory and the merchant have to outlive it.  Returns 0, or
 * -1: it could not be made, or is wrong, and nothing is written.
 */

int wechatpay_call_sign(wechatpay_call_t *call);


#endif /* WECHATPAY_CALL_H */

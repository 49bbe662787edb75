
/*
 * Copyright (C) the refund-notify authors
 *
 * A merchant: who it is, and its keys, made into ready OpenSSL contexts once,
 * when the configuration is read.  The contexts are used by one thread of one
 * process at a time; a fork() copies them.
 */


#ifndef WECHATPAY_MERCHANT_H
#define WECHATPAY_MERCHANT_H


#include "wechatpay_error.h"


typedef struct wechatpay_merchant_s  wechatpay_merchant_t;


typedef enum {
    WECHATPAY_SIGN_HMAC_SHA256 = 0,
    WECHATPAY_SIGN_MD5
} wechatpay_v2_sign_type_e;


/*
 * What is wrong with a key or certificate: a fixed phrase for nginx -t that
 * says what was expected, e.g. "is not exactly 32 bytes long".  NULL: nothing.
 */

typedef const char *wechatpay_key_error_t;


/*
 * Makes a merchant without keys on the heap, or returns NULL.  The caller owns
 * it.
 */

wechatpay_merchant_t *wechatpay_merchant_create(void);


/* Wipes the keys and frees all; NULL is allowed. */

void wechatpay_merchant_destroy(wechatpay_merchant_t *merchant);


/*
 * Each of these copies what it is given.  mch_id: 1 to 32 digits; app_id: 1 to
 * 32 of [0-9A-Za-z_-]; sub_mch_id: as mch_id, or "*" for any.  A duplicate is
 * an error.
 */

wechatpay_key_error_t wechatpay_merchant_set_mch_id(
    wechatpay_merchant_t *merchant, wechatpay_str_t mch_id);
wechatpay_key_error_t wechatpay_merchant_add_app_id(
    wechatpay_merchant_t *merchant, wechatpay_str_t app_id);
wechatpay_key_error_t wechatpay_merchant_add_sub_mch_id(
    wechatpay_merchant_t *merchant, wechatpay_str_t sub_mch_id);


/* The APIv2 key: 32 printable characters.  The APIv3 key: exactly 32 bytes. */

wechatpay_key_error_t wechatpay_merchant_add_v2_key(
    wechatpay_merchant_t *merchant, wechatpay_str_t key);
wechatpay_key_error_t wechatpay_merchant_add_v3_key(
    wechatpay_merchant_t *merchant, wechatpay_str_t key);

void wechatpay_merchant_set_v2_sign_type(wechatpay_merchant_t *merchant,
    wechatpay_v2_sign_type_e type);


/*
 * A public key of WeChat Pay (PEM, "PUBLIC KEY", RSA of 2048 to 4096 bits)
 * with its id ("PUB_KEY_ID_..."), and a platform certificate (PEM), whose
 * serial is read from it: upper-case hex, leading zeros kept.  Two of one id,
 * or more than one block of PEM: an error.  not_before and not_after get the
 * certificate's dates.
 */

wechatpay_key_error_t wechatpay_merchant_add_public_key(
    wechatpay_merchant_t *merchant, wechatpay_str_t id, wechatpay_str_t pem);
wechatpay_key_error_t wechatpay_merchant_add_certificate(
    wechatpay_merchant_t *merchant, wechatpay_str_t pem,
    time_t *not_before, time_t *not_after);


/*
 * The merchant's own certificate, which is the first where pem is a chain, and
 * its private key, which signs what goes out.
 */

wechatpay_key_error_t wechatpay_merchant_set_certificate(
    wechatpay_merchant_t *merchant, wechatpay_str_t pem,
    time_t *not_before, time_t *not_after);
wechatpay_key_error_t wechatpay_merchant_set_key(
    wechatpay_merchant_t *merchant, wechatpay_str_t pem);


/* NULL, or that the private key does not belong to the certificate. */

wechatpay_key_error_t wechatpay_merchant_check_key(
    const wechatpay_merchant_t *merchant);


/* The merchant's own bytes; len 0: it was not set. */

wechatpay_str_t wechatpay_merchant_mch_id(const wechatpay_merchant_t *merchant);


/* What the merchant has keys for: v2 needs an APIv2 key; v3 an APIv3 key and
 * a public key or certificate of WeChat Pay. */

int wechatpay_merchant_accepts(const wechatpay_merchant_t *merchant,
    wechatpay_version_e version);


/*
 * Whether the merchant has what calls under a version need.  v3: its own
 * certificate and key, and a public key or certificate of WeChat Pay; v2: an
 * APIv2 key and an app_id, the first of which is sent.  NULL, or what is
 * missing, for nginx -t: "needs \"merchant_key\" for API v3".
 */

wechatpay_key_error_t wechatpay_merchant_check_calls(
    const wechatpay_merchant_t *merchant, wechatpay_version_e version);


/*
 * The id of the key that WeChat Pay is asked to sign answers with, and that
 * secrets are encrypted to: that of the public key configured first, or else of
 * the certificate configured first; len 0: there is neither.  WeChat Pay
 * refuses an id that it has not yet, or no longer: which key comes first is
 * for those to choose who change it.
 */

wechatpay_str_t wechatpay_merchant_serial(const wechatpay_merchant_t *merchant);


#endif /* WECHATPAY_MERCHANT_H */


/*
 * Copyright (C) the refund-notify authors
 *
 * What a merchant is made of, for the files here only.
 */


#ifndef WECHATPAY_MERCHANT_INTERNAL_H
#define WECHATPAY_MERCHANT_INTERNAL_H


#include <openssl/evp.h>

#include "wechatpay_merchant.h"
#include "wechatpay_v2_req_info.h"
#include "wechatpay_v3_resource.h"


#define WECHATPAY_MERCHANT_NAME_LEN  32
#define WECHATPAY_MERCHANT_MAX_KEYS  16
#define WECHATPAY_SERIAL_MAX_LEN     64


/* A set of names, sorted: a service provider can have thousands. */

typedef struct {
    size_t         len;
    unsigned char  data[WECHATPAY_MERCHANT_NAME_LEN];
} wechatpay_name_t;

typedef struct {
    wechatpay_name_t  *names;
    size_t             count;
    size_t             room;
} wechatpay_names_t;


typedef struct {
    unsigned char      key[WECHATPAY_V2_KEY_LEN];
    EVP_CIPHER_CTX    *cipher;
} wechatpay_v2_key_t;


typedef struct {
    unsigned char      key[WECHATPAY_V3_KEY_LEN];
    EVP_CIPHER_CTX    *cipher;
} wechatpay_v3_key_t;


/* A public key of WeChat Pay: serial is its id, or its certificate's serial. */

typedef struct {
    size_t             serial_len;
    unsigned char      serial[WECHATPAY_SERIAL_MAX_LEN];
    size_t             size;            /* of a signature, bytes */
    EVP_PKEY          *key;
    EVP_PKEY_CTX      *verify;
} wechatpay_v3_verifier_t;


struct wechatpay_merchant_s {
    wechatpay_name_t          mch_id;
    wechatpay_name_t          app_id;       /* the first, of what goes out */
    wechatpay_names_t         app_ids;
    wechatpay_names_t         sub_mch_ids;
    int                       any_sub_mch_id;

    wechatpay_v2_key_t        v2_keys[WECHATPAY_MERCHANT_MAX_KEYS];
    size_t                    nv2_keys;
    wechatpay_v2_sign_type_e  v2_sign_type;

    wechatpay_v3_key_t        v3_keys[WECHATPAY_MERCHANT_MAX_KEYS];
    size_t                    nv3_keys;

    wechatpay_v3_verifier_t   verifiers[WECHATPAY_MERCHANT_MAX_KEYS];
    size_t                    nverifiers;
    EVP_MD_CTX               *sha256;

    /* the merchant's own, for what goes out */
    size_t                    serial_len;
    unsigned char             serial[WECHATPAY_SERIAL_MAX_LEN];
    EVP_PKEY                 *certificate_key;
    EVP_PKEY                 *key;
    EVP_PKEY_CTX             *sign;         /* are only copied, never used */
    EVP_PKEY_CTX             *verify;
};


/*
 * Whether a notify is this merchant's: its mch_id is the configured one, its
 * app_id, where it has one and some are configured, one of them, and
 * likewise its sub_mch_id, for which some have to be configured.
 * Returns WECHATPAY_OK, or which of them is not.
 */

wechatpay_error_e wechatpay_merchant_check(
    const wechatpay_merchant_t *merchant, wechatpay_str_t mch_id,
    wechatpay_str_t app_id, wechatpay_str_t sub_mch_id);


/* Returns 1 if sub-merchants are configured, else 0. */

int wechatpay_merchant_is_provider(const wechatpay_merchant_t *merchant);


/* The key of wechatpay_merchant_serial(), or NULL. */

const wechatpay_v3_verifier_t *wechatpay_merchant_named(
    const wechatpay_merchant_t *merchant);


#endif /* WECHATPAY_MERCHANT_INTERNAL_H */

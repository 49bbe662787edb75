
/*
 * Copyright (C) the refund-notify authors
 */


#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "wechatpay_v2_sign.h"


#define WECHATPAY_V2_SIGN_KEY  "key="


static int wechatpay_v2_sign_text(const wechatpay_xml_field_t *fields,
    size_t n, wechatpay_memory_t *memory, unsigned char **text, size_t *len);
static int wechatpay_v2_sign_digest(wechatpay_v2_sign_type_e type,
    const wechatpay_v2_key_t *key, unsigned char *text, size_t text_len,
    unsigned char sign[WECHATPAY_V2_SIGN_MAX_LEN], size_t *len);
static int wechatpay_v2_sign_is(const wechatpay_xml_field_t *field);


int
wechatpay_v2_sign(const wechatpay_merchant_t *merchant,
    const wechatpay_xml_field_t *fields, size_t n, wechatpay_memory_t *memory,
    unsigned char sign[WECHATPAY_V2_SIGN_MAX_LEN], size_t *len)
{
    size_t          text_len;
    unsigned char  *text;

    if (wechatpay_v2_sign_text(fields, n, memory, &text, &text_len) != 0) {
        return -1;
    }

    return wechatpay_v2_sign_digest(merchant->v2_sign_type,
                                    &merchant->v2_keys[0], text, text_len,
                                    sign, len);
}


wechatpay_error_e
wechatpay_v2_sign_verify(const wechatpay_merchant_t *merchant,
    const wechatpay_xml_field_t *fields, size_t n, wechatpay_memory_t *memory)
{
    size_t            i, len, text_len;
    unsigned char    *text, sign[WECHATPAY_V2_SIGN_MAX_LEN];
    wechatpay_str_t   received;

    received.data = NULL;
    received.len = 0;

    for (i = 0; i < n; i++) {
        if (wechatpay_v2_sign_is(&fields[i])) {
            received = fields[i].value;
        }
    }

    if (received.len == 0) {
        return WECHATPAY_ERROR_SIGNATURE_WRONG;
    }

    if (wechatpay_v2_sign_text(fields, n, memory, &text, &text_len) != 0) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    for (i = 0; i < merchant->nv2_keys; i++) {

        if (wechatpay_v2_sign_digest(merchant->v2_sign_type,
                                     &merchant->v2_keys[i], text, text_len,
                                     sign, &len)
            != 0)
        {
            return WECHATPAY_ERROR_NO_MEMORY;
        }

        if (received.len == len
            && CRYPTO_memcmp(received.data, sign, len) == 0)
        {
            return WECHATPAY_OK;
        }
    }

    return WECHATPAY_ERROR_SIGNATURE_WRONG;
}


/* All that is signed but the key's value, for which there is room behind. */

static int
wechatpay_v2_sign_text(const wechatpay_xml_field_t *fields, size_t n,
    wechatpay_memory_t *memory, unsigned char **text, size_t *len)
{
    size_t          i, size;
    unsigned char  *p;

    size = sizeof(WECHATPAY_V2_SIGN_KEY) - 1 + WECHATPAY_V2_KEY_LEN;

    for (i = 0; i < n; i++) {
        size += fields[i].name.len + fields[i].value.len + sizeof("=&") - 1;
    }

    p = memory->alloc(memory->data, size);
    if (p == NULL) {
        return -1;
    }

    *text = p;

    for (i = 0; i < n; i++) {

        if (fields[i].value.len == 0 || wechatpay_v2_sign_is(&fields[i])) {
            continue;
        }

        memcpy(p, fields[i].name.data, fields[i].name.len);
        p += fields[i].name.len;
        *p++ = '=';
        memcpy(p, fields[i].value.data, fields[i].value.len);
        p += fields[i].value.len;
        *p++ = '&';
    }

    memcpy(p, WECHATPAY_V2_SIGN_KEY, sizeof(WECHATPAY_V2_SIGN_KEY) - 1);
    p += sizeof(WECHATPAY_V2_SIGN_KEY) - 1;

    *len = (size_t) (p - *text);

    return 0;
}


static int
wechatpay_v2_sign_digest(wechatpay_v2_sign_type_e type,
    const wechatpay_v2_key_t *key, unsigned char *text, size_t text_len,
    unsigned char sign[WECHATPAY_V2_SIGN_MAX_LEN], size_t *len)
{
    int            ok;
    size_t         i;
    unsigned       n;
    unsigned char  digest[EVP_MAX_MD_SIZE];

    static const char  digits[] = "0123456789ABCDEF";

    memcpy(text + text_len, key->key, WECHATPAY_V2_KEY_LEN);

    n = 0;

    if (type == WECHATPAY_SIGN_MD5) {
        ok = EVP_Digest(text, text_len + WECHATPAY_V2_KEY_LEN, digest, &n,
                        EVP_md5(), NULL)
             == 1;

    } else {
        ok = HMAC(EVP_sha256(), key->key, WECHATPAY_V2_KEY_LEN, text,
                  text_len + WECHATPAY_V2_KEY_LEN, digest, &n)
             != NULL;
    }

    OPENSSL_cleanse(text + text_len, WECHATPAY_V2_KEY_LEN);

    if (!ok || n * 2 > WECHATPAY_V2_SIGN_MAX_LEN) {
        ERR_clear_error();
        return -1;
    }

    for (i = 0; i < n; i++) {
        sign[i * 2] = (unsigned char) digits[digest[i] >> 4];
        sign[i * 2 + 1] = (unsigned char) digits[digest[i] & 0x0f];
    }

    *len = n * 2;

    return 0;
}


static int
wechatpay_v2_sign_is(const wechatpay_xml_field_t *field)
{
    static const wechatpay_str_t  name = wechatpay_string("sign");

    return wechatpay_str_equal(field->name, name);
}


/*
 * Copyright (C) the refund-notify authors
 */


#include <openssl/err.h>
#include <openssl/sha.h>

#include "wechatpay_v3_signature.h"
#include "wechatpay_base64.h"
#include "wechatpay_merchant_internal.h"


#define WECHATPAY_SIGNATURE_PROBE  "WECHATPAY/SIGNTEST/"

/* base64 of a signature by a key of 4096 bits */

#define WECHATPAY_SIGNATURE_MAX_LEN    684
#define WECHATPAY_SIGNATURE_MAX_BYTES                                         \
    wechatpay_base64_decoded_length(WECHATPAY_SIGNATURE_MAX_LEN)


typedef struct {
    wechatpay_str_t          name;
    size_t                   max;
    wechatpay_error_e        missing;       /* WECHATPAY_OK: may be absent */
    wechatpay_error_e        repeated;
    wechatpay_error_e        invalid;
} wechatpay_v3_header_t;


static wechatpay_error_e wechatpay_v3_signature_headers(
    const wechatpay_headers_t *headers);
static wechatpay_error_e wechatpay_v3_signature_timestamp(
    wechatpay_str_t value, time_t now, time_t skew);
static const wechatpay_v3_verifier_t *wechatpay_v3_signature_verifier(
    const wechatpay_merchant_t *merchant, wechatpay_str_t serial);
static int wechatpay_v3_signature_digest(EVP_MD_CTX *sha256,
    wechatpay_str_t timestamp, wechatpay_str_t nonce, wechatpay_str_t body,
    unsigned char digest[SHA256_DIGEST_LENGTH]);
static wechatpay_error_e wechatpay_v3_signature_error(void);


static const wechatpay_v3_header_t  wechatpay_v3_headers[] = {

    [WECHATPAY_HEADER_TIMESTAMP] = {
      wechatpay_string("wechatpay-timestamp"), 12,
      WECHATPAY_ERROR_TIMESTAMP_MISSING,
      WECHATPAY_ERROR_TIMESTAMP_REPEATED,
      WECHATPAY_ERROR_TIMESTAMP_INVALID },

    [WECHATPAY_HEADER_NONCE] = {
      wechatpay_string("wechatpay-nonce"), 128,
      WECHATPAY_ERROR_NONCE_MISSING,
      WECHATPAY_ERROR_NONCE_REPEATED,
      WECHATPAY_ERROR_NONCE_INVALID },

    [WECHATPAY_HEADER_SIGNATURE] = {
      wechatpay_string("wechatpay-signature"),
      sizeof(WECHATPAY_SIGNATURE_PROBE) - 1 + WECHATPAY_SIGNATURE_MAX_LEN,
      WECHATPAY_ERROR_SIGNATURE_MISSING,
      WECHATPAY_ERROR_SIGNATURE_REPEATED,
      WECHATPAY_ERROR_SIGNATURE_INVALID },

    [WECHATPAY_HEADER_SERIAL] = {
      wechatpay_string("wechatpay-serial"), 128,
      WECHATPAY_ERROR_SERIAL_MISSING,
      WECHATPAY_ERROR_SERIAL_REPEATED,
      WECHATPAY_ERROR_SERIAL_INVALID },

    [WECHATPAY_HEADER_SIGNATURE_TYPE] = {
      wechatpay_string("wechatpay-signature-type"), 64,
      WECHATPAY_OK,
      WECHATPAY_ERROR_SIGNATURE_TYPE_REPEATED,
      WECHATPAY_ERROR_SIGNATURE_TYPE_INVALID }
};


int
wechatpay_headers_add(wechatpay_headers_t *headers, wechatpay_str_t name,
    wechatpay_str_t value)
{
    unsigned  i;

    for (i = 0; i < WECHATPAY_HEADER_COUNT; i++) {
        if (wechatpay_str_equal(name, wechatpay_v3_headers[i].name)) {
            headers->value[i] = value;
            headers->count[i]++;
            return 1;
        }
    }

    return 0;
}


wechatpay_error_e
wechatpay_v3_signature_verify(wechatpay_merchant_t *merchant,
    const wechatpay_headers_t *headers, wechatpay_str_t body, time_t now,
    time_t skew)
{
    size_t                          len;
    unsigned char                   digest[SHA256_DIGEST_LENGTH];
    unsigned char                   signature[WECHATPAY_SIGNATURE_MAX_BYTES];
    wechatpay_str_t                 value;
    wechatpay_error_e               error;
    const wechatpay_v3_verifier_t  *verifier;

    static const wechatpay_str_t  type =
                                  wechatpay_string("WECHATPAY2-SHA256-RSA2048");

    error = wechatpay_v3_signature_headers(headers);
    if (error != WECHATPAY_OK) {
        return error;
    }

    if (headers->count[WECHATPAY_HEADER_SIGNATURE_TYPE] != 0
        && !wechatpay_str_equal(headers->value[WECHATPAY_HEADER_SIGNATURE_TYPE],
                                type))
    {
        return WECHATPAY_ERROR_SIGNATURE_TYPE_UNKNOWN;
    }

    value = headers->value[WECHATPAY_HEADER_SIGNATURE];

    if (value.len >= sizeof(WECHATPAY_SIGNATURE_PROBE) - 1
        && memcmp(value.data, WECHATPAY_SIGNATURE_PROBE,
                  sizeof(WECHATPAY_SIGNATURE_PROBE) - 1)
           == 0)
    {
        return WECHATPAY_ERROR_SIGNATURE_PROBE;
    }

    error = wechatpay_v3_signature_timestamp(
                                headers->value[WECHATPAY_HEADER_TIMESTAMP],
                                now, skew);
    if (error != WECHATPAY_OK) {
        return error;
    }

    verifier = wechatpay_v3_signature_verifier(merchant,
                                      headers->value[WECHATPAY_HEADER_SERIAL]);
    if (verifier == NULL) {
        return WECHATPAY_ERROR_SERIAL_UNKNOWN;
    }

    if (value.len != (verifier->size + 2) / 3 * 4
        || wechatpay_base64_decode(value, signature, &len) != 0
        || len != verifier->size)
    {
        return WECHATPAY_ERROR_SIGNATURE_BASE64;
    }

    if (wechatpay_v3_signature_digest(merchant->sha256,
                                   headers->value[WECHATPAY_HEADER_TIMESTAMP],
                                   headers->value[WECHATPAY_HEADER_NONCE],
                                   body, digest)
        != 0)
    {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    /* what it says below is to be of this signature */

    ERR_clear_error();

    if (EVP_PKEY_verify(verifier->verify, signature, len, digest,
                        sizeof(digest))
        != 1)
    {
        return wechatpay_v3_signature_error();
    }

    return WECHATPAY_OK;
}


static wechatpay_error_e
wechatpay_v3_signature_headers(const wechatpay_headers_t *headers)
{
    size_t                        j;
    unsigned                      i;
    wechatpay_str_t               value;
    const wechatpay_v3_header_t  *header;

    for (i = 0; i < WECHATPAY_HEADER_COUNT; i++) {
        header = &wechatpay_v3_headers[i];
        value = headers->value[i];

        if (headers->count[i] == 0) {

            if (header->missing != WECHATPAY_OK) {
                return header->missing;
            }

            continue;
        }

        if (headers->count[i] > 1) {
            return header->repeated;
        }

        if (value.len == 0 || value.len > header->max) {
            return header->invalid;
        }

        /* a line feed would let parts of what is signed change places */

        for (j = 0; j < value.len; j++) {
            if (value.data[j] < 0x20 || value.data[j] >= 0x7f) {
                return header->invalid;
            }
        }
    }

    return WECHATPAY_OK;
}


static wechatpay_error_e
wechatpay_v3_signature_timestamp(wechatpay_str_t value, time_t now,
    time_t skew)
{
    size_t   i;
    int64_t  timestamp;

    timestamp = 0;

    for (i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return WECHATPAY_ERROR_TIMESTAMP_INVALID;
        }

        timestamp = timestamp * 10 + (value.data[i] - '0');
    }

    if (timestamp < now - skew || timestamp > now + skew) {
        return WECHATPAY_ERROR_TIMESTAMP_STALE;
    }

    return WECHATPAY_OK;
}


static const wechatpay_v3_verifier_t *
wechatpay_v3_signature_verifier(const wechatpay_merchant_t *merchant,
    wechatpay_str_t serial)
{
    size_t                          i;
    wechatpay_str_t                 other;
    const wechatpay_v3_verifier_t  *verifier;

    for (i = 0; i < merchant->nverifiers; i++) {
        verifier = &merchant->verifiers[i];

        other.data = verifier->serial;
        other.len = verifier->serial_len;

        if (wechatpay_str_equal(other, serial)) {
            return verifier;
        }
    }

    return NULL;
}


static int
wechatpay_v3_signature_digest(EVP_MD_CTX *sha256, wechatpay_str_t timestamp,
    wechatpay_str_t nonce, wechatpay_str_t body,
    unsigned char digest[SHA256_DIGEST_LENGTH])
{
    if (EVP_DigestInit_ex2(sha256, NULL, NULL) != 1
        || EVP_DigestUpdate(sha256, timestamp.data, timestamp.len) != 1
        || EVP_DigestUpdate(sha256, "\n", 1) != 1
        || EVP_DigestUpdate(sha256, nonce.data, nonce.len) != 1
        || EVP_DigestUpdate(sha256, "\n", 1) != 1
        || EVP_DigestUpdate(sha256, body.data, body.len) != 1
        || EVP_DigestUpdate(sha256, "\n", 1) != 1
        || EVP_DigestFinal_ex(sha256, digest, NULL) != 1)
    {
        ERR_clear_error();
        return -1;
    }

    return 0;
}


/*
 * EVP_PKEY_verify() returns the same for a wrong signature and where it has no
 * memory; which it was is in OpenSSL's queue of errors only, which is emptied.
 */

static wechatpay_error_e
wechatpay_v3_signature_error(void)
{
    unsigned long      code;
    wechatpay_error_e  error;

    error = WECHATPAY_ERROR_SIGNATURE_WRONG;

    for (code = ERR_get_error(); code != 0; code = ERR_get_error()) {
        if (ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
            error = WECHATPAY_ERROR_NO_MEMORY;
        }
    }

    return error;
}

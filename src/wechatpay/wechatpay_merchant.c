
/*
 * Copyright (C) the refund-notify authors
 */


#include <limits.h>
#include <stdlib.h>

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "wechatpay_merchant_internal.h"


#define WECHATPAY_PUBLIC_KEY_ID  "PUB_KEY_ID_"
#define WECHATPAY_PEM_BEGIN      "-----BEGIN "


static int wechatpay_merchant_is_digits(wechatpay_str_t str);
static int wechatpay_merchant_is_name(wechatpay_str_t str, size_t max);
static size_t wechatpay_names_find(const wechatpay_names_t *names,
    wechatpay_str_t name, int *found);
static wechatpay_key_error_t wechatpay_names_add(wechatpay_names_t *names,
    wechatpay_str_t name);
static wechatpay_key_error_t wechatpay_merchant_check_pem(wechatpay_str_t pem);
static wechatpay_key_error_t wechatpay_merchant_check_rsa(EVP_PKEY *key);
static EVP_PKEY_CTX *wechatpay_merchant_context(EVP_PKEY *key,
    int (*init)(EVP_PKEY_CTX *ctx));
static wechatpay_key_error_t wechatpay_merchant_add_verifier(
    wechatpay_merchant_t *merchant, wechatpay_str_t serial, EVP_PKEY *key);
static wechatpay_key_error_t wechatpay_merchant_read_certificate(
    wechatpay_str_t pem, EVP_PKEY **key, unsigned char *serial,
    size_t *serial_len, time_t *not_before, time_t *not_after);
static int wechatpay_merchant_time(const ASN1_TIME *asn1, time_t *time);
static int wechatpay_merchant_no_passphrase(char *buf, int size, int rwflag,
    void *data);


wechatpay_merchant_t *
wechatpay_merchant_create(void)
{
    wechatpay_merchant_t  *merchant;

    merchant = calloc(1, sizeof(wechatpay_merchant_t));
    if (merchant == NULL) {
        return NULL;
    }

    merchant->sha256 = EVP_MD_CTX_new();

    if (merchant->sha256 == NULL
        || EVP_DigestInit_ex(merchant->sha256, EVP_sha256(), NULL) != 1)
    {
        ERR_clear_error();
        wechatpay_merchant_destroy(merchant);
        return NULL;
    }

    return merchant;
}


void
wechatpay_merchant_destroy(wechatpay_merchant_t *merchant)
{
    size_t  i;

    if (merchant == NULL) {
        return;
    }

    for (i = 0; i < merchant->nv2_keys; i++) {
        EVP_CIPHER_CTX_free(merchant->v2_keys[i].cipher);
    }

    for (i = 0; i < merchant->nv3_keys; i++) {
        EVP_CIPHER_CTX_free(merchant->v3_keys[i].cipher);
    }

    for (i = 0; i < merchant->nverifiers; i++) {
        EVP_PKEY_CTX_free(merchant->verifiers[i].verify);
        EVP_PKEY_free(merchant->verifiers[i].key);
    }

    EVP_MD_CTX_free(merchant->sha256);
    EVP_PKEY_free(merchant->certificate_key);
    EVP_PKEY_CTX_free(merchant->sign);
    EVP_PKEY_CTX_free(merchant->verify);
    EVP_PKEY_free(merchant->key);

    free(merchant->app_ids.names);
    free(merchant->sub_mch_ids.names);

    OPENSSL_cleanse(merchant, sizeof(wechatpay_merchant_t));
    free(merchant);
}


wechatpay_key_error_t
wechatpay_merchant_set_mch_id(wechatpay_merchant_t *merchant,
    wechatpay_str_t mch_id)
{
    if (merchant->mch_id.len != 0) {
        return "is a duplicate: remove one of the two";
    }

    if (!wechatpay_merchant_is_digits(mch_id)) {
        return "is not of 1 to 32 digits";
    }

    memcpy(merchant->mch_id.data, mch_id.data, mch_id.len);
    merchant->mch_id.len = mch_id.len;

    return NULL;
}


wechatpay_key_error_t
wechatpay_merchant_add_app_id(wechatpay_merchant_t *merchant,
    wechatpay_str_t app_id)
{
    wechatpay_key_error_t  error;

    if (!wechatpay_merchant_is_name(app_id, WECHATPAY_MERCHANT_NAME_LEN)) {
        return "is not of 1 to 32 letters, digits, \"_\" or \"-\"";
    }

    error = wechatpay_names_add(&merchant->app_ids, app_id);

    if (error == NULL && merchant->app_id.len == 0) {
        memcpy(merchant->app_id.data, app_id.data, app_id.len);
        merchant->app_id.len = app_id.len;
    }

    return error;
}


wechatpay_key_error_t
wechatpay_merchant_add_sub_mch_id(wechatpay_merchant_t *merchant,
    wechatpay_str_t sub_mch_id)
{
    if (sub_mch_id.len == 1 && sub_mch_id.data[0] == '*') {

        if (merchant->any_sub_mch_id) {
            return "is a duplicate: remove one of the two";
        }

        merchant->any_sub_mch_id = 1;

        return NULL;
    }

    if (!wechatpay_merchant_is_digits(sub_mch_id)) {
        return "is neither of 1 to 32 digits nor \"*\"";
    }

    return wechatpay_names_add(&merchant->sub_mch_ids, sub_mch_id);
}


wechatpay_key_error_t
wechatpay_merchant_add_v2_key(wechatpay_merchant_t *merchant,
    wechatpay_str_t key)
{
    size_t               i;
    wechatpay_v2_key_t  *v2;

    if (key.len != WECHATPAY_V2_KEY_LEN) {
        return "is not exactly 32 characters long: copy the APIv2 key of the "
               "merchant platform";
    }

    for (i = 0; i < key.len; i++) {
        if (key.data[i] <= 0x20 || key.data[i] >= 0x7f) {
            return "holds other than printable characters";
        }
    }

    for (i = 0; i < merchant->nv2_keys; i++) {
        if (CRYPTO_memcmp(merchant->v2_keys[i].key, key.data, key.len) == 0) {
            return "is a duplicate: remove one of the two";
        }
    }

    if (merchant->nv2_keys == WECHATPAY_MERCHANT_MAX_KEYS) {
        return "is one more than 16";
    }

    v2 = &merchant->v2_keys[merchant->nv2_keys];

    v2->cipher = wechatpay_v2_req_info_cipher(key.data);
    if (v2->cipher == NULL) {
        return "cannot be made into an AES-256-ECB key (MD5 disabled?)";
    }

    memcpy(v2->key, key.data, key.len);
    merchant->nv2_keys++;

    return NULL;
}


wechatpay_key_error_t
wechatpay_merchant_add_v3_key(wechatpay_merchant_t *merchant,
    wechatpay_str_t key)
{
    size_t               i;
    wechatpay_v3_key_t  *v3;

    if (key.len != WECHATPAY_V3_KEY_LEN) {
        return "is not exactly 32 bytes long: copy the APIv3 key of the "
               "merchant platform";
    }

    for (i = 0; i < merchant->nv3_keys; i++) {
        if (CRYPTO_memcmp(merchant->v3_keys[i].key, key.data, key.len) == 0) {
            return "is a duplicate: remove one of the two";
        }
    }

    if (merchant->nv3_keys == WECHATPAY_MERCHANT_MAX_KEYS) {
        return "is one more than 16";
    }

    v3 = &merchant->v3_keys[merchant->nv3_keys];

    v3->cipher = wechatpay_v3_resource_cipher(key.data);
    if (v3->cipher == NULL) {
        return "cannot be made into an AES-256-GCM key";
    }

    memcpy(v3->key, key.data, key.len);
    merchant->nv3_keys++;

    return NULL;
}


void
wechatpay_merchant_set_v2_sign_type(wechatpay_merchant_t *merchant,
    wechatpay_v2_sign_type_e type)
{
    merchant->v2_sign_type = type;
}


wechatpay_key_error_t
wechatpay_merchant_add_public_key(wechatpay_merchant_t *merchant,
    wechatpay_str_t id, wechatpay_str_t pem)
{
    BIO                    *bio;
    EVP_PKEY               *key;
    wechatpay_key_error_t   error;

    if (id.len <= sizeof(WECHATPAY_PUBLIC_KEY_ID) - 1
        || memcmp(id.data, WECHATPAY_PUBLIC_KEY_ID,
                  sizeof(WECHATPAY_PUBLIC_KEY_ID) - 1)
           != 0
        || !wechatpay_merchant_is_name(id, WECHATPAY_SERIAL_MAX_LEN))
    {
        return "has an id that is not of the form PUB_KEY_ID_...";
    }

    key = NULL;

    if (pem.len <= INT_MAX) {
        bio = BIO_new_mem_buf(pem.data, (int) pem.len);
        if (bio != NULL) {
            key = PEM_read_bio_PUBKEY(bio, NULL,
                                      wechatpay_merchant_no_passphrase, NULL);
            BIO_free(bio);
        }
    }

    if (key == NULL) {
        ERR_clear_error();
        return "is not a public key in PEM (\"BEGIN PUBLIC KEY\")";
    }

    error = wechatpay_merchant_check_pem(pem);
    if (error != NULL) {
        EVP_PKEY_free(key);
        return error;
    }

    return wechatpay_merchant_add_verifier(merchant, id, key);
}


wechatpay_key_error_t
wechatpay_merchant_add_certificate(wechatpay_merchant_t *merchant,
    wechatpay_str_t pem, time_t *not_before, time_t *not_after)
{
    EVP_PKEY               *key;
    unsigned char           data[WECHATPAY_SERIAL_MAX_LEN];
    wechatpay_str_t         serial;
    wechatpay_key_error_t   error;

    error = wechatpay_merchant_read_certificate(pem, &key, data, &serial.len,
                                                not_before, not_after);
    if (error != NULL) {
        return error;
    }

    error = wechatpay_merchant_check_pem(pem);
    if (error != NULL) {
        EVP_PKEY_free(key);
        return error;
    }

    serial.data = data;

    return wechatpay_merchant_add_verifier(merchant, serial, key);
}


wechatpay_key_error_t
wechatpay_merchant_set_certificate(wechatpay_merchant_t *merchant,
    wechatpay_str_t pem, time_t *not_before, time_t *not_after)
{
    if (merchant->certificate_key != NULL) {
        return "is a duplicate: remove one of the two";
    }

    return wechatpay_merchant_read_certificate(pem, &merchant->certificate_key,
                                               merchant->serial,
                                               &merchant->serial_len,
                                               not_before, not_after);
}


wechatpay_key_error_t
wechatpay_merchant_set_key(wechatpay_merchant_t *merchant, wechatpay_str_t pem)
{
    BIO                    *bio;
    EVP_PKEY               *key;
    wechatpay_key_error_t   error;

    if (merchant->key != NULL) {
        return "is a duplicate: remove one of the two";
    }

    key = NULL;

    if (pem.len <= INT_MAX) {
        bio = BIO_new_mem_buf(pem.data, (int) pem.len);
        if (bio != NULL) {
            key = PEM_read_bio_PrivateKey(bio, NULL,
                                          wechatpay_merchant_no_passphrase,
                                          NULL);
            BIO_free(bio);
        }
    }

    if (key == NULL) {
        ERR_clear_error();
        return "is not a private key in PEM without a passphrase"
               " (\"BEGIN PRIVATE KEY\")";
    }

    error = wechatpay_merchant_check_rsa(key);
    if (error != NULL) {
        EVP_PKEY_free(key);
        return error;
    }

    merchant->key = key;
    merchant->sign = wechatpay_merchant_context(key, EVP_PKEY_sign_init);
    merchant->verify = wechatpay_merchant_context(key, EVP_PKEY_verify_init);

    if (merchant->sign == NULL || merchant->verify == NULL) {
        return "cannot be used to make RSA signatures";
    }

    return NULL;
}


wechatpay_key_error_t
wechatpay_merchant_check_key(const wechatpay_merchant_t *merchant)
{
    if (merchant->key == NULL || merchant->certificate_key == NULL) {
        return NULL;
    }

    if (EVP_PKEY_eq(merchant->key, merchant->certificate_key) != 1) {
        ERR_clear_error();
        return "does not belong to the merchant's certificate: take the "
               "apiclient_key.pem that came with it";
    }

    return NULL;
}


wechatpay_str_t
wechatpay_merchant_mch_id(const wechatpay_merchant_t *merchant)
{
    wechatpay_str_t  mch_id;

    mch_id.data = merchant->mch_id.data;
    mch_id.len = merchant->mch_id.len;

    return mch_id;
}


int
wechatpay_merchant_accepts(const wechatpay_merchant_t *merchant,
    wechatpay_version_e version)
{
    switch (version) {

    case WECHATPAY_V2:
        return merchant->nv2_keys != 0;

    case WECHATPAY_V3:
        return merchant->nv3_keys != 0 && merchant->nverifiers != 0;

    default:
        return 0;
    }
}


wechatpay_key_error_t
wechatpay_merchant_check_calls(const wechatpay_merchant_t *merchant,
    wechatpay_version_e version)
{
    if (version == WECHATPAY_V2) {

        if (merchant->nv2_keys == 0) {
            return "needs \"api_v2_key_file\" for API v2";
        }

        if (merchant->app_id.len == 0) {
            return "needs \"app_id\" for API v2";
        }

        return NULL;
    }

    if (merchant->serial_len == 0) {
        return "needs \"merchant_certificate\" for API v3";
    }

    if (merchant->sign == NULL) {
        return "needs \"merchant_key\" for API v3";
    }

    if (merchant->nverifiers == 0) {
        return "needs \"wechatpay_public_key\" or \"wechatpay_certificate\""
               " for API v3";
    }

    return NULL;
}


int
wechatpay_merchant_is_provider(const wechatpay_merchant_t *merchant)
{
    return merchant->any_sub_mch_id || merchant->sub_mch_ids.count != 0;
}


wechatpay_str_t
wechatpay_merchant_serial(const wechatpay_merchant_t *merchant)
{
    wechatpay_str_t                 serial;
    const wechatpay_v3_verifier_t  *verifier;

    serial.data = NULL;
    serial.len = 0;

    verifier = wechatpay_merchant_named(merchant);

    if (verifier != NULL) {
        serial.data = verifier->serial;
        serial.len = verifier->serial_len;
    }

    return serial;
}


const wechatpay_v3_verifier_t *
wechatpay_merchant_named(const wechatpay_merchant_t *merchant)
{
    size_t                          i;
    const wechatpay_v3_verifier_t  *verifier;

    /* an id is the only serial that has other than hexadecimal digits */

    for (i = 0; i < merchant->nverifiers; i++) {
        verifier = &merchant->verifiers[i];

        if (verifier->serial[0] == WECHATPAY_PUBLIC_KEY_ID[0]) {
            return verifier;
        }
    }

    return merchant->nverifiers != 0 ? &merchant->verifiers[0] : NULL;
}


wechatpay_error_e
wechatpay_merchant_check(const wechatpay_merchant_t *merchant,
    wechatpay_str_t mch_id, wechatpay_str_t app_id, wechatpay_str_t sub_mch_id)
{
    int  found;

    if (!wechatpay_str_equal(mch_id, wechatpay_merchant_mch_id(merchant))) {
        return WECHATPAY_ERROR_MCH_ID_MISMATCH;
    }

    if (app_id.len != 0) {

        if (!wechatpay_merchant_is_name(app_id, WECHATPAY_MERCHANT_NAME_LEN)) {
            return WECHATPAY_ERROR_APP_ID_INVALID;
        }

        if (merchant->app_ids.count != 0) {
            (void) wechatpay_names_find(&merchant->app_ids, app_id, &found);

            if (!found) {
                return WECHATPAY_ERROR_APP_ID_MISMATCH;
            }
        }
    }

    if (sub_mch_id.len != 0) {

        if (!wechatpay_merchant_is_digits(sub_mch_id)) {
            return WECHATPAY_ERROR_SUB_MCH_ID_INVALID;
        }

        if (!merchant->any_sub_mch_id) {
            (void) wechatpay_names_find(&merchant->sub_mch_ids, sub_mch_id,
                                        &found);
            if (!found) {
                return WECHATPAY_ERROR_SUB_MCH_ID_MISMATCH;
            }
        }
    }

    return WECHATPAY_OK;
}


static int
wechatpay_merchant_is_digits(wechatpay_str_t str)
{
    size_t  i;

    for (i = 0; i < str.len; i++) {
        if (str.data[i] < '0' || str.data[i] > '9') {
            return 0;
        }
    }

    return str.len != 0 && str.len <= WECHATPAY_MERCHANT_NAME_LEN;
}


static int
wechatpay_merchant_is_name(wechatpay_str_t str, size_t max)
{
    size_t         i;
    unsigned char  c;

    for (i = 0; i < str.len; i++) {
        c = str.data[i];

        if ((c < '0' || c > '9') && (c < 'A' || c > 'Z')
            && (c < 'a' || c > 'z') && c != '_' && c != '-')
        {
            return 0;
        }
    }

    return str.len != 0 && str.len <= max;
}


/* Returns where name is, or where it belongs. */

static size_t
wechatpay_names_find(const wechatpay_names_t *names, wechatpay_str_t name,
    int *found)
{
    int                      rc;
    size_t                   low, high, middle;
    const wechatpay_name_t  *n;

    low = 0;
    high = names->count;

    while (low < high) {
        middle = low + (high - low) / 2;
        n = &names->names[middle];

        rc = (n->len < name.len) ? -1 : (n->len > name.len);

        if (rc == 0) {
            rc = memcmp(n->data, name.data, name.len);
        }

        if (rc == 0) {
            *found = 1;
            return middle;
        }

        if (rc < 0) {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    *found = 0;

    return low;
}


static wechatpay_key_error_t
wechatpay_names_add(wechatpay_names_t *names, wechatpay_str_t name)
{
    int                found;
    size_t             i, room;
    wechatpay_name_t  *p;

    i = wechatpay_names_find(names, name, &found);

    if (found) {
        return "is a duplicate: remove one of the two";
    }

    if (names->count == names->room) {
        room = names->room ? names->room * 2 : 4;

        p = realloc(names->names, room * sizeof(wechatpay_name_t));
        if (p == NULL) {
            return "is too much for the memory";
        }

        names->names = p;
        names->room = room;
    }

    p = &names->names[i];

    memmove(p + 1, p, (names->count - i) * sizeof(wechatpay_name_t));
    memcpy(p->data, name.data, name.len);
    p->len = name.len;

    names->count++;

    return NULL;
}


/* OpenSSL reads the first that fits, and would leave out the others. */

static wechatpay_key_error_t
wechatpay_merchant_check_pem(wechatpay_str_t pem)
{
    size_t  i, n, len;

    len = sizeof(WECHATPAY_PEM_BEGIN) - 1;
    n = 0;

    for (i = 0; i + len <= pem.len; i++) {
        if (memcmp(pem.data + i, WECHATPAY_PEM_BEGIN, len) == 0) {
            n++;
        }
    }

    return (n > 1) ? "holds more than one: put each into a file of its own"
                   : NULL;
}


static wechatpay_key_error_t
wechatpay_merchant_check_rsa(EVP_PKEY *key)
{
    if (!EVP_PKEY_is_a(key, "RSA")) {
        return "is not of RSA, as WeChat Pay's and the merchant's are";
    }

    if (EVP_PKEY_get_bits(key) < 2048 || EVP_PKEY_get_bits(key) > 4096) {
        return "is not of 2048 to 4096 bits";
    }

    return NULL;
}


/*
 * For signatures as WeChat Pay's page on the signature of API v3 wants them;
 * init: EVP_PKEY_sign_init() or EVP_PKEY_verify_init().  Returns NULL if
 * OpenSSL cannot.
 */

static EVP_PKEY_CTX *
wechatpay_merchant_context(EVP_PKEY *key, int (*init)(EVP_PKEY_CTX *ctx))
{
    EVP_PKEY_CTX  *ctx;

    ctx = EVP_PKEY_CTX_new(key, NULL);

    if (ctx == NULL
        || init(ctx) != 1
        || EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1
        || EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) != 1)
    {
        EVP_PKEY_CTX_free(ctx);
        ERR_clear_error();
        return NULL;
    }

    return ctx;
}


/* Takes the key over, on an error too. */

static wechatpay_key_error_t
wechatpay_merchant_add_verifier(wechatpay_merchant_t *merchant,
    wechatpay_str_t serial, EVP_PKEY *key)
{
    size_t                    i;
    EVP_PKEY_CTX             *ctx;
    wechatpay_str_t           other;
    wechatpay_key_error_t     error;
    wechatpay_v3_verifier_t  *verifier;

    error = wechatpay_merchant_check_rsa(key);
    if (error != NULL) {
        goto failed;
    }

    for (i = 0; i < merchant->nverifiers; i++) {
        other.data = merchant->verifiers[i].serial;
        other.len = merchant->verifiers[i].serial_len;

        if (wechatpay_str_equal(other, serial)) {
            error = "is a duplicate: remove one of the two";
            goto failed;
        }
    }

    if (merchant->nverifiers == WECHATPAY_MERCHANT_MAX_KEYS) {
        error = "is one more than 16";
        goto failed;
    }

    ctx = wechatpay_merchant_context(key, EVP_PKEY_verify_init);
    if (ctx == NULL) {
        error = "cannot be used to verify RSA signatures";
        goto failed;
    }

    verifier = &merchant->verifiers[merchant->nverifiers++];

    memcpy(verifier->serial, serial.data, serial.len);
    verifier->serial_len = serial.len;
    verifier->size = (size_t) EVP_PKEY_get_size(key);
    verifier->key = key;
    verifier->verify = ctx;

    return NULL;

failed:

    EVP_PKEY_free(key);

    return error;
}


static wechatpay_key_error_t
wechatpay_merchant_read_certificate(wechatpay_str_t pem, EVP_PKEY **key,
    unsigned char *serial, size_t *serial_len, time_t *not_before,
    time_t *not_after)
{
    BIO                    *bio;
    X509                   *x509;
    char                   *hex;
    BIGNUM                 *bn;
    EVP_PKEY               *pkey;
    wechatpay_key_error_t   error;

    x509 = NULL;
    bn = NULL;
    hex = NULL;
    pkey = NULL;

    if (pem.len <= INT_MAX) {
        bio = BIO_new_mem_buf(pem.data, (int) pem.len);
        if (bio != NULL) {
            x509 = PEM_read_bio_X509(bio, NULL,
                                     wechatpay_merchant_no_passphrase, NULL);
            BIO_free(bio);
        }
    }

    if (x509 == NULL) {
        error = "is not a certificate in PEM (\"BEGIN CERTIFICATE\")";
        goto done;
    }

    error = "has a serial or dates that cannot be read";

    /* whole bytes in hex, so that the leading zero of one is kept */

    bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x509), NULL);
    if (bn == NULL || BN_is_negative(bn) || BN_is_zero(bn)) {
        goto done;
    }

    hex = BN_bn2hex(bn);
    if (hex == NULL || strlen(hex) > WECHATPAY_SERIAL_MAX_LEN) {
        goto done;
    }

    if (wechatpay_merchant_time(X509_get0_notBefore(x509), not_before) != 0
        || wechatpay_merchant_time(X509_get0_notAfter(x509), not_after) != 0)
    {
        goto done;
    }

    pkey = X509_get_pubkey(x509);
    if (pkey == NULL) {
        error = "has a public key that cannot be read";
        goto done;
    }

    error = wechatpay_merchant_check_rsa(pkey);
    if (error != NULL) {
        goto done;
    }

    *serial_len = strlen(hex);
    memcpy(serial, hex, *serial_len);

    *key = pkey;
    pkey = NULL;

done:

    EVP_PKEY_free(pkey);
    OPENSSL_free(hex);
    BN_free(bn);
    X509_free(x509);
    ERR_clear_error();

    return error;
}


static int
wechatpay_merchant_time(const ASN1_TIME *asn1, time_t *time)
{
    struct tm  tm;

    if (ASN1_TIME_to_tm(asn1, &tm) != 1) {
        return -1;
    }

    *time = timegm(&tm);

    return 0;
}


/* Without it OpenSSL would ask for the passphrase on the terminal. */

static int
wechatpay_merchant_no_passphrase(char *buf, int size, int rwflag, void *data)
{
    (void) buf;
    (void) size;
    (void) rwflag;
    (void) data;

    return -1;
}

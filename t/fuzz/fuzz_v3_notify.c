
/*
 * Copyright (C) the refund-notify authors
 *
 * The input is taken three times: as the five headers, a line each, and a body,
 * whose signature must then be wrong; as the body of a notify that is signed;
 * and as what the resource of such a notify decrypts to.  A signature of RSA
 * takes as long as hundreds of other runs, so for the last two the linker puts
 * a function in the place of EVP_PKEY_verify() that takes any; the first has
 * the real one.
 */


#include <openssl/evp.h>

#include "fuzz.h"


#define FUZZ_NOW    1528425296
#define FUZZ_NONCE  "fdasflkja484"
#define FUZZ_SIZE   256


static wechatpay_error_e fuzz_v3_notify(const wechatpay_headers_t *headers,
    wechatpay_str_t body, fuzz_memory_t *memory);
static void fuzz_v3_headers(const uint8_t *data, size_t size,
    fuzz_memory_t *memory);
static void fuzz_v3_signed(wechatpay_str_t body, fuzz_memory_t *memory);
static void fuzz_v3_resource(const uint8_t *data, size_t size,
    fuzz_memory_t *memory);
static void fuzz_v3_setup(void);

int __real_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig,
    size_t siglen, const unsigned char *tbs, size_t tbslen);
int __wrap_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig,
    size_t siglen, const unsigned char *tbs, size_t tbslen);


static int                    fuzz_signed;
static wechatpay_parser_t    *fuzz_parser;
static wechatpay_merchant_t  *fuzz_shop, *fuzz_choosy;
static EVP_CIPHER_CTX        *fuzz_encrypt;


int
__wrap_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig,
    size_t siglen, const unsigned char *tbs, size_t tbslen)
{
    fuzz_assert(siglen == FUZZ_SIZE);
    fuzz_assert(tbslen == 32);

    if (fuzz_signed) {
        return 1;
    }

    return __real_EVP_PKEY_verify(ctx, sig, siglen, tbs, tbslen);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_memory_t    memory;
    wechatpay_str_t  body;

    if (fuzz_parser == NULL) {
        fuzz_v3_setup();
    }

    fuzz_memory_init(&memory);

    fuzz_v3_headers(data, size, &memory);

    body.data = data;
    body.len = size;

    fuzz_v3_signed(body, &memory);

    if (size != 0) {
        fuzz_v3_resource(data, size, &memory);
    }

    fuzz_memory_free(&memory);

    return 0;
}


static wechatpay_error_e
fuzz_v3_notify(const wechatpay_headers_t *headers, wechatpay_str_t body,
    fuzz_memory_t *memory)
{
    wechatpay_error_e   error;
    wechatpay_refund_t  refund, again;

    error = wechatpay_v3_notify(fuzz_parser, fuzz_shop, headers, body,
                                FUZZ_NOW, 300, &memory->memory, &refund);

    fuzz_assert(error < WECHATPAY_ERROR_COUNT);

    if (error == WECHATPAY_OK) {
        fuzz_assert(refund.version == WECHATPAY_V3);
        fuzz_assert(refund.notify_id.len != 0);
        fuzz_check(&refund, memory);

        fuzz_assert(wechatpay_v3_notify(fuzz_parser, fuzz_choosy, headers,
                                        body, FUZZ_NOW, 300, &memory->memory,
                                        &again)
                    == fuzz_limited(&refund));
    }

    return error;
}


static void
fuzz_v3_headers(const uint8_t *data, size_t size, fuzz_memory_t *memory)
{
    unsigned              i;
    const uint8_t        *lf;
    wechatpay_str_t       body, value;
    wechatpay_headers_t   headers;

    static const char  *names[] = {
        "wechatpay-timestamp", "wechatpay-nonce", "wechatpay-signature",
        "wechatpay-serial", "wechatpay-signature-type"
    };

    memset(&headers, 0, sizeof(wechatpay_headers_t));

    for (i = 0; i < WECHATPAY_HEADER_COUNT; i++) {
        lf = size ? memchr(data, '\n', size) : NULL;

        if (lf == NULL) {
            break;
        }

        value.data = data;
        value.len = (size_t) (lf - data);

        fuzz_assert(wechatpay_headers_add(&headers, fuzz_str(names[i]),
                                          value));

        size -= value.len + 1;
        data = lf + 1;
    }

    body.data = data;
    body.len = size;

    fuzz_signed = 0;
    fuzz_assert(fuzz_v3_notify(&headers, body, memory) != WECHATPAY_OK);
}


static void
fuzz_v3_signed(wechatpay_str_t body, fuzz_memory_t *memory)
{
    wechatpay_headers_t   headers;

    static unsigned char  signature[FUZZ_SIZE];

    memset(&headers, 0, sizeof(wechatpay_headers_t));

    (void) wechatpay_headers_add(&headers, fuzz_str("wechatpay-timestamp"),
                                 fuzz_str("1528425296"));
    (void) wechatpay_headers_add(&headers, fuzz_str("wechatpay-nonce"),
                                 fuzz_str("593BEC0C930BF1AFEB40B4A08C8FB242"));
    (void) wechatpay_headers_add(&headers, fuzz_str("wechatpay-serial"),
                                 fuzz_str(FUZZ_SERIAL));
    (void) wechatpay_headers_add(&headers, fuzz_str("wechatpay-signature"),
                                 fuzz_base64(signature, FUZZ_SIZE, memory));

    fuzz_signed = 1;
    (void) fuzz_v3_notify(&headers, body, memory);
}


static void
fuzz_v3_resource(const uint8_t *data, size_t size, fuzz_memory_t *memory)
{
    int               n;
    unsigned          i;
    unsigned char    *p, *body;
    wechatpay_str_t   text, parts[5];

    static const char  *events[] = { "SUCCESS", "ABNORMAL", "CLOSED" };

    p = memory->memory.alloc(memory, size + 16);

    fuzz_assert(EVP_EncryptInit_ex(fuzz_encrypt, NULL, NULL, NULL,
                                   (const unsigned char *) FUZZ_NONCE));
    fuzz_assert(EVP_EncryptUpdate(fuzz_encrypt, p, &n, data, (int) size));
    fuzz_assert(EVP_EncryptFinal_ex(fuzz_encrypt, p + size, &n));
    fuzz_assert(EVP_CIPHER_CTX_ctrl(fuzz_encrypt, EVP_CTRL_AEAD_GET_TAG, 16,
                                    p + size));

    parts[0] = fuzz_str("{\"id\":\"EV-1\",\"resource_type\":\"r\","
                        "\"create_time\":\"2018-06-08T10:34:56+08:00\","
                        "\"event_type\":\"REFUND.");
    parts[1] = fuzz_str(events[size % 3]);
    parts[2] = fuzz_str("\",\"resource\":{\"original_type\":\"refund\","
                        "\"algorithm\":\"AEAD_AES_256_GCM\","
                        "\"nonce\":\"" FUZZ_NONCE "\",\"ciphertext\":\"");
    parts[3] = fuzz_base64(p, size + 16, memory);
    parts[4] = fuzz_str("\"}}");

    text.len = 0;

    for (i = 0; i < 5; i++) {
        text.len += parts[i].len;
    }

    body = memory->memory.alloc(memory, text.len);
    text.data = body;

    for (i = 0; i < 5; i++) {
        memcpy(body, parts[i].data, parts[i].len);
        body += parts[i].len;
    }

    fuzz_v3_signed(text, memory);
}


static void
fuzz_v3_setup(void)
{
    fuzz_parser = wechatpay_parser_create();
    fuzz_shop = fuzz_merchant();
    fuzz_choosy = fuzz_limited_merchant();
    fuzz_encrypt = EVP_CIPHER_CTX_new();

    fuzz_assert(fuzz_parser != NULL);
    fuzz_assert(EVP_EncryptInit_ex(fuzz_encrypt, EVP_aes_256_gcm(), NULL,
                                   (const unsigned char *) FUZZ_KEY, NULL));
    fuzz_assert(wechatpay_merchant_add_public_key(fuzz_shop,
                                                  fuzz_str(FUZZ_SERIAL),
                                                  fuzz_str(FUZZ_PUBLIC_KEY))
                == NULL);
    fuzz_assert(wechatpay_merchant_add_public_key(fuzz_choosy,
                                                  fuzz_str(FUZZ_SERIAL),
                                                  fuzz_str(FUZZ_PUBLIC_KEY))
                == NULL);
}

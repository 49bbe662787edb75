
/*
 * Copyright (C) the refund-notify authors
 *
 * The input is the headers of a notify whose body is genuine: "name:value", a
 * line each, where the value "=" stands for the genuine one.  It is taken just
 * where each header is there once and as it was signed; and where any signature
 * is taken, as the linker puts a function in the place of EVP_PKEY_verify(),
 * just where no other header is amiss.
 */


#include <openssl/evp.h>

#include "fuzz.h"


#define FUZZ_NOW    1528425296
#define FUZZ_SKEW   300
#define FUZZ_SIZE   256


/* Signed for this test only, by a key that nobody has kept. */

#define FUZZ_HEADERS_KEY                                                      \
    "-----BEGIN PUBLIC KEY-----\n"                                            \
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAnwig5AsSYah6d+J3tifC\n"      \
    "WWzqQWiNclkp0Su+H+thXrnM1BjyGTUq4wFMdABNjGFiATEo6e0xeqDdjaeK1g3o\n"      \
    "98qC7oyZURrwTC9kIlJos0wzQOcrK2TpVNYJxNguR0YABukctHGFzDMoQJCIBStF\n"      \
    "MZELH10Lprhh3GkkpEEEHUhHHTkhsMWS+sK/HPQOaO4BSjfsTXXDl8NW0OJCrxhu\n"      \
    "NUXL0/t0znMEQWcujHbfHNTjSz0nLy83HL3bUL+SMJcfADTCghSAPJPGQHE8NT8E\n"      \
    "c8FS9aqcGdDY3N91xlOKY4De721Lyg4aTtwZ5xfKpDH7se4dTyml1t6tX0YLAL4K\n"      \
    "PQIDAQAB\n"                                                              \
    "-----END PUBLIC KEY-----\n"


#define FUZZ_HEADERS_SIGNATURE                                                \
    "V//FMHaebtU7Nenw/nalQ47Wy3a+5ygknUYdeeruvvbf20gXYgWjxQZCC9"              \
    "919CGBYQZr8p4YQq9x9CMuXwPY17LuOes76pYVsyoAb4xKRu8P8dR8YeCq"              \
    "13a91QCZ/mYFFZrBj1Ib6Zajb8RZvQUdq7SeolscK1BsZSqxDOSqMzvxdT"              \
    "Hl5zwExRgKVmJ8pGWdCpAFaw7QFQ518e4re/H4zo1Ewucje1OS3LfgeZG9"              \
    "Gkv8yvLAV5eYHhCbA0XUUXptr5x0WDR4u802pLAIbQ66jY9gsc+pCUCow2"              \
    "UM10oLpfO6m7I8gUsVvMw6zRO731CTxIcHci8GY2rQeOfOXPzt7Q=="


#define FUZZ_HEADERS_BODY                                                     \
    "{\"id\":\"EV-1\",\"create_time\":\"2018-06-08T10:34:56+08:00\",\"ev"     \
    "ent_type\":\"REFUND.SUCCESS\",\"resource_type\":\"encrypt-resour"        \
    "ce\",\"resource\":{\"original_type\":\"refund\",\"algorithm\":\"AEAD"    \
    "_AES_256_GCM\",\"ciphertext\":\"ZB2DT94uzlgK3M5tiFhpVfY3sjCXQr"          \
    "xbirrDMOxlvMD+/O/ureZvPgsWSDYavrs6xaXUvlsRT9zoZ1ATyIWe1Cuj"              \
    "wmb47bMc6dEufk/6eVGw7ThTb5gGGReyyb2d5a3/KJfTbqtGv764UCXNOM"              \
    "m5yvjloAn0HV5LZI1mdFcLtRAkoy2WCMNl4r+5NvSQ/pYfwTZbsb8CDZNN"              \
    "DoqNs8RkDzn/BjJ8qeWbT5rzMP8dF0AiCGsRuDOjPzQtlBXsr3JY0Rvemo"              \
    "3Tm3PLOzvs7OuIol0QItjHHl/dgAD+PmqmfLQID/MhkVPo329NBat/w5xq"              \
    "00fMAMmnatIYypwo1MESm9TyoHnLC1GYPw6eAnHbUGykWYreleKUOjCDC0"              \
    "g=\",\"associated_data\":\"refund\",\"nonce\":\"fdasflkja484\"}}"


static wechatpay_error_e fuzz_v3_notify(const wechatpay_headers_t *headers);
static int fuzz_v3_genuine(const wechatpay_headers_t *headers);
static void fuzz_v3_plausible(const wechatpay_headers_t *headers);

int __real_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig,
    size_t siglen, const unsigned char *tbs, size_t tbslen);
int __wrap_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig,
    size_t siglen, const unsigned char *tbs, size_t tbslen);


static int                    fuzz_signed;
static wechatpay_parser_t    *fuzz_parser;
static wechatpay_merchant_t  *fuzz_shop;

static const char            *fuzz_names[WECHATPAY_HEADER_COUNT] = {
    "wechatpay-timestamp", "wechatpay-nonce", "wechatpay-signature",
    "wechatpay-serial", "wechatpay-signature-type"
};

static const char            *fuzz_values[WECHATPAY_HEADER_COUNT] = {
    "1528425296", "593BEC0C930BF1AFEB40B4A08C8FB242", FUZZ_HEADERS_SIGNATURE,
    FUZZ_SERIAL, "WECHATPAY2-SHA256-RSA2048"
};


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
    int                   known;
    unsigned              i;
    const uint8_t        *lf, *colon;
    wechatpay_str_t       name, value;
    wechatpay_headers_t   headers;

    if (fuzz_parser == NULL) {
        fuzz_parser = wechatpay_parser_create();
        fuzz_shop = fuzz_merchant();

        fuzz_assert(fuzz_parser != NULL);
        fuzz_assert(wechatpay_merchant_add_public_key(fuzz_shop,
                                                 fuzz_str(FUZZ_SERIAL),
                                                 fuzz_str(FUZZ_HEADERS_KEY))
                    == NULL);
    }

    memset(&headers, 0, sizeof(wechatpay_headers_t));

    while (size != 0) {
        lf = memchr(data, '\n', size);
        lf = lf ? lf : data + size;
        colon = memchr(data, ':', (size_t) (lf - data));

        if (colon != NULL) {
            name.data = data;
            name.len = (size_t) (colon - data);
            value.data = colon + 1;
            value.len = (size_t) (lf - colon - 1);
            known = 0;

            for (i = 0; i < WECHATPAY_HEADER_COUNT; i++) {
                if (!wechatpay_str_equal(name, fuzz_str(fuzz_names[i]))) {
                    continue;
                }

                known = 1;

                if (wechatpay_str_equal(value, fuzz_str("="))) {
                    value = fuzz_str(fuzz_values[i]);
                }
            }

            fuzz_assert(wechatpay_headers_add(&headers, name, value) == known);
        }

        size -= (size_t) (lf - data);
        data = lf;

        if (size != 0) {
            data++;
            size--;
        }
    }

    fuzz_signed = 0;
    fuzz_assert((fuzz_v3_notify(&headers) == WECHATPAY_OK)
                == fuzz_v3_genuine(&headers));

    fuzz_signed = 1;

    if (fuzz_v3_notify(&headers) == WECHATPAY_OK) {
        fuzz_v3_plausible(&headers);
    }

    return 0;
}


static wechatpay_error_e
fuzz_v3_notify(const wechatpay_headers_t *headers)
{
    fuzz_memory_t       memory;
    wechatpay_error_e   error;
    wechatpay_refund_t  refund;

    fuzz_memory_init(&memory);

    error = wechatpay_v3_notify(fuzz_parser, fuzz_shop, headers,
                                fuzz_str(FUZZ_HEADERS_BODY), FUZZ_NOW,
                                FUZZ_SKEW, &memory.memory, &refund);

    fuzz_assert(error < WECHATPAY_ERROR_COUNT);

    if (error == WECHATPAY_OK) {
        fuzz_check(&refund, &memory);

    } else {
        fuzz_assert(wechatpay_error_result(error)
                    == WECHATPAY_RESULT_UNVERIFIED
                    || wechatpay_error_result(error)
                       == WECHATPAY_RESULT_MALFORMED);
    }

    fuzz_memory_free(&memory);

    return error;
}


static int
fuzz_v3_genuine(const wechatpay_headers_t *headers)
{
    unsigned  i;

    for (i = 0; i < WECHATPAY_HEADER_COUNT; i++) {

        if (i == WECHATPAY_HEADER_SIGNATURE_TYPE && headers->count[i] == 0) {
            continue;
        }

        if (headers->count[i] != 1
            || !wechatpay_str_equal(headers->value[i],
                                    fuzz_str(fuzz_values[i])))
        {
            return 0;
        }
    }

    return 1;
}


static void
fuzz_v3_plausible(const wechatpay_headers_t *headers)
{
    char              timestamp[16];
    size_t            j;
    unsigned          i;
    long long         seconds;
    wechatpay_str_t   value;

    for (i = 0; i < WECHATPAY_HEADER_COUNT; i++) {
        value = headers->value[i];

        if (headers->count[i] == 0) {
            fuzz_assert(i == WECHATPAY_HEADER_SIGNATURE_TYPE);
            continue;
        }

        fuzz_assert(headers->count[i] == 1 && value.len != 0);

        for (j = 0; j < value.len; j++) {
            fuzz_assert(value.data[j] >= 0x20 && value.data[j] < 0x7f);
        }

        if (i >= WECHATPAY_HEADER_SERIAL) {
            fuzz_assert(wechatpay_str_equal(value, fuzz_str(fuzz_values[i])));
        }
    }

    value = headers->value[WECHATPAY_HEADER_TIMESTAMP];
    fuzz_assert(value.len < sizeof(timestamp));

    memcpy(timestamp, value.data, value.len);
    timestamp[value.len] = '\0';

    seconds = atoll(timestamp);
    fuzz_assert(seconds >= FUZZ_NOW - FUZZ_SKEW
                && seconds <= FUZZ_NOW + FUZZ_SKEW);

    fuzz_assert(headers->value[WECHATPAY_HEADER_SIGNATURE].len == 344);
}


/*
 * Copyright (C) the refund-notify authors
 *
 * The input is taken as the body of an answer with a wrong signature, which
 * must not be believed; and of one that is signed, for which the linker puts a
 * function that takes any signature in the place of EVP_PKEY_verify().
 */


#include <openssl/evp.h>

#include "fuzz.h"
#include "wechatpay_answer.h"


#define FUZZ_SIZE  256


int __real_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig,
    size_t siglen, const unsigned char *tbs, size_t tbslen);
int __wrap_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig,
    size_t siglen, const unsigned char *tbs, size_t tbslen);


static int                    fuzz_signed;
static wechatpay_parser_t    *fuzz_parser;
static wechatpay_merchant_t  *fuzz_shop;


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
    unsigned               i;
    fuzz_memory_t          memory;
    wechatpay_answer_t     answer;
    wechatpay_headers_t    headers;
    wechatpay_response_t   response;

    static unsigned char     signature[FUZZ_SIZE];
    static const unsigned    statuses[] = { 200, 204, 202, 400, 403, 429,
                                            500, 302 };

    if (fuzz_parser == NULL) {
        fuzz_parser = wechatpay_parser_create();
        fuzz_shop = fuzz_merchant();
        fuzz_outbound(fuzz_shop);
    }

    fuzz_memory_init(&memory);

    memset(&headers, 0, sizeof(wechatpay_headers_t));

    (void) wechatpay_headers_add(&headers, fuzz_str("wechatpay-timestamp"),
                                 fuzz_str("1528425296"));
    (void) wechatpay_headers_add(&headers, fuzz_str("wechatpay-nonce"),
                                 fuzz_str("593BEC0C930BF1AFEB40B4A08C8FB242"));
    (void) wechatpay_headers_add(&headers, fuzz_str("wechatpay-serial"),
                                 fuzz_str(FUZZ_SERIAL));
    (void) wechatpay_headers_add(&headers, fuzz_str("wechatpay-signature"),
                                 fuzz_base64(signature, FUZZ_SIZE, &memory));

    response.headers = &headers;
    response.body.data = data;
    response.body.len = size;
    response.now = 1528425296;
    response.skew = 300;

    response.status = statuses[size % 8];

    fuzz_signed = 0;

    fuzz_answer(fuzz_parser, fuzz_shop, WECHATPAY_V3, WECHATPAY_CALL_CREATE,
                &response, &memory, &answer);
    fuzz_assert(wechatpay_str_equal(answer.failure.code,
                                    fuzz_str("UNVERIFIED_RESPONSE")));

    fuzz_signed = 1;

    for (i = 0; i < 8; i++) {
        response.status = statuses[i];

        fuzz_answer(fuzz_parser, fuzz_shop, WECHATPAY_V3, i % 3, &response,
                    &memory, &answer);
        fuzz_assert(answer.outcome != WECHATPAY_ACCEPTED
                    || response.status < 300);
        fuzz_assert(answer.outcome != WECHATPAY_REJECTED
                    || response.status >= 400);
    }

    fuzz_memory_free(&memory);

    return 0;
}


/*
 * Copyright (C) the refund-notify authors
 *
 * The input is taken as a notify; and as what its req_info decrypts to, for no
 * fuzzer finds a key.
 */


#include <openssl/evp.h>

#include "fuzz.h"


static void fuzz_v2_notify(wechatpay_str_t body, fuzz_memory_t *memory);


static wechatpay_parser_t    *fuzz_parser;
static wechatpay_merchant_t  *fuzz_shop, *fuzz_choosy;
static EVP_CIPHER_CTX        *fuzz_encrypt;


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int               n, last;
    unsigned char    *p, *body;
    fuzz_memory_t     memory;
    wechatpay_str_t   text;

    static const char  key[] = "cdbe361ca404a29a4cbe2f6f96b4e349";
    static const char  before[] = "<xml><return_code>SUCCESS</return_code>"
                                  "<appid>wx1</appid><mch_id>" FUZZ_MCH_ID
                                  "</mch_id><req_info>";
    static const char  after[] = "</req_info></xml>";

    if (fuzz_parser == NULL) {
        fuzz_parser = wechatpay_parser_create();
        fuzz_shop = fuzz_merchant();
        fuzz_choosy = fuzz_limited_merchant();
        fuzz_encrypt = EVP_CIPHER_CTX_new();

        fuzz_assert(fuzz_parser != NULL);
        fuzz_assert(EVP_EncryptInit_ex(fuzz_encrypt, EVP_aes_256_ecb(), NULL,
                                       (const unsigned char *) key, NULL));
    }

    fuzz_memory_init(&memory);

    text.data = data;
    text.len = size;

    fuzz_v2_notify(text, &memory);

    p = memory.memory.alloc(&memory, size + 16);

    fuzz_assert(EVP_EncryptInit_ex(fuzz_encrypt, NULL, NULL, NULL, NULL));
    fuzz_assert(EVP_EncryptUpdate(fuzz_encrypt, p, &n, data, (int) size));
    fuzz_assert(EVP_EncryptFinal_ex(fuzz_encrypt, p + n, &last));

    text = fuzz_base64(p, (size_t) (n + last), &memory);

    body = memory.memory.alloc(&memory,
                               sizeof(before) + text.len + sizeof(after));

    p = body;
    memcpy(p, before, sizeof(before) - 1);
    p += sizeof(before) - 1;
    memcpy(p, text.data, text.len);
    p += text.len;
    memcpy(p, after, sizeof(after) - 1);
    p += sizeof(after) - 1;

    text.data = body;
    text.len = (size_t) (p - body);

    fuzz_v2_notify(text, &memory);

    fuzz_memory_free(&memory);

    return 0;
}


static void
fuzz_v2_notify(wechatpay_str_t body, fuzz_memory_t *memory)
{
    wechatpay_error_e   error;
    wechatpay_refund_t  refund, again;

    error = wechatpay_v2_notify(fuzz_parser, fuzz_shop, body, &memory->memory,
                                &refund);

    fuzz_assert(error < WECHATPAY_ERROR_COUNT);

    if (error == WECHATPAY_OK) {
        fuzz_assert(refund.version == WECHATPAY_V2);
        fuzz_check(&refund, memory);

        fuzz_assert(wechatpay_v2_notify(fuzz_parser, fuzz_choosy, body,
                                        &memory->memory, &again)
                    == fuzz_limited(&refund));
    }
}

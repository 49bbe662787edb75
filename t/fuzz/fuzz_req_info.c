
/*
 * Copyright (C) the refund-notify authors
 *
 * req_info decrypts to what OpenSSL, with its own check of the padding,
 * decrypts it to, or neither does.  The input is taken as base64; and
 * as what is encrypted, padding and all, so that every padding is met.
 */


#include <openssl/err.h>

#include "fuzz.h"
#include "wechatpay_v2_req_info.h"


static void fuzz_req_info(wechatpay_str_t req_info, fuzz_memory_t *memory);


static EVP_CIPHER_CTX  *fuzz_ours;
static EVP_CIPHER_CTX  *fuzz_theirs;
static EVP_CIPHER_CTX  *fuzz_encrypt;


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int              n;
    unsigned char   *p;
    fuzz_memory_t    memory;
    wechatpay_str_t  text;

    /* the lower-case hex of FUZZ_KEY's MD5, by md5sum */

    static const char  key[] = "cdbe361ca404a29a4cbe2f6f96b4e349";

    if (fuzz_ours == NULL) {
        fuzz_ours = wechatpay_v2_req_info_cipher(
                                            (const unsigned char *) FUZZ_KEY);
        fuzz_theirs = EVP_CIPHER_CTX_new();
        fuzz_encrypt = EVP_CIPHER_CTX_new();

        fuzz_assert(fuzz_ours != NULL);
        fuzz_assert(EVP_DecryptInit_ex(fuzz_theirs, EVP_aes_256_ecb(), NULL,
                                       (const unsigned char *) key, NULL));
        fuzz_assert(EVP_EncryptInit_ex(fuzz_encrypt, EVP_aes_256_ecb(), NULL,
                                       (const unsigned char *) key, NULL));
        fuzz_assert(EVP_CIPHER_CTX_set_padding(fuzz_encrypt, 0));
    }

    fuzz_memory_init(&memory);

    text.data = data;
    text.len = size;

    fuzz_req_info(text, &memory);

    size -= size % 16;

    if (size != 0) {
        p = memory.memory.alloc(&memory, size);

        fuzz_assert(EVP_EncryptInit_ex(fuzz_encrypt, NULL, NULL, NULL, NULL));
        fuzz_assert(EVP_EncryptUpdate(fuzz_encrypt, p, &n, data, (int) size));

        fuzz_req_info(fuzz_base64(p, size, &memory), &memory);
    }

    fuzz_memory_free(&memory);

    return 0;
}


static void
fuzz_req_info(wechatpay_str_t req_info, fuzz_memory_t *memory)
{
    int                 n, last, rc;
    size_t              len;
    unsigned char      *ours, *theirs;
    wechatpay_str_t     blocks;
    wechatpay_error_e   error;

    error = wechatpay_v2_req_info_decode(req_info, &memory->memory, &blocks);

    if (error != WECHATPAY_OK) {
        return;
    }

    fuzz_assert(blocks.len != 0 && blocks.len % 16 == 0);

    ours = memory->memory.alloc(memory, blocks.len);
    theirs = memory->memory.alloc(memory, blocks.len + 16);

    error = wechatpay_v2_req_info_decrypt(fuzz_ours, blocks, ours, &len);

    fuzz_assert(EVP_DecryptInit_ex(fuzz_theirs, NULL, NULL, NULL, NULL));
    fuzz_assert(EVP_DecryptUpdate(fuzz_theirs, theirs, &n, blocks.data,
                                  (int) blocks.len));

    rc = EVP_DecryptFinal_ex(fuzz_theirs, theirs + n, &last);
    ERR_clear_error();

    fuzz_assert((rc == 1) == (error == WECHATPAY_OK));

    if (rc == 1) {
        fuzz_assert(len == (size_t) (n + last));
        fuzz_assert(memcmp(ours, theirs, len) == 0);
    }
}

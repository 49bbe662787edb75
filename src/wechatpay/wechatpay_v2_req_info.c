
/*
 * Copyright (C) the refund-notify authors
 */


#include <openssl/crypto.h>
#include <openssl/err.h>

#include "wechatpay_v2_req_info.h"
#include "wechatpay_base64.h"


#define WECHATPAY_V2_BLOCK_LEN  16


EVP_CIPHER_CTX *
wechatpay_v2_req_info_cipher(const unsigned char key[WECHATPAY_V2_KEY_LEN])
{
    unsigned         i;
    unsigned char    md5[EVP_MAX_MD_SIZE], hex[32];
    EVP_CIPHER_CTX  *cipher;

    static const char  digits[] = "0123456789abcdef";

    if (EVP_Digest(key, WECHATPAY_V2_KEY_LEN, md5, NULL, EVP_md5(), NULL)
        != 1)
    {
        ERR_clear_error();
        return NULL;
    }

    for (i = 0; i < 16; i++) {
        hex[2 * i] = (unsigned char) digits[md5[i] >> 4];
        hex[2 * i + 1] = (unsigned char) digits[md5[i] & 0x0f];
    }

    cipher = EVP_CIPHER_CTX_new();

    /* OpenSSL takes some paddings that PKCS #7 does not know, so it is ours */

    if (cipher != NULL
        && (EVP_DecryptInit_ex(cipher, EVP_aes_256_ecb(), NULL, hex, NULL) != 1
            || EVP_CIPHER_CTX_set_padding(cipher, 0) != 1))
    {
        EVP_CIPHER_CTX_free(cipher);
        ERR_clear_error();
        cipher = NULL;
    }

    OPENSSL_cleanse(md5, sizeof(md5));
    OPENSSL_cleanse(hex, sizeof(hex));

    return cipher;
}


wechatpay_error_e
wechatpay_v2_req_info_decode(wechatpay_str_t req_info,
    wechatpay_memory_t *memory, wechatpay_str_t *blocks)
{
    unsigned char  *p;

    if (req_info.len < 4) {
        return WECHATPAY_ERROR_REQ_INFO_BASE64;
    }

    p = memory->alloc(memory->data,
                      wechatpay_base64_decoded_length(req_info.len));
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    if (wechatpay_base64_decode(req_info, p, &blocks->len) != 0) {
        return WECHATPAY_ERROR_REQ_INFO_BASE64;
    }

    if (blocks->len % WECHATPAY_V2_BLOCK_LEN != 0) {
        return WECHATPAY_ERROR_REQ_INFO_BLOCKS;
    }

    blocks->data = p;

    return WECHATPAY_OK;
}


wechatpay_error_e
wechatpay_v2_req_info_decrypt(EVP_CIPHER_CTX *cipher, wechatpay_str_t blocks,
    unsigned char *plaintext, size_t *len)
{
    int             n;
    unsigned        i, padding, wrong;
    unsigned char  *end;

    if (EVP_DecryptInit_ex(cipher, NULL, NULL, NULL, NULL) != 1
        || EVP_DecryptUpdate(cipher, plaintext, &n, blocks.data,
                             (int) blocks.len)
           != 1
        || (size_t) n != blocks.len)
    {
        /* whole blocks without padding decrypt under any key */

        ERR_clear_error();
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    /* every byte of the last block is looked at, whatever the padding is */

    end = plaintext + blocks.len;
    padding = end[-1];
    wrong = (padding == 0) | (padding > WECHATPAY_V2_BLOCK_LEN);

    for (i = 1; i <= WECHATPAY_V2_BLOCK_LEN; i++) {
        wrong |= (i <= padding) & (*(end - i) != padding);
    }

    if (wrong) {
        return WECHATPAY_ERROR_REQ_INFO_KEY;
    }

    *len = blocks.len - padding;

    return WECHATPAY_OK;
}


/*
 * Copyright (C) the refund-notify authors
 */


#include <openssl/err.h>

#include "wechatpay_v3_resource.h"
#include "wechatpay_base64.h"


#define WECHATPAY_V3_TAG_LEN  16


EVP_CIPHER_CTX *
wechatpay_v3_resource_cipher(const unsigned char key[WECHATPAY_V3_KEY_LEN])
{
    EVP_CIPHER_CTX  *cipher;

    cipher = EVP_CIPHER_CTX_new();

    if (cipher != NULL
        && EVP_DecryptInit_ex(cipher, EVP_aes_256_gcm(), NULL, key, NULL) != 1)
    {
        EVP_CIPHER_CTX_free(cipher);
        ERR_clear_error();
        cipher = NULL;
    }

    return cipher;
}


wechatpay_error_e
wechatpay_v3_resource_decode(wechatpay_str_t base64,
    wechatpay_memory_t *memory, wechatpay_str_t *ciphertext)
{
    unsigned char  *p;

    if (base64.len < 4) {
        return WECHATPAY_ERROR_CIPHERTEXT_BASE64;
    }

    p = memory->alloc(memory->data,
                      wechatpay_base64_decoded_length(base64.len));
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    if (wechatpay_base64_decode(base64, p, &ciphertext->len) != 0) {
        return WECHATPAY_ERROR_CIPHERTEXT_BASE64;
    }

    if (ciphertext->len <= WECHATPAY_V3_TAG_LEN) {
        return WECHATPAY_ERROR_CIPHERTEXT_SHORT;
    }

    ciphertext->data = p;

    return WECHATPAY_OK;
}


wechatpay_error_e
wechatpay_v3_resource_decrypt(EVP_CIPHER_CTX *cipher, wechatpay_str_t nonce,
    wechatpay_str_t associated_data, wechatpay_str_t ciphertext,
    unsigned char *plaintext, size_t *len)
{
    int     n;
    size_t  size;

    size = ciphertext.len - WECHATPAY_V3_TAG_LEN;

    if (EVP_DecryptInit_ex(cipher, NULL, NULL, NULL, nonce.data) != 1
        || (associated_data.len != 0
            && EVP_DecryptUpdate(cipher, NULL, &n, associated_data.data,
                                 (int) associated_data.len)
               != 1)
        || EVP_DecryptUpdate(cipher, plaintext, &n, ciphertext.data,
                             (int) size)
           != 1
        || EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG,
                               WECHATPAY_V3_TAG_LEN,
                               (void *) (ciphertext.data + size))
           != 1)
    {
        /* it is only at the end that the key and the tag are proved */

        ERR_clear_error();
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    if (EVP_DecryptFinal_ex(cipher, plaintext + size, &n) != 1) {
        ERR_clear_error();
        return WECHATPAY_ERROR_RESOURCE_KEY;
    }

    *len = size;

    return WECHATPAY_OK;
}


/*
 * Copyright (C) the refund-notify authors
 *
 * resource, the encrypted part of a v3 notify, as WeChat Pay's page on the
 * decryption of notifies has it: AEAD_AES_256_GCM (RFC 5116) under the APIv3
 * key, the tag behind the ciphertext.
 */


#ifndef WECHATPAY_V3_RESOURCE_H
#define WECHATPAY_V3_RESOURCE_H


#include <openssl/evp.h>

#include "wechatpay_error.h"


#define WECHATPAY_V3_KEY_LEN    32
#define WECHATPAY_V3_NONCE_LEN  12


/* A context that decrypts under an APIv3 key, again and again; or NULL. */

EVP_CIPHER_CTX *wechatpay_v3_resource_cipher(
    const unsigned char key[WECHATPAY_V3_KEY_LEN]);


/*
 * From base64 to ciphertext and tag, in memory.  The ciphertext is never
 * empty.
 */

wechatpay_error_e wechatpay_v3_resource_decode(wechatpay_str_t base64,
    wechatpay_memory_t *memory, wechatpay_str_t *ciphertext);


/*
 * Decrypts what wechatpay_v3_resource_decode() gave into plaintext, which has
 * room for as many bytes, and sets *len.  nonce is WECHATPAY_V3_NONCE_LEN
 * bytes long; the associated data may be empty.  On an error, which is
 * WECHATPAY_ERROR_RESOURCE_KEY, or WECHATPAY_ERROR_NO_MEMORY where OpenSSL could
 * not even try, what is in plaintext means nothing.
 */

wechatpay_error_e wechatpay_v3_resource_decrypt(EVP_CIPHER_CTX *cipher,
    wechatpay_str_t nonce, wechatpay_str_t associated_data,
    wechatpay_str_t ciphertext, unsigned char *plaintext, size_t *len);


#endif /* WECHATPAY_V3_RESOURCE_H */

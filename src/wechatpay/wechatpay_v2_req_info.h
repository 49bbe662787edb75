
/*
 * Copyright (C) the refund-notify authors
 *
 * req_info, the encrypted part of a v2 notify, as WeChat Pay's page on the v2
 * refund notify has it: base64 of AES-256-ECB with PKCS #7 padding, the key
 * being the 32 characters of the APIv2 key's MD5 in lower-case hex.
 */


#ifndef WECHATPAY_V2_REQ_INFO_H
#define WECHATPAY_V2_REQ_INFO_H


#include <openssl/evp.h>

#include "wechatpay_error.h"


#define WECHATPAY_V2_KEY_LEN  32


/* A context that decrypts under an APIv2 key, again and again; or NULL. */

EVP_CIPHER_CTX *wechatpay_v2_req_info_cipher(
    const unsigned char key[WECHATPAY_V2_KEY_LEN]);


/*
 * From base64 to the cipher's blocks, in memory.  Strict: WeChat Pay sends one
 * padded line.
 */

wechatpay_error_e wechatpay_v2_req_info_decode(wechatpay_str_t req_info,
    wechatpay_memory_t *memory, wechatpay_str_t *blocks);


/*
 * Decrypts blocks, at least one, into plaintext, which has room for as many
 * bytes, and sets *len to what is left without the padding.  Returns
 * WECHATPAY_ERROR_REQ_INFO_KEY where the padding is not PKCS #7's: the
 * key is another one, but for once in about 256 times; and
 * WECHATPAY_ERROR_NO_MEMORY where OpenSSL could not even try.
 */

wechatpay_error_e wechatpay_v2_req_info_decrypt(EVP_CIPHER_CTX *cipher,
    wechatpay_str_t blocks, unsigned char *plaintext, size_t *len);


#endif /* WECHATPAY_V2_REQ_INFO_H */


/*
 * Copyright (C) the refund-notify authors
 *
 * The signature of v2's calls and answers, as WeChat Pay's page on the security
 * of API v2 has it: all fields that have a value, but for sign itself, in the
 * order of their names' bytes as name=value&...&key=KEY; of that the MD5, or
 * the HMAC-SHA256 under the same key, in upper-case hex.
 */


#ifndef WECHATPAY_V2_SIGN_H
#define WECHATPAY_V2_SIGN_H


#include "wechatpay_merchant_internal.h"
#include "wechatpay_xml.h"


#define WECHATPAY_V2_SIGN_MAX_LEN  64


/*
 * Signs n fields, in the order of their names, under the first of the keys.
 * Returns 0 and sets *len, or -1: out of memory.
 */

int wechatpay_v2_sign(const wechatpay_merchant_t *merchant,
    const wechatpay_xml_field_t *fields, size_t n, wechatpay_memory_t *memory,
    unsigned char sign[WECHATPAY_V2_SIGN_MAX_LEN], size_t *len);


/*
 * Verifies the field sign over all the others, known or not, under any of the
 * keys, in constant time.  Returns WECHATPAY_OK, WECHATPAY_ERROR_NO_MEMORY, or
 * WECHATPAY_ERROR_SIGNATURE_WRONG: absent, wrong, or of the other type.
 */

wechatpay_error_e wechatpay_v2_sign_verify(
    const wechatpay_merchant_t *merchant, const wechatpay_xml_field_t *fields,
    size_t n, wechatpay_memory_t *memory);


#endif /* WECHATPAY_V2_SIGN_H */

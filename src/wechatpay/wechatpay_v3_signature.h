
/*
 * Copyright (C) the refund-notify authors
 *
 * The signature of a v3 notify, as WeChat Pay's page on verification has it.
 */


#ifndef WECHATPAY_V3_SIGNATURE_H
#define WECHATPAY_V3_SIGNATURE_H


#include "wechatpay_merchant.h"
#include "wechatpay_notify.h"


/*
 * Verifies the headers' signature over body, byte for byte as received.  now
 * and skew: seconds; a timestamp that is off by skew is still fresh.  What
 * costs little is checked first, RSA last.
 */

wechatpay_error_e wechatpay_v3_signature_verify(
    wechatpay_merchant_t *merchant, const wechatpay_headers_t *headers,
    wechatpay_str_t body, time_t now, time_t skew);


#endif /* WECHATPAY_V3_SIGNATURE_H */

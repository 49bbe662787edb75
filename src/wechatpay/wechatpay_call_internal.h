
/*
 * Copyright (C) the refund-notify authors
 *
 * How a call is made under each version, for the files here only.
 */


#ifndef WECHATPAY_CALL_INTERNAL_H
#define WECHATPAY_CALL_INTERNAL_H


#include "wechatpay_call.h"


int wechatpay_v2_call(wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, wechatpay_str_t nonce,
    wechatpay_memory_t *memory, wechatpay_call_t *call);
int wechatpay_v3_call(wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, time_t now, wechatpay_str_t nonce,
    wechatpay_memory_t *memory, wechatpay_call_t *call);


#endif /* WECHATPAY_CALL_INTERNAL_H */

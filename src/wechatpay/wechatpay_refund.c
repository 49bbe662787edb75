
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_refund.h"


void
wechatpay_amount_init(wechatpay_amount_t *amount)
{
    amount->total = WECHATPAY_AMOUNT_ABSENT;
    amount->refund = WECHATPAY_AMOUNT_ABSENT;
    amount->payer_total = WECHATPAY_AMOUNT_ABSENT;
    amount->payer_refund = WECHATPAY_AMOUNT_ABSENT;
    amount->settlement_total = WECHATPAY_AMOUNT_ABSENT;
    amount->settlement_refund = WECHATPAY_AMOUNT_ABSENT;

    amount->currency.data = NULL;
    amount->currency.len = 0;
}


wechatpay_str_t
wechatpay_refund_status_name(wechatpay_refund_status_e status)
{
    static const wechatpay_str_t  names[] = {
        wechatpay_string("SUCCESS"),
        wechatpay_string("ABNORMAL"),
        wechatpay_string("CLOSED"),
        wechatpay_string("PROCESSING")
    };

    return names[status];
}

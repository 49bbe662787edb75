
/*
 * Copyright (C) the refund-notify authors
 *
 * The normalised event: what the business app receives.
 */


#ifndef WECHATPAY_EVENT_H
#define WECHATPAY_EVENT_H


#include "wechatpay_error.h"
#include "wechatpay_refund.h"


/*
 * provider:mch_id:refund_id:status; a v3 ABNORMAL adds ":" and the envelope's
 * id, for a refund can become abnormal twice.  At most the length below of
 * printable ASCII without spaces or braces.
 */

#define WECHATPAY_EVENT_ID_MAX_LEN                                            \
    (sizeof("wechatpay:" ":" ":ABNORMAL" ":") - 1 + 32 + 64 + 64)

wechatpay_error_e wechatpay_event_id(const wechatpay_refund_t *refund,
    wechatpay_memory_t *memory, wechatpay_str_t *id);


/*
 * The JSON body.  merchant: the configured name; received: wall clock, seconds,
 * the time of receipt, which a v2 notify without success_time gets.
 */

wechatpay_error_e wechatpay_event_json(const wechatpay_refund_t *refund,
    wechatpay_str_t id, wechatpay_str_t merchant, time_t received,
    wechatpay_memory_t *memory, wechatpay_str_t *json);


#endif /* WECHATPAY_EVENT_H */

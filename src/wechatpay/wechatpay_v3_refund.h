
/*
 * Copyright (C) the refund-notify authors
 *
 * A refund in the members of v3's JSON, as they are in what a notify's resource
 * decrypts to, and in answers.
 */


#ifndef WECHATPAY_V3_REFUND_H
#define WECHATPAY_V3_REFUND_H


#include <jansson.h>

#include "wechatpay_error.h"
#include "wechatpay_json_plain.h"
#include "wechatpay_refund.h"


typedef enum {
    WECHATPAY_V3_NOTIFIED = 0,      /* "refund_status" */
    WECHATPAY_V3_ANSWERED           /* "status", "channel", "create_time" */
} wechatpay_v3_source_e;


typedef struct {
    wechatpay_refund_t   refund;
    wechatpay_str_t      sp_mch_id;
    wechatpay_str_t      status;
    unsigned             amount:1;      /* is there, and an object */
} wechatpay_v3_values_t;


/*
 * Takes the members of object, or of json, which was read from text, to the
 * same values; whose refund it is, is the caller's to check, before
 * wechatpay_v3_refund_check(), which says what is missing and sets the status.
 * Spans live in memory.
 */

wechatpay_error_e wechatpay_v3_refund_read(wechatpay_v3_source_e source,
    json_t *object, wechatpay_memory_t *memory, wechatpay_v3_values_t *values);
wechatpay_error_e wechatpay_v3_refund_read_plain(wechatpay_v3_source_e source,
    const wechatpay_json_plain_t *json, wechatpay_str_t text,
    wechatpay_memory_t *memory, wechatpay_v3_values_t *values);
wechatpay_error_e wechatpay_v3_refund_check(wechatpay_v3_source_e source,
    wechatpay_v3_values_t *values);


#endif /* WECHATPAY_V3_REFUND_H */

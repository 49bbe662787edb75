
/*
 * Copyright (C) the refund-notify authors
 *
 * A refund as JSON: "data" of the event, and of an answer.
 */


#ifndef WECHATPAY_REFUND_JSON_H
#define WECHATPAY_REFUND_JSON_H


#include "wechatpay_refund.h"


/* The room that the object below can take. */

size_t wechatpay_refund_json_length(const wechatpay_refund_t *refund);


/*
 * Writes the object, braces and all, and returns its end.  With answer set it
 * has channel and create_time, which a notify's event has not.
 */

unsigned char *wechatpay_refund_json(unsigned char *p,
    const wechatpay_refund_t *refund, int answer);


/* The members of whom and which order it is about, without braces. */

unsigned char *wechatpay_refund_json_order(unsigned char *p,
    const wechatpay_refund_t *refund);

/* "extra", where there is any. */

unsigned char *wechatpay_refund_json_extra(unsigned char *p,
    const wechatpay_refund_t *refund);


#endif /* WECHATPAY_REFUND_JSON_H */

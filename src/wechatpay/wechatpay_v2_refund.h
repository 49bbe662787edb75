
/*
 * Copyright (C) the refund-notify authors
 *
 * A refund in the fields of v2, as they are in a notify and in answers.
 */


#ifndef WECHATPAY_V2_REFUND_H
#define WECHATPAY_V2_REFUND_H


#include "wechatpay_refund.h"
#include "wechatpay_xml.h"


typedef enum {
    WECHATPAY_V2_NOTIFIED = 0,
    WECHATPAY_V2_CREATED,       /* has no refund_status: it is PROCESSING */
    WECHATPAY_V2_QUERIED
} wechatpay_v2_source_e;


/*
 * Takes n fields, of which a later one of a name comes before an earlier one.
 * Whose refund it is, is left absent.  Spans of refund live where the fields
 * do, or in memory.
 */

wechatpay_error_e wechatpay_v2_refund(wechatpay_v2_source_e source,
    const wechatpay_xml_field_t *fields, size_t n, wechatpay_memory_t *memory,
    wechatpay_refund_t *refund);


/* Fields that have no place, as members of JSON without braces. */

wechatpay_error_e wechatpay_v2_refund_extra(
    const wechatpay_xml_field_t **fields, size_t n,
    wechatpay_memory_t *memory, wechatpay_str_t *extra);


/* A count in digits, as amounts of fen are; returns 0, or -1. */

int wechatpay_v2_refund_integer(wechatpay_str_t value, int64_t *n);


#endif /* WECHATPAY_V2_REFUND_H */

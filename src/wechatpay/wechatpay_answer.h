
/*
 * Copyright (C) the refund-notify authors
 *
 * What WeChat Pay answers, believed only as far as it is signed, and what the
 * business app is told of it.
 */


#ifndef WECHATPAY_ANSWER_H
#define WECHATPAY_ANSWER_H


#include "wechatpay_error.h"
#include "wechatpay_notify.h"
#include "wechatpay_refund.h"
#include "wechatpay_request.h"


typedef struct {
    unsigned                    status;     /* HTTP */
    const wechatpay_headers_t  *headers;    /* v3 */
    wechatpay_str_t             body;       /* byte for byte */
    time_t                      now;        /* wall clock, seconds */
    time_t                      skew;       /* seconds, of v3's timestamp */
} wechatpay_response_t;


typedef struct {
    wechatpay_version_e         version;
    wechatpay_outcome_e         outcome;

    /* unless accepted */
    wechatpay_failure_t         failure;

    /* why the answer was not believed or not understood, for the log: static
     * text, nothing of the answer; else "" */
    const char                 *reason;

    /* accepted: one, or where list is set, as many as WeChat Pay sent */
    wechatpay_refund_t         *refunds;
    size_t                      nrefunds;

    /* v2's query by an order's id */
    unsigned                    list:1;
    int64_t                     total_refund_count;     /* or -1: absent */
    wechatpay_refund_t          order;      /* what is the order's only */
} wechatpay_answer_t;


/*
 * Verifies and takes an answer to request.  Spans of the result live in memory,
 * or in request; none in the response.  What is not signed as it has to be
 * is not believed: unknown, UNVERIFIED_RESPONSE.  That holds for v2's
 * return_code FAIL too, which never carries a signature: whoever could forge it
 * could have a refund that was made be taken for one that was not.  What there
 * is no memory to read is unknown, INTERNAL_ERROR.
 */

void wechatpay_answer(wechatpay_parser_t *parser,
    wechatpay_merchant_t *merchant, const wechatpay_request_t *request,
    const wechatpay_response_t *response, wechatpay_memory_t *memory,
    wechatpay_answer_t *answer);


/* The JSON for the business app; merchant: the configured name. */

wechatpay_error_e wechatpay_answer_json(const wechatpay_answer_t *answer,
    wechatpay_str_t merchant, wechatpay_memory_t *memory,
    wechatpay_str_t *json);


/* The same of a failure alone, before or without an answer. */

wechatpay_error_e wechatpay_failure_json(const wechatpay_failure_t *failure,
    wechatpay_memory_t *memory, wechatpay_str_t *json);


/*
 * Makes of an answer's refund what wechatpay_event_id() and
 * wechatpay_event_json() take, so that the event has the id of the notify that
 * tells the same.  Returns 1, or 0 where the refund has not ended: under v3 an
 * ABNORMAL one too, for its notify's id is part of the event's.
 */

int wechatpay_answer_event(const wechatpay_refund_t *refund,
    wechatpay_refund_t *event);


#endif /* WECHATPAY_ANSWER_H */

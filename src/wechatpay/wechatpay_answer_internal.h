
/*
 * Copyright (C) the refund-notify authors
 *
 * How an answer is taken under each version, for the files here only.
 */


#ifndef WECHATPAY_ANSWER_INTERNAL_H
#define WECHATPAY_ANSWER_INTERNAL_H


#include "wechatpay_answer.h"


void wechatpay_v2_answer(wechatpay_parser_t *parser,
    const wechatpay_merchant_t *merchant, const wechatpay_request_t *request,
    const wechatpay_response_t *response, wechatpay_memory_t *memory,
    wechatpay_answer_t *answer);
void wechatpay_v3_answer(wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, const wechatpay_response_t *response,
    wechatpay_memory_t *memory, wechatpay_answer_t *answer);


/* What is wrong with the answer, by one of our codes; reason: static. */

void wechatpay_answer_fail(wechatpay_answer_t *answer, wechatpay_code_e code,
    const char *reason);


/*
 * The same by an error.  With WECHATPAY_ERROR_NO_MEMORY nothing is wrong with
 * the answer: the code is INTERNAL_ERROR, and the outcome unknown.
 */

void wechatpay_answer_error(wechatpay_answer_t *answer, wechatpay_code_e code,
    wechatpay_error_e error);


/* An error of WeChat Pay's own; the spans live in memory. */

void wechatpay_answer_fail_provider(wechatpay_answer_t *answer,
    wechatpay_str_t code, unsigned status, wechatpay_str_t message,
    wechatpay_str_t field);


/*
 * Whether a refund is the one that was asked for: an id that was in the request
 * is in the refund too, and is the same.  Returns NULL, or what is not.
 */

const char *wechatpay_answer_mismatch(const wechatpay_request_t *request,
    const wechatpay_refund_t *refund);


#endif /* WECHATPAY_ANSWER_INTERNAL_H */

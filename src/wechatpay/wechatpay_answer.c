
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_answer_internal.h"
#include "wechatpay_json.h"
#include "wechatpay_json_write.h"
#include "wechatpay_merchant_internal.h"
#include "wechatpay_refund_json.h"
#include "wechatpay_xml.h"


/* More than all names, brackets, words and numbers of the frame together. */

#define WECHATPAY_ANSWER_FIXED_LEN  256


static unsigned char *wechatpay_answer_error_json(unsigned char *p,
    const wechatpay_failure_t *failure);


void
wechatpay_answer(wechatpay_parser_t *parser, wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, const wechatpay_response_t *response,
    wechatpay_memory_t *memory, wechatpay_answer_t *answer)
{
    memset(answer, 0, sizeof(wechatpay_answer_t));

    answer->version = request->version;
    answer->reason = "";
    answer->total_refund_count = -1;

    if (response->body.len > WECHATPAY_XML_MAX_SIZE) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_UNVERIFIED_RESPONSE,
                               WECHATPAY_ERROR_BODY_TOO_LARGE);
        return;
    }

    if (request->version == WECHATPAY_V2) {
        wechatpay_v2_answer(parser, merchant, request, response, memory,
                            answer);

    } else {
        wechatpay_v3_answer(merchant, request, response, memory, answer);
    }
}


wechatpay_error_e
wechatpay_answer_json(const wechatpay_answer_t *answer,
    wechatpay_str_t merchant, wechatpay_memory_t *memory,
    wechatpay_str_t *json)
{
    size_t            i, size;
    unsigned char    *p;
    wechatpay_str_t   version;

    static const wechatpay_str_t  provider = wechatpay_string("wechatpay");
    static const wechatpay_str_t  v2 = wechatpay_string("v2");
    static const wechatpay_str_t  v3 = wechatpay_string("v3");

    if (answer->outcome != WECHATPAY_ACCEPTED) {
        return wechatpay_failure_json(&answer->failure, memory, json);
    }

    version = (answer->version == WECHATPAY_V2) ? v2 : v3;

    size = WECHATPAY_ANSWER_FIXED_LEN
           + wechatpay_json_escaped_length(merchant.len)
           + wechatpay_refund_json_length(&answer->order);

    for (i = 0; i < answer->nrefunds; i++) {
        size += wechatpay_refund_json_length(&answer->refunds[i]) + 1;
    }

    p = memory->alloc(memory->data, size);
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    json->data = p;

    *p++ = '{';
    p = wechatpay_json_write_string(p, "outcome",
                                   wechatpay_outcome_word(WECHATPAY_ACCEPTED));
    p = wechatpay_json_write_string(p, "provider", provider);
    p = wechatpay_json_write_string(p, "api_version", version);
    p = wechatpay_json_write_string(p, "merchant", merchant);
    p = wechatpay_json_write_name(p, "data");

    if (answer->list) {
        *p++ = '{';
        p = wechatpay_refund_json_order(p, &answer->order);
        p = wechatpay_json_write_integer(p, "total_refund_count",
                                         answer->total_refund_count);
        p = wechatpay_json_write_name(p, "refunds");
        *p++ = '[';

        for (i = 0; i < answer->nrefunds; i++) {
            p = wechatpay_json_write_comma(p);
            p = wechatpay_refund_json(p, &answer->refunds[i], 1);
        }

        *p++ = ']';
        p = wechatpay_refund_json_extra(p, &answer->order);
        *p++ = '}';

    } else {
        p = wechatpay_refund_json(p, &answer->refunds[0], 1);
    }

    *p++ = '}';

    json->len = (size_t) (p - json->data);

    return WECHATPAY_OK;
}


wechatpay_error_e
wechatpay_failure_json(const wechatpay_failure_t *failure,
    wechatpay_memory_t *memory, wechatpay_str_t *json)
{
    size_t          size;
    unsigned char  *p;

    size = failure->code.len + failure->provider_code.len
           + failure->message.len + failure->field.len;

    p = memory->alloc(memory->data, WECHATPAY_ANSWER_FIXED_LEN
                                    + wechatpay_json_escaped_length(size));
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    json->data = p;

    *p++ = '{';
    p = wechatpay_json_write_string(p, "outcome",
                                    wechatpay_outcome_word(failure->outcome));
    p = wechatpay_json_write_name(p, "error");
    p = wechatpay_answer_error_json(p, failure);
    *p++ = '}';

    json->len = (size_t) (p - json->data);

    return WECHATPAY_OK;
}


int
wechatpay_answer_event(const wechatpay_refund_t *refund,
    wechatpay_refund_t *event)
{
    if (refund->status == WECHATPAY_REFUND_PROCESSING
        || (refund->status == WECHATPAY_REFUND_ABNORMAL
            && refund->version == WECHATPAY_V3))
    {
        return 0;
    }

    *event = *refund;

    /* the event's timestamp is that of what happened, not of the refund's */

    event->create_time = refund->success_time;

    return 1;
}


void
wechatpay_answer_fail(wechatpay_answer_t *answer, wechatpay_code_e code,
    const char *reason)
{
    wechatpay_failure_set(&answer->failure, code);

    answer->outcome = answer->failure.outcome;
    answer->reason = reason;
    answer->nrefunds = 0;
}


void
wechatpay_answer_error(wechatpay_answer_t *answer, wechatpay_code_e code,
    wechatpay_error_e error)
{
    if (error == WECHATPAY_ERROR_NO_MEMORY) {
        code = WECHATPAY_CODE_INTERNAL_ERROR;
    }

    wechatpay_answer_fail(answer, code, wechatpay_error_phrase(error));

    if (error == WECHATPAY_ERROR_NO_MEMORY) {
        wechatpay_failure_unknown(&answer->failure);
        answer->outcome = answer->failure.outcome;
    }
}


void
wechatpay_answer_fail_provider(wechatpay_answer_t *answer,
    wechatpay_str_t code, unsigned status, wechatpay_str_t message,
    wechatpay_str_t field)
{
    wechatpay_failure_set_provider(&answer->failure, code, status);

    answer->failure.message = message;
    answer->failure.field = field;
    answer->outcome = answer->failure.outcome;
}


const char *
wechatpay_answer_mismatch(const wechatpay_request_t *request,
    const wechatpay_refund_t *refund)
{
    if (request->out_refund_no.len != 0
        && !wechatpay_str_equal(request->out_refund_no,
                                refund->out_refund_no))
    {
        return "out_refund_no is not the one that was asked for";
    }

    if (request->refund_id.len != 0
        && !wechatpay_str_equal(request->refund_id, refund->refund_id))
    {
        return "refund_id is not the one that was asked for";
    }

    if (request->transaction_id.len != 0
        && !wechatpay_str_equal(request->transaction_id,
                                refund->transaction_id))
    {
        return "transaction_id is not the one that was asked for";
    }

    if (request->out_trade_no.len != 0
        && !wechatpay_str_equal(request->out_trade_no, refund->out_trade_no))
    {
        return "out_trade_no is not the one that was asked for";
    }

    if (request->sub_mch_id.len != 0
        && !wechatpay_str_equal(request->sub_mch_id, refund->sub_mch_id))
    {
        return "sub_mch_id is not the one that was asked for";
    }

    if (request->call == WECHATPAY_CALL_CREATE
        && (refund->amount.refund != request->refund
            || refund->amount.total != request->total))
    {
        return "the amount is not the one that was asked for";
    }

    return NULL;
}


static unsigned char *
wechatpay_answer_error_json(unsigned char *p, const wechatpay_failure_t *failure)
{
    *p++ = '{';
    p = wechatpay_json_write_string(p, "code", failure->code);
    p = wechatpay_json_write_string(p, "provider_code",
                                    failure->provider_code);
    p = wechatpay_json_write_string(p, "message", failure->message);
    p = wechatpay_json_write_string(p, "field", failure->field);
    p = wechatpay_json_write_name(p, "retryable");

    if (failure->retryable) {
        p = wechatpay_json_write_literal(p, "true");

    } else {
        p = wechatpay_json_write_literal(p, "false");
    }

    *p++ = '}';

    return p;
}

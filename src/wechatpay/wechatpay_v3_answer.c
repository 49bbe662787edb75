
/*
 * Copyright (C) the refund-notify authors
 *
 * An answer of API v3: signed as a notify is, with the same keys and the same
 * window, whatever its status, and be its body empty.
 */


#include "wechatpay_answer_internal.h"
#include "wechatpay_json.h"
#include "wechatpay_merchant_internal.h"
#include "wechatpay_v3_refund.h"
#include "wechatpay_v3_signature.h"


static void wechatpay_v3_answer_refund(const wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, json_t *object,
    wechatpay_memory_t *memory, wechatpay_answer_t *answer);
static wechatpay_error_e wechatpay_v3_answer_owner(
    const wechatpay_merchant_t *merchant, const wechatpay_request_t *request,
    wechatpay_v3_values_t *values);
static void wechatpay_v3_answer_error(const json_t *object, unsigned status,
    wechatpay_memory_t *memory, wechatpay_answer_t *answer);
static wechatpay_error_e wechatpay_v3_answer_field(const json_t *object,
    wechatpay_memory_t *memory, wechatpay_str_t *field);


void
wechatpay_v3_answer(wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, const wechatpay_response_t *response,
    wechatpay_memory_t *memory, wechatpay_answer_t *answer)
{
    json_t             *object;
    wechatpay_error_e   error;

    error = wechatpay_v3_signature_verify(merchant, response->headers,
                                          response->body, response->now,
                                          response->skew);
    if (error != WECHATPAY_OK) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_UNVERIFIED_RESPONSE,
                               error);
        return;
    }

    error = wechatpay_json_parse(response->body, &object);
    if (error != WECHATPAY_OK) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                               error);
        return;
    }

    if (response->status >= 200 && response->status < 300) {
        wechatpay_v3_answer_refund(merchant, request, object, memory, answer);

    } else if (response->status >= 400) {
        wechatpay_v3_answer_error(object, response->status, memory, answer);

    } else {
        wechatpay_answer_fail(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                              "the status is none of an answer");
    }

    json_decref(object);
}


static void
wechatpay_v3_answer_refund(const wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, json_t *object,
    wechatpay_memory_t *memory, wechatpay_answer_t *answer)
{
    const char             *mismatch;
    wechatpay_error_e       error;
    wechatpay_v3_values_t   values;

    error = wechatpay_v3_refund_read(WECHATPAY_V3_ANSWERED, object, memory,
                                     &values);

    if (error == WECHATPAY_OK) {
        error = wechatpay_v3_refund_check(WECHATPAY_V3_ANSWERED, &values);
    }

    if (error != WECHATPAY_OK) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                               error);
        return;
    }

    error = wechatpay_v3_answer_owner(merchant, request, &values);
    if (error != WECHATPAY_OK) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_MISMATCHED_RESPONSE,
                               error);
        return;
    }

    mismatch = wechatpay_answer_mismatch(request, &values.refund);
    if (mismatch != NULL) {
        wechatpay_answer_fail(answer, WECHATPAY_CODE_MISMATCHED_RESPONSE,
                              mismatch);
        return;
    }

    answer->refunds = memory->alloc(memory->data, sizeof(wechatpay_refund_t));
    if (answer->refunds == NULL) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                               WECHATPAY_ERROR_NO_MEMORY);
        return;
    }

    answer->refunds[0] = values.refund;
    answer->nrefunds = 1;
    answer->outcome = WECHATPAY_ACCEPTED;
}


/* Whose refund it is, the answer may say, and then it has to be right. */

static wechatpay_error_e
wechatpay_v3_answer_owner(const wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, wechatpay_v3_values_t *values)
{
    wechatpay_str_t      mch_id;
    wechatpay_refund_t  *refund;

    refund = &values->refund;
    mch_id = wechatpay_merchant_mch_id(merchant);

    if (refund->mch_id.len == 0) {
        refund->mch_id = mch_id;
    }

    if (refund->sub_mch_id.len == 0) {
        refund->sub_mch_id = request->sub_mch_id;
    }

    if (values->sp_mch_id.len != 0
        && !wechatpay_str_equal(values->sp_mch_id, mch_id))
    {
        return WECHATPAY_ERROR_MCH_ID_MISMATCH;
    }

    return wechatpay_merchant_check(merchant, refund->mch_id, refund->app_id,
                                    refund->sub_mch_id);
}


static void
wechatpay_v3_answer_error(const json_t *object, unsigned status,
    wechatpay_memory_t *memory, wechatpay_answer_t *answer)
{
    wechatpay_str_t  code, message, field;

    if (wechatpay_json_get(object, "code").len == 0) {
        wechatpay_answer_fail(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                              "code is missing or not a string");
        return;
    }

    if (wechatpay_str_copy(wechatpay_json_get(object, "code"), memory, &code)
        != WECHATPAY_OK
        || wechatpay_str_copy(wechatpay_json_get(object, "message"), memory,
                              &message)
           != WECHATPAY_OK
        || wechatpay_v3_answer_field(json_object_get(object, "detail"), memory,
                                     &field)
           != WECHATPAY_OK)
    {
        wechatpay_answer_error(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                               WECHATPAY_ERROR_NO_MEMORY);
        return;
    }

    wechatpay_answer_fail_provider(answer, code, status, message, field);
}


/* detail.field is a path, "/amount/refund"; ours is "amount.refund". */

static wechatpay_error_e
wechatpay_v3_answer_field(const json_t *object, wechatpay_memory_t *memory,
    wechatpay_str_t *field)
{
    size_t             i;
    unsigned char     *p;
    wechatpay_str_t    path;
    wechatpay_error_e  error;

    path = wechatpay_json_get(object, "field");

    if (path.len > 1 && path.data[0] == '/') {
        path.data++;
        path.len--;
    }

    error = wechatpay_str_copy(path, memory, field);
    if (error != WECHATPAY_OK) {
        return error;
    }

    p = (unsigned char *) field->data;

    for (i = 0; i < field->len; i++) {
        if (p[i] == '/') {
            p[i] = '.';
        }
    }

    return WECHATPAY_OK;
}

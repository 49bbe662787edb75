
/*
 * Copyright (C) the refund-notify authors
 *
 * The v3 refund notify, as WeChat Pay's page on it has it: a signed JSON object
 * that says what happened, and in it resource, which decrypts to the refund.
 */


#include "wechatpay_notify.h"
#include "wechatpay_field.h"
#include "wechatpay_json.h"
#include "wechatpay_merchant_internal.h"
#include "wechatpay_v3_refund.h"
#include "wechatpay_v3_resource.h"
#include "wechatpay_v3_signature.h"


typedef struct {
    wechatpay_str_t            event_type;
    wechatpay_str_t            original_type;
    wechatpay_error_e          error;       /* of one that is right */
    wechatpay_error_e          mismatch;    /* original_type is another */
    wechatpay_refund_status_e  status;
} wechatpay_v3_event_t;


static wechatpay_error_e wechatpay_v3_notify_envelope(
    wechatpay_merchant_t *merchant, const json_t *envelope,
    wechatpay_memory_t *memory, wechatpay_refund_t *refund);
static const wechatpay_v3_event_t *wechatpay_v3_notify_event(
    wechatpay_str_t event_type);
static wechatpay_error_e wechatpay_v3_notify_decrypt(
    wechatpay_merchant_t *merchant, const json_t *resource,
    wechatpay_memory_t *memory, wechatpay_str_t *text);
static wechatpay_error_e wechatpay_v3_notify_refund(
    const wechatpay_merchant_t *merchant, json_t *object,
    wechatpay_memory_t *memory, wechatpay_v3_values_t *values);


static const wechatpay_v3_event_t  wechatpay_v3_events[] = {

    { wechatpay_string("REFUND.SUCCESS"), wechatpay_string("refund"),
      WECHATPAY_OK,
      WECHATPAY_ERROR_ORIGINAL_TYPE,
      WECHATPAY_REFUND_SUCCESS },

    { wechatpay_string("REFUND.ABNORMAL"), wechatpay_string("refund"),
      WECHATPAY_OK,
      WECHATPAY_ERROR_ORIGINAL_TYPE,
      WECHATPAY_REFUND_ABNORMAL },

    { wechatpay_string("REFUND.CLOSED"), wechatpay_string("refund"),
      WECHATPAY_OK,
      WECHATPAY_ERROR_ORIGINAL_TYPE,
      WECHATPAY_REFUND_CLOSED },

    /* a test of the notify URL; it has no refund, and so no status */

    { wechatpay_string("SECURITY_ECHO.SUCCESS"), wechatpay_string("security"),
      WECHATPAY_ERROR_SECURITY_ECHO,
      WECHATPAY_ERROR_EVENT_TYPE_UNSUPPORTED,
      WECHATPAY_REFUND_SUCCESS }
};


wechatpay_error_e
wechatpay_v3_notify(wechatpay_parser_t *parser, wechatpay_merchant_t *merchant,
    const wechatpay_headers_t *headers, wechatpay_str_t body, time_t now,
    time_t skew, wechatpay_memory_t *memory, wechatpay_refund_t *refund)
{
    json_t             *envelope;
    wechatpay_error_e   error;

    (void) parser;

    if (wechatpay_notify_version(body) != WECHATPAY_V3) {
        return WECHATPAY_ERROR_FORMAT_UNKNOWN;
    }

    if (!wechatpay_merchant_accepts(merchant, WECHATPAY_V3)) {
        return WECHATPAY_ERROR_VERSION_NOT_ACCEPTED;
    }

    error = wechatpay_v3_signature_verify(merchant, headers, body, now, skew);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_json_parse(body, &envelope);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_v3_notify_envelope(merchant, envelope, memory, refund);

    json_decref(envelope);

    return error;
}


static wechatpay_error_e
wechatpay_v3_notify_envelope(wechatpay_merchant_t *merchant,
    const json_t *envelope, wechatpay_memory_t *memory,
    wechatpay_refund_t *refund)
{
    json_t                      *resource, *object;
    wechatpay_str_t              event_type, original_type, id, time, text;
    wechatpay_error_e            error;
    wechatpay_v3_values_t        values;
    const wechatpay_v3_event_t  *event;

    /* what it is comes first: another event has other fields */

    event_type = wechatpay_json_get(envelope, "event_type");

    if (event_type.len == 0) {
        return WECHATPAY_ERROR_EVENT_TYPE_MISSING;
    }

    event = wechatpay_v3_notify_event(event_type);

    if (event == NULL) {

        /* a kind of refund's that is not known here too: it must not be lost */

        return WECHATPAY_ERROR_EVENT_TYPE_UNSUPPORTED;
    }

    resource = json_object_get(envelope, "resource");

    if (!json_is_object(resource)) {
        return WECHATPAY_ERROR_RESOURCE_MISSING;
    }

    original_type = wechatpay_json_get(resource, "original_type");

    if (original_type.len == 0) {
        return WECHATPAY_ERROR_ORIGINAL_TYPE_MISSING;
    }

    if (!wechatpay_str_equal(original_type, event->original_type)) {
        return event->mismatch;
    }

    if (event->error != WECHATPAY_OK) {
        return event->error;
    }

    id = wechatpay_json_get(envelope, "id");

    if (!wechatpay_field_valid(WECHATPAY_FIELD_ID, id)) {
        return WECHATPAY_ERROR_NOTIFY_ID;
    }

    time = wechatpay_json_get(envelope, "create_time");

    if (!wechatpay_field_valid(WECHATPAY_FIELD_V3_TIME, time)) {
        return WECHATPAY_ERROR_CREATE_TIME;
    }

    if (wechatpay_json_get(envelope, "resource_type").len == 0) {
        return WECHATPAY_ERROR_RESOURCE_TYPE;
    }

    error = wechatpay_v3_notify_decrypt(merchant, resource, memory, &text);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_json_parse(text, &object);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_v3_notify_refund(merchant, object, memory, &values);

    json_decref(object);

    if (error != WECHATPAY_OK) {
        return error;
    }

    if (values.refund.status != event->status) {
        return WECHATPAY_ERROR_STATUS_MISMATCH;
    }

    if (wechatpay_str_copy(id, memory, &values.refund.notify_id)
        != WECHATPAY_OK
        || wechatpay_str_copy(time, memory, &values.refund.create_time)
           != WECHATPAY_OK)
    {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    *refund = values.refund;

    return WECHATPAY_OK;
}


static const wechatpay_v3_event_t *
wechatpay_v3_notify_event(wechatpay_str_t event_type)
{
    size_t  i;

    for (i = 0;
         i < sizeof(wechatpay_v3_events) / sizeof(wechatpay_v3_events[0]);
         i++)
    {
        if (wechatpay_str_equal(event_type,
                                wechatpay_v3_events[i].event_type))
        {
            return &wechatpay_v3_events[i];
        }
    }

    return NULL;
}


static wechatpay_error_e
wechatpay_v3_notify_decrypt(wechatpay_merchant_t *merchant,
    const json_t *resource, wechatpay_memory_t *memory, wechatpay_str_t *text)
{
    json_t             *data;
    size_t              i;
    unsigned char      *plaintext;
    wechatpay_str_t     value, nonce, associated_data, ciphertext;
    wechatpay_error_e   error;

    static const wechatpay_str_t  aes = wechatpay_string("AEAD_AES_256_GCM");
    static const wechatpay_str_t  sm4 = wechatpay_string("AEAD_SM4_GCM");

    value = wechatpay_json_get(resource, "algorithm");

    if (value.len == 0) {
        return WECHATPAY_ERROR_ALGORITHM_MISSING;
    }

    if (wechatpay_str_equal(value, sm4)) {
        return WECHATPAY_ERROR_ALGORITHM_SM4;
    }

    if (!wechatpay_str_equal(value, aes)) {
        return WECHATPAY_ERROR_ALGORITHM_UNKNOWN;
    }

    nonce = wechatpay_json_get(resource, "nonce");

    if (nonce.len != WECHATPAY_V3_NONCE_LEN) {
        return WECHATPAY_ERROR_RESOURCE_NONCE;
    }

    data = json_object_get(resource, "associated_data");

    if (data != NULL && !json_is_null(data) && !json_is_string(data)) {
        return WECHATPAY_ERROR_ASSOCIATED_DATA;
    }

    associated_data = wechatpay_json_get(resource, "associated_data");

    value = wechatpay_json_get(resource, "ciphertext");

    if (value.len == 0) {
        return WECHATPAY_ERROR_CIPHERTEXT_MISSING;
    }

    error = wechatpay_v3_resource_decode(value, memory, &ciphertext);
    if (error != WECHATPAY_OK) {
        return error;
    }

    plaintext = memory->alloc(memory->data, ciphertext.len);
    if (plaintext == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    text->data = plaintext;

    for (i = 0; i < merchant->nv3_keys; i++) {
        error = wechatpay_v3_resource_decrypt(merchant->v3_keys[i].cipher,
                                              nonce, associated_data,
                                              ciphertext, plaintext,
                                              &text->len);
        if (error == WECHATPAY_OK) {
            return WECHATPAY_OK;
        }
    }

    return WECHATPAY_ERROR_RESOURCE_KEY;
}


static wechatpay_error_e
wechatpay_v3_notify_refund(const wechatpay_merchant_t *merchant,
    json_t *object, wechatpay_memory_t *memory,
    wechatpay_v3_values_t *values)
{
    wechatpay_error_e    error;
    wechatpay_refund_t  *refund;

    error = wechatpay_v3_refund_read(WECHATPAY_V3_NOTIFIED, object, memory,
                                     values);
    if (error != WECHATPAY_OK) {
        return error;
    }

    refund = &values->refund;

    if (values->sp_mch_id.len != 0) {

        /* a service provider's notify says whose refund it is */

        if (refund->sub_mch_id.len == 0) {
            return WECHATPAY_ERROR_SUB_MCH_ID_MISSING;
        }

        if (refund->mch_id.len != 0
            && !wechatpay_str_equal(refund->mch_id, values->sp_mch_id))
        {
            return WECHATPAY_ERROR_MCH_ID_MISMATCH;
        }

        refund->mch_id = values->sp_mch_id;
    }

    if (refund->mch_id.len == 0) {
        return WECHATPAY_ERROR_MCH_ID_MISSING;
    }

    error = wechatpay_merchant_check(merchant, refund->mch_id, refund->app_id,
                                     refund->sub_mch_id);
    if (error != WECHATPAY_OK) {
        return error;
    }

    return wechatpay_v3_refund_check(WECHATPAY_V3_NOTIFIED, values);
}

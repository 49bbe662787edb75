
/*
 * Copyright (C) the refund-notify authors
 *
 * The v3 refund notify, as WeChat Pay's page on it has it: a signed JSON object
 * that says what happened, and in it resource, which decrypts to the refund.
 */


#include "wechatpay_notify.h"
#include "wechatpay_field.h"
#include "wechatpay_json.h"
#include "wechatpay_json_plain.h"
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


/* What is wanted of the JSON around; what is no string has len 0. */

typedef struct {
    wechatpay_str_t            event_type;
    wechatpay_str_t            id;
    wechatpay_str_t            create_time;
    wechatpay_str_t            resource_type;

    /* of resource */
    wechatpay_str_t            original_type;
    wechatpay_str_t            algorithm;
    wechatpay_str_t            nonce;
    wechatpay_str_t            associated_data;
    wechatpay_str_t            ciphertext;

    unsigned                   resource:1;      /* is there, and an object */
    unsigned                   associated:1;    /* is neither text nor null */
} wechatpay_v3_envelope_t;


static void wechatpay_v3_notify_read(const json_t *json,
    wechatpay_v3_envelope_t *envelope);
static void wechatpay_v3_notify_read_plain(const wechatpay_json_plain_t *json,
    wechatpay_v3_envelope_t *envelope);
static wechatpay_error_e wechatpay_v3_notify_envelope(
    wechatpay_merchant_t *merchant, const wechatpay_v3_envelope_t *envelope,
    wechatpay_memory_t *memory, wechatpay_refund_t *refund);
static const wechatpay_v3_event_t *wechatpay_v3_notify_event(
    wechatpay_str_t event_type);
static wechatpay_error_e wechatpay_v3_notify_decrypt(
    wechatpay_merchant_t *merchant, const wechatpay_v3_envelope_t *envelope,
    wechatpay_memory_t *memory, wechatpay_str_t *text);
static wechatpay_error_e wechatpay_v3_notify_text(wechatpay_str_t text,
    wechatpay_memory_t *memory, wechatpay_v3_values_t *values);
static wechatpay_error_e wechatpay_v3_notify_refund(
    const wechatpay_merchant_t *merchant, wechatpay_v3_values_t *values);


/* Of the fields of these tables only names and places are used. */

#define wechatpay_v3_member(member)                                           \
    { wechatpay_string(#member), WECHATPAY_FIELD_TEXT,                        \
      offsetof(wechatpay_v3_envelope_t, member), WECHATPAY_OK, WECHATPAY_OK }

static const wechatpay_field_t  wechatpay_v3_envelope_members[] = {
    wechatpay_v3_member(event_type),
    wechatpay_v3_member(id),
    wechatpay_v3_member(create_time),
    wechatpay_v3_member(resource_type)
};

static const wechatpay_field_t  wechatpay_v3_resource_members[] = {
    wechatpay_v3_member(original_type),
    wechatpay_v3_member(algorithm),
    wechatpay_v3_member(nonce),
    wechatpay_v3_member(associated_data),
    wechatpay_v3_member(ciphertext)
};

#define wechatpay_v3_members(fields)  (sizeof(fields) / sizeof(fields[0]))


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
    json_t                   *json;
    wechatpay_error_e         error;
    wechatpay_json_plain_t    plain;
    wechatpay_v3_envelope_t   envelope;

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

    memset(&envelope, 0, sizeof(wechatpay_v3_envelope_t));

    if (wechatpay_json_plain(body, &plain)) {
        wechatpay_v3_notify_read_plain(&plain, &envelope);

        return wechatpay_v3_notify_envelope(merchant, &envelope, memory,
                                            refund);
    }

    error = wechatpay_json_parse(body, &json);
    if (error != WECHATPAY_OK) {
        return error;
    }

    wechatpay_v3_notify_read(json, &envelope);

    error = wechatpay_v3_notify_envelope(merchant, &envelope, memory, refund);

    json_decref(json);

    return error;
}


static void
wechatpay_v3_notify_read(const json_t *json, wechatpay_v3_envelope_t *envelope)
{
    size_t                    i;
    const json_t             *resource, *data;
    const wechatpay_field_t  *field;

    for (i = 0; i < wechatpay_v3_members(wechatpay_v3_envelope_members); i++) {
        field = &wechatpay_v3_envelope_members[i];

        *wechatpay_field_str(field, envelope) =
                   wechatpay_json_get(json, (const char *) field->name.data);
    }

    resource = json_object_get(json, "resource");

    envelope->resource = json_is_object(resource);

    for (i = 0; i < wechatpay_v3_members(wechatpay_v3_resource_members); i++) {
        field = &wechatpay_v3_resource_members[i];

        *wechatpay_field_str(field, envelope) =
               wechatpay_json_get(resource, (const char *) field->name.data);
    }

    data = json_object_get(resource, "associated_data");

    envelope->associated = data != NULL && !json_is_null(data)
                           && !json_is_string(data);
}


static void
wechatpay_v3_notify_read_plain(const wechatpay_json_plain_t *json,
    wechatpay_v3_envelope_t *envelope)
{
    size_t                          i;
    const wechatpay_field_t        *field;
    const wechatpay_json_member_t  *member, *resource;

    static const wechatpay_str_t  name = wechatpay_string("resource");
    static const wechatpay_str_t  data = wechatpay_string("associated_data");

    for (i = 0; i < wechatpay_v3_members(wechatpay_v3_envelope_members); i++) {
        field = &wechatpay_v3_envelope_members[i];
        member = wechatpay_json_plain_find(json->members, json->nmembers,
                                           field->name);

        if (member != NULL && member->kind == WECHATPAY_JSON_STRING) {
            *wechatpay_field_str(field, envelope) = member->string;
        }
    }

    resource = wechatpay_json_plain_find(json->members, json->nmembers, name);

    if (resource == NULL || resource->kind != WECHATPAY_JSON_OBJECT) {
        return;
    }

    envelope->resource = 1;

    for (i = 0; i < wechatpay_v3_members(wechatpay_v3_resource_members); i++) {
        field = &wechatpay_v3_resource_members[i];
        member = wechatpay_json_plain_find(resource + 1, resource->nmembers,
                                           field->name);

        if (member != NULL && member->kind == WECHATPAY_JSON_STRING) {
            *wechatpay_field_str(field, envelope) = member->string;
        }
    }

    member = wechatpay_json_plain_find(resource + 1, resource->nmembers, data);

    envelope->associated = member != NULL
                           && member->kind != WECHATPAY_JSON_STRING;
}


static wechatpay_error_e
wechatpay_v3_notify_envelope(wechatpay_merchant_t *merchant,
    const wechatpay_v3_envelope_t *envelope, wechatpay_memory_t *memory,
    wechatpay_refund_t *refund)
{
    wechatpay_str_t              text;
    wechatpay_error_e            error;
    wechatpay_v3_values_t        values;
    const wechatpay_v3_event_t  *event;

    /* what it is comes first: another event has other fields */

    if (envelope->event_type.len == 0) {
        return WECHATPAY_ERROR_EVENT_TYPE_MISSING;
    }

    event = wechatpay_v3_notify_event(envelope->event_type);

    if (event == NULL) {

        /* a kind of refund's that is not known here too: it must not be lost */

        return WECHATPAY_ERROR_EVENT_TYPE_UNSUPPORTED;
    }

    if (!envelope->resource) {
        return WECHATPAY_ERROR_RESOURCE_MISSING;
    }

    if (envelope->original_type.len == 0) {
        return WECHATPAY_ERROR_ORIGINAL_TYPE_MISSING;
    }

    if (!wechatpay_str_equal(envelope->original_type, event->original_type)) {
        return event->mismatch;
    }

    if (event->error != WECHATPAY_OK) {
        return event->error;
    }

    if (!wechatpay_field_valid(WECHATPAY_FIELD_ID, envelope->id)) {
        return WECHATPAY_ERROR_NOTIFY_ID;
    }

    if (!wechatpay_field_valid(WECHATPAY_FIELD_V3_TIME,
                               envelope->create_time))
    {
        return WECHATPAY_ERROR_CREATE_TIME;
    }

    if (envelope->resource_type.len == 0) {
        return WECHATPAY_ERROR_RESOURCE_TYPE;
    }

    error = wechatpay_v3_notify_decrypt(merchant, envelope, memory, &text);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_v3_notify_text(text, memory, &values);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_v3_notify_refund(merchant, &values);
    if (error != WECHATPAY_OK) {
        return error;
    }

    if (values.refund.status != event->status) {
        return WECHATPAY_ERROR_STATUS_MISMATCH;
    }

    if (wechatpay_str_copy(envelope->id, memory, &values.refund.notify_id)
        != WECHATPAY_OK
        || wechatpay_str_copy(envelope->create_time, memory,
                              &values.refund.create_time)
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
    const wechatpay_v3_envelope_t *envelope, wechatpay_memory_t *memory,
    wechatpay_str_t *text)
{
    size_t              i;
    unsigned char      *plaintext;
    wechatpay_str_t     ciphertext;
    wechatpay_error_e   error;

    static const wechatpay_str_t  aes = wechatpay_string("AEAD_AES_256_GCM");
    static const wechatpay_str_t  sm4 = wechatpay_string("AEAD_SM4_GCM");

    if (envelope->algorithm.len == 0) {
        return WECHATPAY_ERROR_ALGORITHM_MISSING;
    }

    if (wechatpay_str_equal(envelope->algorithm, sm4)) {
        return WECHATPAY_ERROR_ALGORITHM_SM4;
    }

    if (!wechatpay_str_equal(envelope->algorithm, aes)) {
        return WECHATPAY_ERROR_ALGORITHM_UNKNOWN;
    }

    if (envelope->nonce.len != WECHATPAY_V3_NONCE_LEN) {
        return WECHATPAY_ERROR_RESOURCE_NONCE;
    }

    if (envelope->associated) {
        return WECHATPAY_ERROR_ASSOCIATED_DATA;
    }

    if (envelope->ciphertext.len == 0) {
        return WECHATPAY_ERROR_CIPHERTEXT_MISSING;
    }

    error = wechatpay_v3_resource_decode(envelope->ciphertext, memory,
                                         &ciphertext);
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
                                              envelope->nonce,
                                              envelope->associated_data,
                                              ciphertext, plaintext,
                                              &text->len);
        if (error == WECHATPAY_OK || error == WECHATPAY_ERROR_NO_MEMORY) {
            return error;
        }
    }

    return WECHATPAY_ERROR_RESOURCE_KEY;
}


static wechatpay_error_e
wechatpay_v3_notify_text(wechatpay_str_t text, wechatpay_memory_t *memory,
    wechatpay_v3_values_t *values)
{
    json_t                  *json;
    wechatpay_error_e        error;
    wechatpay_json_plain_t   plain;

    if (wechatpay_json_plain(text, &plain)) {
        return wechatpay_v3_refund_read_plain(WECHATPAY_V3_NOTIFIED, &plain,
                                              text, memory, values);
    }

    error = wechatpay_json_parse(text, &json);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_v3_refund_read(WECHATPAY_V3_NOTIFIED, json, memory,
                                     values);

    json_decref(json);

    return error;
}


static wechatpay_error_e
wechatpay_v3_notify_refund(const wechatpay_merchant_t *merchant,
    wechatpay_v3_values_t *values)
{
    wechatpay_error_e    error;
    wechatpay_refund_t  *refund;

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

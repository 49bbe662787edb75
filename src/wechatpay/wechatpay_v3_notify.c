
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
#include "wechatpay_v3_resource.h"
#include "wechatpay_v3_signature.h"


#define WECHATPAY_JSON_FLAGS  (JSON_COMPACT|JSON_EMBED)


/* What the tables below fill in. */

typedef struct {
    wechatpay_refund_t   refund;
    wechatpay_str_t      sp_mch_id;
    wechatpay_str_t      status;
} wechatpay_v3_values_t;


static wechatpay_error_e wechatpay_v3_notify_envelope(
    wechatpay_merchant_t *merchant, const json_t *envelope,
    wechatpay_memory_t *memory, wechatpay_refund_t *refund);
static wechatpay_error_e wechatpay_v3_notify_event(wechatpay_str_t event_type,
    wechatpay_str_t original_type, wechatpay_refund_status_e *status);
static wechatpay_error_e wechatpay_v3_notify_decrypt(
    wechatpay_merchant_t *merchant, const json_t *resource,
    wechatpay_memory_t *memory, wechatpay_str_t *text);
static wechatpay_error_e wechatpay_v3_notify_refund(
    const wechatpay_merchant_t *merchant, json_t *object,
    wechatpay_memory_t *memory, wechatpay_v3_values_t *values);
static wechatpay_error_e wechatpay_v3_notify_object(json_t *object,
    const wechatpay_field_t *fields, size_t n, wechatpay_memory_t *memory,
    wechatpay_v3_values_t *values, json_t *extra);
static wechatpay_error_e wechatpay_v3_notify_member(json_t *member,
    const wechatpay_field_t *field, wechatpay_memory_t *memory,
    wechatpay_v3_values_t *values, int *keep);
static wechatpay_error_e wechatpay_v3_notify_status(wechatpay_str_t value,
    wechatpay_refund_status_e *status);
static wechatpay_error_e wechatpay_v3_notify_extra(const json_t *extra,
    wechatpay_memory_t *memory, wechatpay_str_t *text);
static wechatpay_error_e wechatpay_v3_notify_copy(wechatpay_str_t value,
    wechatpay_memory_t *memory, wechatpay_str_t *copy);


#define wechatpay_v3_value(member)  offsetof(wechatpay_v3_values_t, member)

static const wechatpay_field_t  wechatpay_v3_fields[] = {

    /* a merchant's own, or a service provider's notify: see below */

    { wechatpay_string("mchid"), WECHATPAY_FIELD_ID,
      wechatpay_v3_value(refund.mch_id),
      WECHATPAY_OK,
      WECHATPAY_ERROR_MCH_ID_INVALID },

    { wechatpay_string("sp_mchid"), WECHATPAY_FIELD_ID,
      wechatpay_v3_value(sp_mch_id),
      WECHATPAY_OK,
      WECHATPAY_ERROR_MCH_ID_INVALID },

    { wechatpay_string("sub_mchid"), WECHATPAY_FIELD_ID,
      wechatpay_v3_value(refund.sub_mch_id),
      WECHATPAY_OK,
      WECHATPAY_ERROR_SUB_MCH_ID_INVALID },

    { wechatpay_string("appid"), WECHATPAY_FIELD_ID,
      wechatpay_v3_value(refund.app_id),
      WECHATPAY_OK,
      WECHATPAY_ERROR_APP_ID_INVALID },

    { wechatpay_string("sub_appid"), WECHATPAY_FIELD_ID,
      wechatpay_v3_value(refund.sub_app_id),
      WECHATPAY_OK,
      WECHATPAY_ERROR_APP_ID_INVALID },

    { wechatpay_string("transaction_id"), WECHATPAY_FIELD_NUMBER,
      wechatpay_v3_value(refund.transaction_id),
      WECHATPAY_ERROR_TRANSACTION_ID_MISSING,
      WECHATPAY_ERROR_TRANSACTION_ID_INVALID },

    { wechatpay_string("out_trade_no"), WECHATPAY_FIELD_NUMBER,
      wechatpay_v3_value(refund.out_trade_no),
      WECHATPAY_ERROR_OUT_TRADE_NO_MISSING,
      WECHATPAY_ERROR_OUT_TRADE_NO_INVALID },

    { wechatpay_string("refund_id"), WECHATPAY_FIELD_ID,
      wechatpay_v3_value(refund.refund_id),
      WECHATPAY_ERROR_REFUND_ID_MISSING,
      WECHATPAY_ERROR_REFUND_ID_INVALID },

    { wechatpay_string("out_refund_no"), WECHATPAY_FIELD_NUMBER,
      wechatpay_v3_value(refund.out_refund_no),
      WECHATPAY_ERROR_OUT_REFUND_NO_MISSING,
      WECHATPAY_ERROR_OUT_REFUND_NO_INVALID },

    { wechatpay_string("refund_status"), WECHATPAY_FIELD_ID,
      wechatpay_v3_value(status),
      WECHATPAY_ERROR_STATUS_MISSING,
      WECHATPAY_ERROR_STATUS_UNKNOWN },

    { wechatpay_string("success_time"), WECHATPAY_FIELD_NUMBER,
      wechatpay_v3_value(refund.success_time), WECHATPAY_OK, WECHATPAY_OK },

    { wechatpay_string("user_received_account"), WECHATPAY_FIELD_TEXT,
      wechatpay_v3_value(refund.user_received_account),
      WECHATPAY_OK, WECHATPAY_OK },

    { wechatpay_string("funds_account"), WECHATPAY_FIELD_TEXT,
      wechatpay_v3_value(refund.funds_account), WECHATPAY_OK, WECHATPAY_OK }
};

#define WECHATPAY_V3_NFIELDS                                                  \
    (sizeof(wechatpay_v3_fields) / sizeof(wechatpay_v3_fields[0]))


static const wechatpay_field_t  wechatpay_v3_amounts[] = {

    { wechatpay_string("total"), WECHATPAY_FIELD_MONEY,
      wechatpay_v3_value(refund.amount.total),
      WECHATPAY_ERROR_TOTAL_MISSING,
      WECHATPAY_ERROR_MONEY_INVALID },

    { wechatpay_string("refund"), WECHATPAY_FIELD_MONEY,
      wechatpay_v3_value(refund.amount.refund),
      WECHATPAY_ERROR_REFUND_MISSING,
      WECHATPAY_ERROR_MONEY_INVALID },

    { wechatpay_string("payer_total"), WECHATPAY_FIELD_MONEY,
      wechatpay_v3_value(refund.amount.payer_total),
      WECHATPAY_OK,
      WECHATPAY_ERROR_MONEY_INVALID },

    { wechatpay_string("payer_refund"), WECHATPAY_FIELD_MONEY,
      wechatpay_v3_value(refund.amount.payer_refund),
      WECHATPAY_OK,
      WECHATPAY_ERROR_MONEY_INVALID },

    { wechatpay_string("settlement_total"), WECHATPAY_FIELD_MONEY,
      wechatpay_v3_value(refund.amount.settlement_total),
      WECHATPAY_OK,
      WECHATPAY_ERROR_MONEY_INVALID },

    { wechatpay_string("settlement_refund"), WECHATPAY_FIELD_MONEY,
      wechatpay_v3_value(refund.amount.settlement_refund),
      WECHATPAY_OK,
      WECHATPAY_ERROR_MONEY_INVALID },

    { wechatpay_string("currency"), WECHATPAY_FIELD_TEXT,
      wechatpay_v3_value(refund.amount.currency), WECHATPAY_OK, WECHATPAY_OK }
};

#define WECHATPAY_V3_NAMOUNTS                                                 \
    (sizeof(wechatpay_v3_amounts) / sizeof(wechatpay_v3_amounts[0]))


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
    json_t                     *resource, *object;
    wechatpay_str_t             event_type, original_type, id, time, text;
    wechatpay_error_e           error;
    wechatpay_v3_values_t       values;
    wechatpay_refund_status_e   status;

    /* what it is comes first: another event has other fields */

    event_type = wechatpay_json_get(envelope, "event_type");

    if (event_type.len == 0) {
        return WECHATPAY_ERROR_EVENT_TYPE_MISSING;
    }

    resource = json_object_get(envelope, "resource");

    if (!json_is_object(resource)) {
        return WECHATPAY_ERROR_RESOURCE_MISSING;
    }

    original_type = wechatpay_json_get(resource, "original_type");

    if (original_type.len == 0) {
        return WECHATPAY_ERROR_ORIGINAL_TYPE_MISSING;
    }

    error = wechatpay_v3_notify_event(event_type, original_type, &status);
    if (error != WECHATPAY_OK) {
        return error;
    }

    id = wechatpay_json_get(envelope, "id");

    if (!wechatpay_field_valid(WECHATPAY_FIELD_ID, id)) {
        return WECHATPAY_ERROR_NOTIFY_ID;
    }

    time = wechatpay_json_get(envelope, "create_time");

    if (!wechatpay_field_valid(WECHATPAY_FIELD_NUMBER, time)) {
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

    memset(&values, 0, sizeof(wechatpay_v3_values_t));
    wechatpay_amount_init(&values.refund.amount);

    error = wechatpay_v3_notify_refund(merchant, object, memory, &values);

    json_decref(object);

    if (error != WECHATPAY_OK) {
        return error;
    }

    if (values.refund.status != status) {
        return WECHATPAY_ERROR_STATUS_MISMATCH;
    }

    if (wechatpay_v3_notify_copy(id, memory, &values.refund.notify_id)
        != WECHATPAY_OK
        || wechatpay_v3_notify_copy(time, memory, &values.refund.create_time)
           != WECHATPAY_OK)
    {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    values.refund.version = WECHATPAY_V3;

    *refund = values.refund;

    return WECHATPAY_OK;
}


static wechatpay_error_e
wechatpay_v3_notify_event(wechatpay_str_t event_type,
    wechatpay_str_t original_type, wechatpay_refund_status_e *status)
{
    size_t  i;

    static const wechatpay_str_t  refund = wechatpay_string("refund");
    static const wechatpay_str_t  security = wechatpay_string("security");
    static const wechatpay_str_t  echo =
                                     wechatpay_string("SECURITY_ECHO.SUCCESS");
    static const struct {
        wechatpay_str_t            name;
        wechatpay_refund_status_e  status;
    } events[] = {
        { wechatpay_string("REFUND.SUCCESS"), WECHATPAY_REFUND_SUCCESS },
        { wechatpay_string("REFUND.ABNORMAL"), WECHATPAY_REFUND_ABNORMAL },
        { wechatpay_string("REFUND.CLOSED"), WECHATPAY_REFUND_CLOSED }
    };

    for (i = 0; i < sizeof(events) / sizeof(events[0]); i++) {

        if (!wechatpay_str_equal(event_type, events[i].name)) {
            continue;
        }

        if (!wechatpay_str_equal(original_type, refund)) {
            return WECHATPAY_ERROR_ORIGINAL_TYPE;
        }

        *status = events[i].status;

        return WECHATPAY_OK;
    }

    if (wechatpay_str_equal(event_type, echo)
        && wechatpay_str_equal(original_type, security))
    {
        return WECHATPAY_ERROR_SECURITY_ECHO;
    }

    /* a kind of refund's that is not known here too: it must not be lost */

    return WECHATPAY_ERROR_EVENT_TYPE_UNSUPPORTED;
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
    json_t              *extra;
    wechatpay_error_e    error;
    wechatpay_refund_t  *refund;

    extra = json_object();
    if (extra == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    error = wechatpay_v3_notify_object(object, wechatpay_v3_fields,
                                       WECHATPAY_V3_NFIELDS, memory, values,
                                       extra);

    if (error == WECHATPAY_OK) {
        error = wechatpay_v3_notify_extra(extra, memory,
                                          &values->refund.extra);
    }

    json_decref(extra);

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

    if (!json_is_object(json_object_get(object, "amount"))) {
        return WECHATPAY_ERROR_AMOUNT_MISSING;
    }

    error = wechatpay_field_missing(wechatpay_v3_fields, WECHATPAY_V3_NFIELDS,
                                    values);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_field_missing(wechatpay_v3_amounts,
                                    WECHATPAY_V3_NAMOUNTS, values);
    if (error != WECHATPAY_OK) {
        return error;
    }

    return wechatpay_v3_notify_status(values->status, &refund->status);
}


/* Takes an object's members, and puts those that have no place into extra. */

static wechatpay_error_e
wechatpay_v3_notify_object(json_t *object, const wechatpay_field_t *fields,
    size_t n, wechatpay_memory_t *memory, wechatpay_v3_values_t *values,
    json_t *extra)
{
    int                 keep;
    json_t             *member, *amount;
    const char         *key;
    wechatpay_str_t     name;
    wechatpay_error_e   error;

    static const wechatpay_str_t  nested = wechatpay_string("amount");

    json_object_foreach(object, key, member) {

        name.data = (const unsigned char *) key;
        name.len = strlen(key);

        if (fields == wechatpay_v3_fields && json_is_object(member)
            && wechatpay_str_equal(name, nested))
        {
            amount = json_object();
            if (amount == NULL) {
                return WECHATPAY_ERROR_NO_MEMORY;
            }

            error = wechatpay_v3_notify_object(member, wechatpay_v3_amounts,
                                               WECHATPAY_V3_NAMOUNTS, memory,
                                               values, amount);

            if (error == WECHATPAY_OK && json_object_size(amount) != 0
                && json_object_set(extra, key, amount) != 0)
            {
                error = WECHATPAY_ERROR_NO_MEMORY;
            }

            json_decref(amount);

        } else {
            error = wechatpay_v3_notify_member(member,
                                         wechatpay_field_find(fields, n, name),
                                         memory, values, &keep);

            if (error == WECHATPAY_OK && keep
                && json_object_set_nocheck(extra, key, member) != 0)
            {
                error = WECHATPAY_ERROR_NO_MEMORY;
            }
        }

        if (error != WECHATPAY_OK) {
            return error;
        }
    }

    return WECHATPAY_OK;
}


/* Takes one member; *keep tells whether it is kept as it was received. */

static wechatpay_error_e
wechatpay_v3_notify_member(json_t *member, const wechatpay_field_t *field,
    wechatpay_memory_t *memory, wechatpay_v3_values_t *values, int *keep)
{
    json_int_t       fen;
    wechatpay_str_t  value;

    *keep = 0;

    if (field == NULL) {
        *keep = 1;
        return WECHATPAY_OK;
    }

    if (json_is_null(member)) {
        return WECHATPAY_OK;
    }

    if (field->form == WECHATPAY_FIELD_MONEY) {

        fen = json_integer_value(member);

        if (!json_is_integer(member) || fen < 0 || fen > WECHATPAY_MONEY_MAX) {
            return field->invalid;
        }

        *wechatpay_field_money(field, values) = fen;

        return WECHATPAY_OK;
    }

    value.data = (const unsigned char *) json_string_value(member);
    value.len = json_string_length(member);

    if (json_is_string(member) && value.len == 0) {
        return WECHATPAY_OK;
    }

    if (value.data != NULL && wechatpay_field_valid(field->form, value)) {
        return wechatpay_v3_notify_copy(value, memory,
                                        wechatpay_field_str(field, values));
    }

    *keep = (field->invalid == WECHATPAY_OK);

    return field->invalid;
}


static wechatpay_error_e
wechatpay_v3_notify_status(wechatpay_str_t value,
    wechatpay_refund_status_e *status)
{
    unsigned  i;

    for (i = WECHATPAY_REFUND_SUCCESS; i <= WECHATPAY_REFUND_CLOSED; i++) {
        if (wechatpay_str_equal(value, wechatpay_refund_status_name(i))) {
            *status = i;
            return WECHATPAY_OK;
        }
    }

    return WECHATPAY_ERROR_STATUS_UNKNOWN;
}


static wechatpay_error_e
wechatpay_v3_notify_extra(const json_t *extra, wechatpay_memory_t *memory,
    wechatpay_str_t *text)
{
    char    *p;
    size_t   size;

    if (json_object_size(extra) == 0) {
        return WECHATPAY_OK;
    }

    size = json_dumpb(extra, NULL, 0, WECHATPAY_JSON_FLAGS);

    p = (size != 0) ? memory->alloc(memory->data, size) : NULL;
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    (void) json_dumpb(extra, p, size, WECHATPAY_JSON_FLAGS);

    text->data = (unsigned char *) p;
    text->len = size;

    return WECHATPAY_OK;
}


static wechatpay_error_e
wechatpay_v3_notify_copy(wechatpay_str_t value, wechatpay_memory_t *memory,
    wechatpay_str_t *copy)
{
    unsigned char  *p;

    p = memory->alloc(memory->data, value.len);
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    memcpy(p, value.data, value.len);

    copy->data = p;
    copy->len = value.len;

    return WECHATPAY_OK;
}


/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_v3_refund.h"
#include "wechatpay_field.h"
#include "wechatpay_json.h"
#include "wechatpay_json_write.h"


typedef struct {
    const wechatpay_field_t  *fields;
    size_t                    n;
} wechatpay_v3_table_t;


static wechatpay_error_e wechatpay_v3_refund_object(json_t *object,
    const wechatpay_field_t *fields, size_t n, const wechatpay_v3_table_t *own,
    wechatpay_memory_t *memory, wechatpay_v3_values_t *values, json_t *extra);
static void wechatpay_v3_refund_json(json_t *json,
    wechatpay_json_member_t *member);
static wechatpay_error_e wechatpay_v3_refund_plain_object(
    const wechatpay_json_member_t *member, size_t n,
    const wechatpay_field_t *fields, size_t nfields,
    const wechatpay_v3_table_t *own, wechatpay_memory_t *memory,
    wechatpay_v3_values_t *values, unsigned char **extra);
static wechatpay_error_e wechatpay_v3_refund_member(
    const wechatpay_json_member_t *member, const wechatpay_field_t *field,
    wechatpay_memory_t *memory, wechatpay_v3_values_t *values, int *keep);
static void wechatpay_v3_refund_init(wechatpay_v3_values_t *values);
static wechatpay_error_e wechatpay_v3_refund_status(
    wechatpay_v3_source_e source, wechatpay_str_t value,
    wechatpay_refund_status_e *status);


static const wechatpay_str_t  wechatpay_v3_amount = wechatpay_string("amount");


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

    { wechatpay_string("success_time"), WECHATPAY_FIELD_V3_TIME,
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


/* What the two have of their own. */

static const wechatpay_field_t  wechatpay_v3_notify_fields[] = {

    { wechatpay_string("refund_status"), WECHATPAY_FIELD_ID,
      wechatpay_v3_value(status),
      WECHATPAY_ERROR_STATUS_MISSING,
      WECHATPAY_ERROR_STATUS_UNKNOWN }
};

static const wechatpay_field_t  wechatpay_v3_answer_fields[] = {

    { wechatpay_string("status"), WECHATPAY_FIELD_ID,
      wechatpay_v3_value(status),
      WECHATPAY_ERROR_STATUS_MISSING,
      WECHATPAY_ERROR_STATUS_UNKNOWN },

    { wechatpay_string("channel"), WECHATPAY_FIELD_TEXT,
      wechatpay_v3_value(refund.channel), WECHATPAY_OK, WECHATPAY_OK },

    { wechatpay_string("create_time"), WECHATPAY_FIELD_V3_TIME,
      wechatpay_v3_value(refund.create_time), WECHATPAY_OK, WECHATPAY_OK }
};

#define wechatpay_v3_table(fields)                                            \
    { fields, sizeof(fields) / sizeof(fields[0]) }

static const wechatpay_v3_table_t  wechatpay_v3_tables[] = {
    wechatpay_v3_table(wechatpay_v3_notify_fields),
    wechatpay_v3_table(wechatpay_v3_answer_fields)
};

static const wechatpay_v3_table_t  wechatpay_v3_no_table = { NULL, 0 };


wechatpay_error_e
wechatpay_v3_refund_read(wechatpay_v3_source_e source, json_t *object,
    wechatpay_memory_t *memory, wechatpay_v3_values_t *values)
{
    json_t             *extra;
    wechatpay_error_e   error;

    wechatpay_v3_refund_init(values);

    extra = json_object();
    if (extra == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    error = wechatpay_v3_refund_object(object, wechatpay_v3_fields,
                                       WECHATPAY_V3_NFIELDS,
                                       &wechatpay_v3_tables[source], memory,
                                       values, extra);

    if (error == WECHATPAY_OK && json_object_size(extra) != 0) {
        error = wechatpay_json_dump(extra, JSON_EMBED, memory,
                                    &values->refund.extra);
    }

    json_decref(extra);

    return error;
}


wechatpay_error_e
wechatpay_v3_refund_read_plain(wechatpay_v3_source_e source,
    const wechatpay_json_plain_t *json, wechatpay_str_t text,
    wechatpay_memory_t *memory, wechatpay_v3_values_t *values)
{
    unsigned char      *p, *extra;
    wechatpay_error_e   error;

    wechatpay_v3_refund_init(values);

    /* what is kept of the text is shorter than the text */

    extra = memory->alloc(memory->data, text.len);
    if (extra == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    p = extra;
    *p++ = '{';

    error = wechatpay_v3_refund_plain_object(json->members, json->nmembers,
                                             wechatpay_v3_fields,
                                             WECHATPAY_V3_NFIELDS,
                                             &wechatpay_v3_tables[source],
                                             memory, values, &p);

    values->refund.extra.data = extra + 1;
    values->refund.extra.len = (size_t) (p - extra - 1);

    return error;
}


static void
wechatpay_v3_refund_init(wechatpay_v3_values_t *values)
{
    memset(values, 0, sizeof(wechatpay_v3_values_t));
    wechatpay_amount_init(&values->refund.amount);

    values->refund.version = WECHATPAY_V3;
}


wechatpay_error_e
wechatpay_v3_refund_check(wechatpay_v3_source_e source,
    wechatpay_v3_values_t *values)
{
    wechatpay_error_e            error;
    const wechatpay_v3_table_t  *own;

    if (!values->amount) {
        return WECHATPAY_ERROR_AMOUNT_MISSING;
    }

    error = wechatpay_field_missing(wechatpay_v3_fields, WECHATPAY_V3_NFIELDS,
                                    values);
    if (error != WECHATPAY_OK) {
        return error;
    }

    own = &wechatpay_v3_tables[source];

    error = wechatpay_field_missing(own->fields, own->n, values);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_field_missing(wechatpay_v3_amounts,
                                    WECHATPAY_V3_NAMOUNTS, values);
    if (error != WECHATPAY_OK) {
        return error;
    }

    return wechatpay_v3_refund_status(source, values->status,
                                      &values->refund.status);
}


/* Takes an object's members, and puts those that have no place into extra. */

static wechatpay_error_e
wechatpay_v3_refund_object(json_t *object, const wechatpay_field_t *fields,
    size_t n, const wechatpay_v3_table_t *own, wechatpay_memory_t *memory,
    wechatpay_v3_values_t *values, json_t *extra)
{
    int                       keep;
    json_t                   *json, *amount;
    const char               *key;
    wechatpay_error_e         error;
    const wechatpay_field_t  *field;
    wechatpay_json_member_t   member;

    json_object_foreach(object, key, json) {

        member.name.data = (const unsigned char *) key;
        member.name.len = strlen(key);

        wechatpay_v3_refund_json(json, &member);

        if (fields == wechatpay_v3_fields
            && member.kind == WECHATPAY_JSON_OBJECT
            && wechatpay_str_equal(member.name, wechatpay_v3_amount))
        {
            amount = json_object();
            if (amount == NULL) {
                return WECHATPAY_ERROR_NO_MEMORY;
            }

            values->amount = 1;

            error = wechatpay_v3_refund_object(json, wechatpay_v3_amounts,
                                               WECHATPAY_V3_NAMOUNTS,
                                               &wechatpay_v3_no_table, memory,
                                               values, amount);

            if (error == WECHATPAY_OK && json_object_size(amount) != 0
                && json_object_set(extra, key, amount) != 0)
            {
                error = WECHATPAY_ERROR_NO_MEMORY;
            }

            json_decref(amount);

        } else {
            field = wechatpay_field_find(fields, n, member.name);

            if (field == NULL) {
                field = wechatpay_field_find(own->fields, own->n, member.name);
            }

            error = wechatpay_v3_refund_member(&member, field, memory, values,
                                               &keep);

            if (error == WECHATPAY_OK && keep
                && json_object_set_nocheck(extra, key, json) != 0)
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


static void
wechatpay_v3_refund_json(json_t *json, wechatpay_json_member_t *member)
{
    switch (json_typeof(json)) {

    case JSON_STRING:
        member->kind = WECHATPAY_JSON_STRING;
        member->string.data = (const unsigned char *) json_string_value(json);
        member->string.len = json_string_length(json);
        break;

    case JSON_INTEGER:
        member->kind = WECHATPAY_JSON_INTEGER;
        member->integer = json_integer_value(json);
        break;

    case JSON_OBJECT:
        member->kind = WECHATPAY_JSON_OBJECT;
        break;

    case JSON_NULL:
        member->kind = WECHATPAY_JSON_NULL;
        break;

    default:
        member->kind = WECHATPAY_JSON_OTHER;
    }
}


/*
 * The same for the n members from member on; *extra is behind the brace or the
 * member where the next goes.
 */

static wechatpay_error_e
wechatpay_v3_refund_plain_object(const wechatpay_json_member_t *member,
    size_t n, const wechatpay_field_t *fields, size_t nfields,
    const wechatpay_v3_table_t *own, wechatpay_memory_t *memory,
    wechatpay_v3_values_t *values, unsigned char **extra)
{
    int                             keep;
    unsigned char                  *p, *before;
    wechatpay_error_e               error;
    const wechatpay_field_t        *field;
    const wechatpay_json_member_t  *end;

    p = *extra;

    for (end = member + n; member < end; member += 1 + member->nmembers) {

        if (fields == wechatpay_v3_fields
            && member->kind == WECHATPAY_JSON_OBJECT
            && wechatpay_str_equal(member->name, wechatpay_v3_amount))
        {
            values->amount = 1;

            before = p;

            p = wechatpay_json_write_name(p, "amount");
            *p++ = '{';

            error = wechatpay_v3_refund_plain_object(member + 1,
                                                     member->nmembers,
                                                     wechatpay_v3_amounts,
                                                     WECHATPAY_V3_NAMOUNTS,
                                                     &wechatpay_v3_no_table,
                                                     memory, values, &p);
            if (p[-1] == '{') {
                p = before;

            } else {
                *p++ = '}';
            }

        } else {
            field = wechatpay_field_find(fields, nfields, member->name);

            if (field == NULL) {
                field = wechatpay_field_find(own->fields, own->n,
                                             member->name);
            }

            error = wechatpay_v3_refund_member(member, field, memory, values,
                                               &keep);

            if (error == WECHATPAY_OK && keep) {
                p = wechatpay_json_write_comma(p);
                p = wechatpay_json_write_copy(p, member->text);
            }
        }

        if (error != WECHATPAY_OK) {
            return error;
        }
    }

    *extra = p;

    return WECHATPAY_OK;
}


/* Takes one member; *keep tells whether it is kept as it was received. */

static wechatpay_error_e
wechatpay_v3_refund_member(const wechatpay_json_member_t *member,
    const wechatpay_field_t *field, wechatpay_memory_t *memory,
    wechatpay_v3_values_t *values, int *keep)
{
    *keep = 0;

    if (field == NULL) {
        *keep = 1;
        return WECHATPAY_OK;
    }

    if (member->kind == WECHATPAY_JSON_NULL) {
        return WECHATPAY_OK;
    }

    if (field->form == WECHATPAY_FIELD_MONEY) {

        if (member->kind != WECHATPAY_JSON_INTEGER || member->integer < 0
            || member->integer > WECHATPAY_MONEY_MAX)
        {
            return field->invalid;
        }

        *wechatpay_field_money(field, values) = member->integer;

        return WECHATPAY_OK;
    }

    if (member->kind == WECHATPAY_JSON_STRING) {

        if (member->string.len == 0) {
            return WECHATPAY_OK;
        }

        if (wechatpay_field_valid(field->form, member->string)) {
            return wechatpay_str_copy(member->string, memory,
                                      wechatpay_field_str(field, values));
        }
    }

    *keep = (field->invalid == WECHATPAY_OK);

    return field->invalid;
}


static wechatpay_error_e
wechatpay_v3_refund_status(wechatpay_v3_source_e source,
    wechatpay_str_t value, wechatpay_refund_status_e *status)
{
    unsigned  i, last;

    last = (source == WECHATPAY_V3_NOTIFIED) ? WECHATPAY_REFUND_CLOSED
                                             : WECHATPAY_REFUND_PROCESSING;

    for (i = WECHATPAY_REFUND_SUCCESS; i <= last; i++) {
        if (wechatpay_str_equal(value, wechatpay_refund_status_name(i))) {
            *status = i;
            return WECHATPAY_OK;
        }
    }

    return WECHATPAY_ERROR_STATUS_UNKNOWN;
}

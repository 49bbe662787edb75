
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_v2_refund.h"
#include "wechatpay_field.h"
#include "wechatpay_json.h"


/* What the tables below fill in. */

typedef struct {
    wechatpay_refund_t   refund;
    wechatpay_str_t      status;
    wechatpay_str_t      time;
    wechatpay_str_t      funds_account;
} wechatpay_v2_values_t;


static const wechatpay_field_t *wechatpay_v2_refund_find(
    wechatpay_v2_source_e source, wechatpay_str_t name);
static wechatpay_error_e wechatpay_v2_refund_field(
    const wechatpay_field_t *field, wechatpay_str_t value,
    wechatpay_v2_values_t *values, int *extra);
static wechatpay_error_e wechatpay_v2_refund_missing(
    wechatpay_v2_source_e source, wechatpay_v2_values_t *values);
static wechatpay_error_e wechatpay_v2_refund_status(
    wechatpay_v2_source_e source, wechatpay_str_t value,
    wechatpay_refund_status_e *status);
static wechatpay_str_t wechatpay_v2_refund_funds_account(
    wechatpay_str_t value);
static wechatpay_error_e wechatpay_v2_refund_time(wechatpay_str_t value,
    wechatpay_memory_t *memory, wechatpay_str_t *time);


#define wechatpay_v2_value(member)  offsetof(wechatpay_v2_values_t, member)

static const wechatpay_field_t  wechatpay_v2_fields[] = {

    { wechatpay_string("transaction_id"), WECHATPAY_FIELD_NUMBER,
      wechatpay_v2_value(refund.transaction_id),
      WECHATPAY_ERROR_TRANSACTION_ID_MISSING,
      WECHATPAY_ERROR_TRANSACTION_ID_INVALID },

    { wechatpay_string("out_trade_no"), WECHATPAY_FIELD_NUMBER,
      wechatpay_v2_value(refund.out_trade_no),
      WECHATPAY_ERROR_OUT_TRADE_NO_MISSING,
      WECHATPAY_ERROR_OUT_TRADE_NO_INVALID },

    { wechatpay_string("refund_id"), WECHATPAY_FIELD_ID,
      wechatpay_v2_value(refund.refund_id),
      WECHATPAY_ERROR_REFUND_ID_MISSING,
      WECHATPAY_ERROR_REFUND_ID_INVALID },

    { wechatpay_string("out_refund_no"), WECHATPAY_FIELD_NUMBER,
      wechatpay_v2_value(refund.out_refund_no),
      WECHATPAY_ERROR_OUT_REFUND_NO_MISSING,
      WECHATPAY_ERROR_OUT_REFUND_NO_INVALID },

    { wechatpay_string("refund_status"), WECHATPAY_FIELD_ID,
      wechatpay_v2_value(status),
      WECHATPAY_ERROR_STATUS_MISSING,
      WECHATPAY_ERROR_STATUS_UNKNOWN },

    { wechatpay_string("total_fee"), WECHATPAY_FIELD_MONEY,
      wechatpay_v2_value(refund.amount.total),
      WECHATPAY_ERROR_TOTAL_MISSING,
      WECHATPAY_ERROR_MONEY_INVALID },

    { wechatpay_string("refund_fee"), WECHATPAY_FIELD_MONEY,
      wechatpay_v2_value(refund.amount.refund),
      WECHATPAY_ERROR_REFUND_MISSING,
      WECHATPAY_ERROR_MONEY_INVALID },

    { wechatpay_string("settlement_total_fee"), WECHATPAY_FIELD_MONEY,
      wechatpay_v2_value(refund.amount.settlement_total),
      WECHATPAY_OK,
      WECHATPAY_ERROR_MONEY_INVALID },

    { wechatpay_string("settlement_refund_fee"), WECHATPAY_FIELD_MONEY,
      wechatpay_v2_value(refund.amount.settlement_refund),
      WECHATPAY_OK,
      WECHATPAY_ERROR_MONEY_INVALID },

    { wechatpay_string("success_time"), WECHATPAY_FIELD_V2_TIME,
      wechatpay_v2_value(time), WECHATPAY_OK, WECHATPAY_OK },

    /* misspelt by WeChat Pay */

    { wechatpay_string("refund_recv_accout"), WECHATPAY_FIELD_TEXT,
      wechatpay_v2_value(refund.user_received_account),
      WECHATPAY_OK, WECHATPAY_OK },

    { wechatpay_string("refund_account"), WECHATPAY_FIELD_TEXT,
      wechatpay_v2_value(funds_account), WECHATPAY_OK, WECHATPAY_OK },

    { wechatpay_string("refund_request_source"), WECHATPAY_FIELD_TEXT,
      wechatpay_v2_value(refund.request_source), WECHATPAY_OK, WECHATPAY_OK }
};

#define WECHATPAY_V2_NFIELDS                                                  \
    (sizeof(wechatpay_v2_fields) / sizeof(wechatpay_v2_fields[0]))


/* What answers have besides; in a notify these would be extra. */

static const wechatpay_field_t  wechatpay_v2_answer_fields[] = {

    { wechatpay_string("refund_success_time"), WECHATPAY_FIELD_V2_TIME,
      wechatpay_v2_value(time), WECHATPAY_OK, WECHATPAY_OK },

    { wechatpay_string("refund_channel"), WECHATPAY_FIELD_TEXT,
      wechatpay_v2_value(refund.channel), WECHATPAY_OK, WECHATPAY_OK }
};

#define WECHATPAY_V2_NANSWER_FIELDS                                           \
    (sizeof(wechatpay_v2_answer_fields)                                       \
     / sizeof(wechatpay_v2_answer_fields[0]))


wechatpay_error_e
wechatpay_v2_refund(wechatpay_v2_source_e source,
    const wechatpay_xml_field_t *fields, size_t n, wechatpay_memory_t *memory,
    wechatpay_refund_t *refund)
{
    int                            keep;
    size_t                         i, nextra;
    wechatpay_error_e              error;
    wechatpay_v2_values_t          values;
    const wechatpay_field_t       *field;
    const wechatpay_xml_field_t  **extra;

    static const wechatpay_str_t  processing = wechatpay_string("PROCESSING");

    memset(&values, 0, sizeof(wechatpay_v2_values_t));
    wechatpay_amount_init(&values.refund.amount);

    if (source == WECHATPAY_V2_CREATED) {
        values.status = processing;
    }

    extra = memory->alloc(memory->data,
                          (n + 1) * sizeof(wechatpay_xml_field_t *));
    if (extra == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    nextra = 0;

    for (i = 0; i < n; i++) {

        field = wechatpay_v2_refund_find(source, fields[i].name);

        if (field && fields[i].value.len == 0) {
            /* sent without a value is as good as not sent */
            continue;
        }

        error = wechatpay_v2_refund_field(field, fields[i].value, &values,
                                          &keep);
        if (error != WECHATPAY_OK) {
            return error;
        }

        if (keep) {
            extra[nextra++] = &fields[i];
        }
    }

    error = wechatpay_v2_refund_missing(source, &values);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_v2_refund_status(source, values.status,
                                       &values.refund.status);
    if (error != WECHATPAY_OK) {
        return error;
    }

    values.refund.funds_account =
                       wechatpay_v2_refund_funds_account(values.funds_account);

    error = wechatpay_v2_refund_time(values.time, memory,
                                     &values.refund.success_time);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_v2_refund_extra(extra, nextra, memory,
                                      &values.refund.extra);
    if (error != WECHATPAY_OK) {
        return error;
    }

    values.refund.version = WECHATPAY_V2;

    *refund = values.refund;

    return WECHATPAY_OK;
}


static const wechatpay_field_t *
wechatpay_v2_refund_find(wechatpay_v2_source_e source, wechatpay_str_t name)
{
    const wechatpay_field_t  *field;

    field = wechatpay_field_find(wechatpay_v2_fields, WECHATPAY_V2_NFIELDS,
                                 name);

    if (field == NULL && source != WECHATPAY_V2_NOTIFIED) {
        field = wechatpay_field_find(wechatpay_v2_answer_fields,
                                     WECHATPAY_V2_NANSWER_FIELDS, name);
    }

    return field;
}


static wechatpay_error_e
wechatpay_v2_refund_missing(wechatpay_v2_source_e source,
    wechatpay_v2_values_t *values)
{
    int64_t            total;
    wechatpay_error_e  error;

    total = values->refund.amount.total;

    /* the example on WeChat Pay's page on the query has no total_fee */

    if (source == WECHATPAY_V2_QUERIED && total == WECHATPAY_AMOUNT_ABSENT) {
        values->refund.amount.total = 0;
    }

    error = wechatpay_field_missing(wechatpay_v2_fields, WECHATPAY_V2_NFIELDS,
                                    values);

    values->refund.amount.total = total;

    return error;
}


/* Takes one field; *extra tells whether it is kept as it was received. */

static wechatpay_error_e
wechatpay_v2_refund_field(const wechatpay_field_t *field,
    wechatpay_str_t value, wechatpay_v2_values_t *values, int *extra)
{
    *extra = 0;

    if (field == NULL) {
        *extra = 1;
        return WECHATPAY_OK;
    }

    if (field->form == WECHATPAY_FIELD_MONEY) {

        if (wechatpay_v2_refund_integer(value,
                                      wechatpay_field_money(field, values))
            != 0)
        {
            return field->invalid;
        }

        return WECHATPAY_OK;
    }

    if (wechatpay_field_valid(field->form, value)) {
        *wechatpay_field_str(field, values) = value;
        return WECHATPAY_OK;
    }

    *extra = (field->invalid == WECHATPAY_OK);

    return field->invalid;
}


int
wechatpay_v2_refund_integer(wechatpay_str_t value, int64_t *n)
{
    size_t   i;
    int64_t  integer;

    /* 15 digits are less than WECHATPAY_MONEY_MAX */

    if (value.len == 0 || value.len > 15) {
        return -1;
    }

    integer = 0;

    for (i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return -1;
        }

        integer = integer * 10 + (value.data[i] - '0');
    }

    *n = integer;

    return 0;
}


static wechatpay_error_e
wechatpay_v2_refund_status(wechatpay_v2_source_e source,
    wechatpay_str_t value, wechatpay_refund_status_e *status)
{
    size_t  i, n;

    static const struct {
        wechatpay_str_t            name;
        wechatpay_refund_status_e  status;
    } statuses[] = {
        { wechatpay_string("SUCCESS"), WECHATPAY_REFUND_SUCCESS },
        { wechatpay_string("CHANGE"), WECHATPAY_REFUND_ABNORMAL },
        { wechatpay_string("REFUNDCLOSE"), WECHATPAY_REFUND_CLOSED },

        /* of answers, never of a notify */

        { wechatpay_string("PROCESSING"), WECHATPAY_REFUND_PROCESSING }
    };

    n = sizeof(statuses) / sizeof(statuses[0]);

    if (source == WECHATPAY_V2_NOTIFIED) {
        n--;
    }

    for (i = 0; i < n; i++) {
        if (wechatpay_str_equal(value, statuses[i].name)) {
            *status = statuses[i].status;
            return WECHATPAY_OK;
        }
    }

    return WECHATPAY_ERROR_STATUS_UNKNOWN;
}


/* To v3's name of it, where v3 has one. */

static wechatpay_str_t
wechatpay_v2_refund_funds_account(wechatpay_str_t value)
{
    static const wechatpay_str_t  recharge =
                              wechatpay_string("REFUND_SOURCE_RECHARGE_FUNDS");
    static const wechatpay_str_t  unsettled =
                             wechatpay_string("REFUND_SOURCE_UNSETTLED_FUNDS");
    static const wechatpay_str_t  v3_available = wechatpay_string("AVAILABLE");
    static const wechatpay_str_t  v3_unsettled = wechatpay_string("UNSETTLED");

    if (wechatpay_str_equal(value, recharge)) {
        return v3_available;
    }

    if (wechatpay_str_equal(value, unsettled)) {
        return v3_unsettled;
    }

    return value;
}


/* v2's times are Beijing's, and do not say so. */

static wechatpay_error_e
wechatpay_v2_refund_time(wechatpay_str_t value, wechatpay_memory_t *memory,
    wechatpay_str_t *time)
{
    unsigned char  *p;

    static const wechatpay_str_t  zone = wechatpay_string("+08:00");

    if (value.len == 0) {
        return WECHATPAY_OK;
    }

    p = memory->alloc(memory->data, value.len + zone.len);
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    memcpy(p, value.data, value.len);
    p[sizeof("YYYY-MM-DD") - 1] = 'T';
    memcpy(p + value.len, zone.data, zone.len);

    time->data = p;
    time->len = value.len + zone.len;

    return WECHATPAY_OK;
}


wechatpay_error_e
wechatpay_v2_refund_extra(const wechatpay_xml_field_t **fields, size_t n,
    wechatpay_memory_t *memory, wechatpay_str_t *extra)
{
    size_t          i, size;
    unsigned char  *p;

    if (n == 0) {
        return WECHATPAY_OK;
    }

    size = 0;

    for (i = 0; i < n; i++) {
        size += sizeof("\"\":\"\",") - 1
                + wechatpay_json_escaped_length(fields[i]->name.len)
                + wechatpay_json_escaped_length(fields[i]->value.len);
    }

    p = memory->alloc(memory->data, size);
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    extra->data = p;

    for (i = 0; i < n; i++) {
        if (i != 0) {
            *p++ = ',';
        }

        *p++ = '"';
        p = wechatpay_json_escape(p, fields[i]->name);
        *p++ = '"';
        *p++ = ':';
        *p++ = '"';
        p = wechatpay_json_escape(p, fields[i]->value);
        *p++ = '"';
    }

    extra->len = (size_t) (p - extra->data);

    return WECHATPAY_OK;
}

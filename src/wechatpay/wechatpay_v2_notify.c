
/*
 * Copyright (C) the refund-notify authors
 *
 * The v2 refund notify, as WeChat Pay's page on it has it: <xml> with who it is
 * for, and in it req_info, which decrypts to <root> with the refund.  It has no
 * signature: that req_info decrypts is all that proves it.
 */


#include "wechatpay_notify.h"
#include "wechatpay_field.h"
#include "wechatpay_json.h"
#include "wechatpay_merchant_internal.h"
#include "wechatpay_parser.h"
#include "wechatpay_v2_req_info.h"


#define WECHATPAY_V2_MAX_FIELDS  64


/* What the table below fills in. */

typedef struct {
    wechatpay_refund_t   refund;
    wechatpay_str_t      status;
    wechatpay_str_t      time;
    wechatpay_str_t      funds_account;
} wechatpay_v2_values_t;


static wechatpay_error_e wechatpay_v2_notify_decrypt(
    wechatpay_parser_t *parser, wechatpay_merchant_t *merchant,
    wechatpay_str_t req_info, wechatpay_memory_t *memory,
    wechatpay_refund_t *refund);
static wechatpay_error_e wechatpay_v2_notify_root(wechatpay_parser_t *parser,
    wechatpay_str_t text, wechatpay_memory_t *memory,
    wechatpay_refund_t *refund);
static wechatpay_error_e wechatpay_v2_notify_field(
    const wechatpay_field_t *field, wechatpay_str_t value,
    wechatpay_v2_values_t *values, int *extra);
static int wechatpay_v2_notify_money(wechatpay_str_t value, int64_t *fen);
static wechatpay_error_e wechatpay_v2_notify_status(wechatpay_str_t value,
    wechatpay_refund_status_e *status);
static wechatpay_str_t wechatpay_v2_notify_funds_account(
    wechatpay_str_t value);
static wechatpay_error_e wechatpay_v2_notify_time(wechatpay_str_t value,
    wechatpay_memory_t *memory, wechatpay_str_t *time);
static wechatpay_error_e wechatpay_v2_notify_extra(
    const wechatpay_xml_field_t **fields, size_t n,
    wechatpay_memory_t *memory, wechatpay_str_t *extra);


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


wechatpay_error_e
wechatpay_v2_notify(wechatpay_parser_t *parser, wechatpay_merchant_t *merchant,
    wechatpay_str_t body, wechatpay_memory_t *memory,
    wechatpay_refund_t *refund)
{
    wechatpay_xml_t        xml;
    wechatpay_str_t        mch_id, sub_mch_id, app_id, sub_app_id, value;
    wechatpay_error_e      error;
    wechatpay_xml_field_t  fields[WECHATPAY_V2_MAX_FIELDS];

    static const wechatpay_str_t  root = wechatpay_string("xml");
    static const wechatpay_str_t  success = wechatpay_string("SUCCESS");

    if (wechatpay_notify_version(body) != WECHATPAY_V2) {
        return WECHATPAY_ERROR_FORMAT_UNKNOWN;
    }

    if (!wechatpay_merchant_accepts(merchant, WECHATPAY_V2)) {
        return WECHATPAY_ERROR_VERSION_NOT_ACCEPTED;
    }

    xml.fields = fields;
    xml.max = WECHATPAY_V2_MAX_FIELDS;

    error = wechatpay_xml_parse(parser->xml, body, memory, &xml);
    if (error != WECHATPAY_OK) {
        return error;
    }

    if (!wechatpay_str_equal(xml.root, root)) {
        return WECHATPAY_ERROR_V2_ROOT;
    }

    value = wechatpay_xml_get(&xml, "return_code");

    if (value.len == 0) {
        return WECHATPAY_ERROR_RETURN_CODE_MISSING;
    }

    if (!wechatpay_str_equal(value, success)) {
        return WECHATPAY_ERROR_RETURN_CODE;
    }

    mch_id = wechatpay_xml_get(&xml, "mch_id");

    if (mch_id.len == 0) {
        return WECHATPAY_ERROR_MCH_ID_MISSING;
    }

    app_id = wechatpay_xml_get(&xml, "appid");
    sub_mch_id = wechatpay_xml_get(&xml, "sub_mch_id");

    error = wechatpay_merchant_check(merchant, mch_id, app_id, sub_mch_id);
    if (error != WECHATPAY_OK) {
        return error;
    }

    sub_app_id = wechatpay_xml_get(&xml, "sub_appid");

    if (sub_app_id.len != 0
        && !wechatpay_field_valid(WECHATPAY_FIELD_ID, sub_app_id))
    {
        return WECHATPAY_ERROR_APP_ID_INVALID;
    }

    value = wechatpay_xml_get(&xml, "req_info");

    if (value.len == 0) {
        return WECHATPAY_ERROR_REQ_INFO_MISSING;
    }

    error = wechatpay_v2_notify_decrypt(parser, merchant, value, memory,
                                        refund);
    if (error != WECHATPAY_OK) {
        return error;
    }

    refund->version = WECHATPAY_V2;
    refund->mch_id = mch_id;
    refund->sub_mch_id = sub_mch_id;
    refund->app_id = app_id;
    refund->sub_app_id = sub_app_id;

    return WECHATPAY_OK;
}


/*
 * A wrong key leaves valid padding once in 256 times, so that a key is the
 * right one only when what it yields is a refund.
 */

static wechatpay_error_e
wechatpay_v2_notify_decrypt(wechatpay_parser_t *parser,
    wechatpay_merchant_t *merchant, wechatpay_str_t req_info,
    wechatpay_memory_t *memory, wechatpay_refund_t *refund)
{
    size_t              i;
    unsigned char      *plaintext;
    wechatpay_str_t     blocks, text;
    wechatpay_error_e   error, first;

    error = wechatpay_v2_req_info_decode(req_info, memory, &blocks);
    if (error != WECHATPAY_OK) {
        return error;
    }

    plaintext = memory->alloc(memory->data, blocks.len);
    if (plaintext == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    first = WECHATPAY_ERROR_REQ_INFO_KEY;

    for (i = 0; i < merchant->nv2_keys; i++) {

        text.data = plaintext;

        error = wechatpay_v2_req_info_decrypt(merchant->v2_keys[i].cipher,
                                              blocks, plaintext, &text.len);

        if (error != WECHATPAY_OK || text.len == 0 || text.data[0] != '<') {
            continue;
        }

        error = wechatpay_v2_notify_root(parser, text, memory, refund);

        if (error == WECHATPAY_OK || error == WECHATPAY_ERROR_NO_MEMORY) {
            return error;
        }

        if (first == WECHATPAY_ERROR_REQ_INFO_KEY) {
            first = error;
        }
    }

    return first;
}


static wechatpay_error_e
wechatpay_v2_notify_root(wechatpay_parser_t *parser, wechatpay_str_t text,
    wechatpay_memory_t *memory, wechatpay_refund_t *refund)
{
    int                           keep;
    size_t                        i, nextra;
    wechatpay_xml_t               xml;
    wechatpay_error_e             error;
    wechatpay_v2_values_t         values;
    wechatpay_xml_field_t         fields[WECHATPAY_V2_MAX_FIELDS];
    const wechatpay_field_t      *field;
    const wechatpay_xml_field_t  *extra[WECHATPAY_V2_MAX_FIELDS];

    static const wechatpay_str_t  root = wechatpay_string("root");

    xml.fields = fields;
    xml.max = WECHATPAY_V2_MAX_FIELDS;

    error = wechatpay_xml_parse(parser->xml, text, memory, &xml);
    if (error != WECHATPAY_OK) {
        return error;
    }

    if (!wechatpay_str_equal(xml.root, root)) {
        return WECHATPAY_ERROR_REQ_INFO_ROOT;
    }

    memset(&values, 0, sizeof(wechatpay_v2_values_t));
    wechatpay_amount_init(&values.refund.amount);

    nextra = 0;

    for (i = 0; i < xml.nfields; i++) {

        field = wechatpay_field_find(wechatpay_v2_fields, WECHATPAY_V2_NFIELDS,
                                     fields[i].name);

        if (field && fields[i].value.len == 0) {
            /* sent without a value is as good as not sent */
            continue;
        }

        error = wechatpay_v2_notify_field(field, fields[i].value, &values,
                                          &keep);
        if (error != WECHATPAY_OK) {
            return error;
        }

        if (keep) {
            extra[nextra++] = &fields[i];
        }
    }

    error = wechatpay_field_missing(wechatpay_v2_fields, WECHATPAY_V2_NFIELDS,
                                    &values);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_v2_notify_status(values.status, &values.refund.status);
    if (error != WECHATPAY_OK) {
        return error;
    }

    values.refund.funds_account =
                       wechatpay_v2_notify_funds_account(values.funds_account);

    error = wechatpay_v2_notify_time(values.time, memory,
                                     &values.refund.success_time);
    if (error != WECHATPAY_OK) {
        return error;
    }

    error = wechatpay_v2_notify_extra(extra, nextra, memory,
                                      &values.refund.extra);
    if (error != WECHATPAY_OK) {
        return error;
    }

    *refund = values.refund;

    return WECHATPAY_OK;
}


/* Takes one field; *extra tells whether it is kept as it was received. */

static wechatpay_error_e
wechatpay_v2_notify_field(const wechatpay_field_t *field,
    wechatpay_str_t value, wechatpay_v2_values_t *values, int *extra)
{
    *extra = 0;

    if (field == NULL) {
        *extra = 1;
        return WECHATPAY_OK;
    }

    if (field->form == WECHATPAY_FIELD_MONEY) {

        if (wechatpay_v2_notify_money(value,
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


static int
wechatpay_v2_notify_money(wechatpay_str_t value, int64_t *fen)
{
    size_t   i;
    int64_t  n;

    /* 15 digits are less than WECHATPAY_MONEY_MAX */

    if (value.len > 15) {
        return -1;
    }

    n = 0;

    for (i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return -1;
        }

        n = n * 10 + (value.data[i] - '0');
    }

    *fen = n;

    return 0;
}


static wechatpay_error_e
wechatpay_v2_notify_status(wechatpay_str_t value,
    wechatpay_refund_status_e *status)
{
    size_t  i;

    static const struct {
        wechatpay_str_t            name;
        wechatpay_refund_status_e  status;
    } statuses[] = {
        { wechatpay_string("SUCCESS"), WECHATPAY_REFUND_SUCCESS },
        { wechatpay_string("CHANGE"), WECHATPAY_REFUND_ABNORMAL },
        { wechatpay_string("REFUNDCLOSE"), WECHATPAY_REFUND_CLOSED }
    };

    for (i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (wechatpay_str_equal(value, statuses[i].name)) {
            *status = statuses[i].status;
            return WECHATPAY_OK;
        }
    }

    return WECHATPAY_ERROR_STATUS_UNKNOWN;
}


/* To v3's name of it, where v3 has one. */

static wechatpay_str_t
wechatpay_v2_notify_funds_account(wechatpay_str_t value)
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
wechatpay_v2_notify_time(wechatpay_str_t value, wechatpay_memory_t *memory,
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


static wechatpay_error_e
wechatpay_v2_notify_extra(const wechatpay_xml_field_t **fields, size_t n,
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

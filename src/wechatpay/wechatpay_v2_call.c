
/*
 * Copyright (C) the refund-notify authors
 *
 * The refund and its query of API v2, as WeChat Pay's pages on them have it: a
 * flat XML with a signature among its fields.
 */


#include <stdlib.h>

#include "wechatpay_call_internal.h"
#include "wechatpay_v2_sign.h"


#define WECHATPAY_V2_MAX_PARAMETERS  20

/* the longest that a character becomes: &quot; */

#define wechatpay_v2_escaped_length(len)  ((len) * 6)


typedef struct {
    size_t                  n;
    wechatpay_xml_field_t   fields[WECHATPAY_V2_MAX_PARAMETERS];
} wechatpay_v2_parameters_t;


static void wechatpay_v2_call_add(wechatpay_v2_parameters_t *parameters,
    const char *name, wechatpay_str_t value);
static wechatpay_str_t wechatpay_v2_call_integer(unsigned char digits[20],
    int64_t n);
static wechatpay_str_t wechatpay_v2_call_funds_account(wechatpay_str_t value);
static int wechatpay_v2_call_xml(const wechatpay_v2_parameters_t *parameters,
    wechatpay_memory_t *memory, wechatpay_str_t *xml);
static unsigned char *wechatpay_v2_call_escape(unsigned char *p,
    wechatpay_str_t value);


int
wechatpay_v2_call(wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, wechatpay_str_t nonce,
    wechatpay_memory_t *memory, wechatpay_call_t *call)
{
    unsigned char              refund[20], total[20];
    unsigned char              sign[WECHATPAY_V2_SIGN_MAX_LEN];
    wechatpay_str_t            app_id, value;
    wechatpay_v2_parameters_t  parameters;

    static const wechatpay_str_t  post = wechatpay_string("POST");
    static const wechatpay_str_t  xml = wechatpay_string("text/xml");
    static const wechatpay_str_t  any = wechatpay_string("*/*");
    static const wechatpay_str_t  md5 = wechatpay_string("MD5");
    static const wechatpay_str_t  hmac = wechatpay_string("HMAC-SHA256");
    static const wechatpay_str_t  refund_path =
                                       wechatpay_string("/secapi/pay/refund");
    static const wechatpay_str_t  query_path =
                                         wechatpay_string("/pay/refundquery");

    app_id.data = merchant->app_id.data;
    app_id.len = merchant->app_id.len;

    parameters.n = 0;

    wechatpay_v2_call_add(&parameters, "appid", app_id);
    wechatpay_v2_call_add(&parameters, "mch_id",
                          wechatpay_merchant_mch_id(merchant));
    wechatpay_v2_call_add(&parameters, "sub_mch_id", request->sub_mch_id);
    wechatpay_v2_call_add(&parameters, "nonce_str", nonce);
    wechatpay_v2_call_add(&parameters, "sign_type",
                          merchant->v2_sign_type == WECHATPAY_SIGN_MD5
                              ? md5 : hmac);
    wechatpay_v2_call_add(&parameters, "refund_id", request->refund_id);
    wechatpay_v2_call_add(&parameters, "out_refund_no",
                          request->out_refund_no);
    wechatpay_v2_call_add(&parameters, "transaction_id",
                          request->transaction_id);
    wechatpay_v2_call_add(&parameters, "out_trade_no", request->out_trade_no);
    wechatpay_v2_call_add(&parameters, "offset", request->offset);

    if (request->call == WECHATPAY_CALL_CREATE) {
        wechatpay_v2_call_add(&parameters, "total_fee",
                              wechatpay_v2_call_integer(total,
                                                        request->total));
        wechatpay_v2_call_add(&parameters, "refund_fee",
                              wechatpay_v2_call_integer(refund,
                                                        request->refund));
        wechatpay_v2_call_add(&parameters, "refund_fee_type",
                              request->currency);
        wechatpay_v2_call_add(&parameters, "refund_desc", request->reason);
        wechatpay_v2_call_add(&parameters, "refund_account",
                    wechatpay_v2_call_funds_account(request->funds_account));
        wechatpay_v2_call_add(&parameters, "notify_url", request->notify_url);
    }

    qsort(parameters.fields, parameters.n, sizeof(wechatpay_xml_field_t),
          wechatpay_xml_compare);

    value.data = sign;

    if (wechatpay_v2_sign(merchant, parameters.fields, parameters.n, memory,
                          sign, &value.len)
        != 0)
    {
        return -1;
    }

    wechatpay_v2_call_add(&parameters, "sign", value);

    if (wechatpay_v2_call_xml(&parameters, memory, &call->body) != 0) {
        return -1;
    }

    call->method = post;
    call->path = (request->call == WECHATPAY_CALL_CREATE) ? refund_path
                                                          : query_path;
    call->target = call->path;
    call->content_type = xml;
    call->accept = any;

    return 0;
}


static void
wechatpay_v2_call_add(wechatpay_v2_parameters_t *parameters, const char *name,
    wechatpay_str_t value)
{
    wechatpay_xml_field_t  *field;

    if (value.len == 0) {
        return;
    }

    field = &parameters->fields[parameters->n++];

    field->name.data = (const unsigned char *) name;
    field->name.len = strlen(name);
    field->value = value;
}


static wechatpay_str_t
wechatpay_v2_call_integer(unsigned char digits[20], int64_t n)
{
    size_t           i;
    wechatpay_str_t  value;

    i = 20;

    do {
        digits[--i] = (unsigned char) ('0' + n % 10);
        n /= 10;
    } while (n != 0);

    value.data = digits + i;
    value.len = 20 - i;

    return value;
}


/* From v3's name of it. */

static wechatpay_str_t
wechatpay_v2_call_funds_account(wechatpay_str_t value)
{
    static const wechatpay_str_t  v3_available = wechatpay_string("AVAILABLE");
    static const wechatpay_str_t  recharge =
                              wechatpay_string("REFUND_SOURCE_RECHARGE_FUNDS");
    static const wechatpay_str_t  unsettled =
                             wechatpay_string("REFUND_SOURCE_UNSETTLED_FUNDS");

    if (value.len == 0) {
        return value;
    }

    return wechatpay_str_equal(value, v3_available) ? recharge : unsettled;
}


static int
wechatpay_v2_call_xml(const wechatpay_v2_parameters_t *parameters,
    wechatpay_memory_t *memory, wechatpay_str_t *xml)
{
    size_t                        i, size;
    unsigned char                *p;
    const wechatpay_xml_field_t  *field;

    size = sizeof("<xml></xml>") - 1;

    for (i = 0; i < parameters->n; i++) {
        field = &parameters->fields[i];

        size += sizeof("<></>") - 1 + field->name.len * 2
                + wechatpay_v2_escaped_length(field->value.len);
    }

    p = memory->alloc(memory->data, size);
    if (p == NULL) {
        return -1;
    }

    xml->data = p;

    memcpy(p, "<xml>", 5);
    p += 5;

    for (i = 0; i < parameters->n; i++) {
        field = &parameters->fields[i];

        *p++ = '<';
        memcpy(p, field->name.data, field->name.len);
        p += field->name.len;
        *p++ = '>';

        p = wechatpay_v2_call_escape(p, field->value);

        *p++ = '<';
        *p++ = '/';
        memcpy(p, field->name.data, field->name.len);
        p += field->name.len;
        *p++ = '>';
    }

    memcpy(p, "</xml>", 6);
    p += 6;

    xml->len = (size_t) (p - xml->data);

    return 0;
}


/* CDATA would have to be parted at "]]>"; entities have no such end. */

static unsigned char *
wechatpay_v2_call_escape(unsigned char *p, wechatpay_str_t value)
{
    size_t           i;
    wechatpay_str_t  entity;

    static const wechatpay_str_t  lt = wechatpay_string("&lt;");
    static const wechatpay_str_t  gt = wechatpay_string("&gt;");
    static const wechatpay_str_t  amp = wechatpay_string("&amp;");
    static const wechatpay_str_t  quot = wechatpay_string("&quot;");
    static const wechatpay_str_t  apos = wechatpay_string("&apos;");

    for (i = 0; i < value.len; i++) {

        switch (value.data[i]) {

        case '<':
            entity = lt;
            break;

        case '>':
            entity = gt;
            break;

        case '&':
            entity = amp;
            break;

        case '"':
            entity = quot;
            break;

        case '\'':
            entity = apos;
            break;

        default:
            *p++ = value.data[i];
            continue;
        }

        memcpy(p, entity.data, entity.len);
        p += entity.len;
    }

    return p;
}


/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_event.h"
#include "wechatpay_json.h"


/* More than all names, brackets, words and the digits of money together. */

#define WECHATPAY_EVENT_FIXED_LEN  1024

#define wechatpay_event_literal(p, s)                                         \
    ((unsigned char *) memcpy(p, s, sizeof(s) - 1) + sizeof(s) - 1)


static unsigned char *wechatpay_event_copy(unsigned char *p,
    wechatpay_str_t value);
static unsigned char *wechatpay_event_name(unsigned char *p, const char *name);
static unsigned char *wechatpay_event_string(unsigned char *p,
    const char *name, wechatpay_str_t value);
static unsigned char *wechatpay_event_money(unsigned char *p,
    const char *name, int64_t fen);
static wechatpay_str_t wechatpay_event_time(time_t time, char *buf,
    size_t size);


static const wechatpay_str_t  wechatpay_event_types[] = {
    wechatpay_string("refund.succeeded"),
    wechatpay_string("refund.abnormal"),
    wechatpay_string("refund.closed")
};


wechatpay_error_e
wechatpay_event_id(const wechatpay_refund_t *refund,
    wechatpay_memory_t *memory, wechatpay_str_t *id)
{
    unsigned char  *p;

    static const wechatpay_str_t  provider = wechatpay_string("wechatpay:");

    p = memory->alloc(memory->data, WECHATPAY_EVENT_ID_MAX_LEN);
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    id->data = p;

    p = wechatpay_event_copy(p, provider);
    p = wechatpay_event_copy(p, refund->mch_id);
    *p++ = ':';
    p = wechatpay_event_copy(p, refund->refund_id);
    *p++ = ':';
    p = wechatpay_event_copy(p, wechatpay_refund_status_name(refund->status));

    if (refund->version == WECHATPAY_V3
        && refund->status == WECHATPAY_REFUND_ABNORMAL)
    {
        *p++ = ':';
        p = wechatpay_event_copy(p, refund->notify_id);
    }

    id->len = (size_t) (p - id->data);

    return WECHATPAY_OK;
}


wechatpay_error_e
wechatpay_event_json(const wechatpay_refund_t *refund, wechatpay_str_t id,
    wechatpay_str_t merchant, time_t received, wechatpay_memory_t *memory,
    wechatpay_str_t *json)
{
    char              buf[64];
    size_t            size;
    unsigned char    *p;
    wechatpay_str_t   timestamp, version;

    static const wechatpay_str_t  provider = wechatpay_string("wechatpay");
    static const wechatpay_str_t  v2 = wechatpay_string("v2");
    static const wechatpay_str_t  v3 = wechatpay_string("v3");

    if (refund->version == WECHATPAY_V3) {
        version = v3;
        timestamp = refund->create_time;

    } else {
        version = v2;
        timestamp = refund->success_time;
    }

    if (timestamp.len == 0) {
        timestamp = wechatpay_event_time(received, buf, sizeof(buf));
    }

    size = timestamp.len + id.len + merchant.len
           + refund->mch_id.len + refund->sub_mch_id.len
           + refund->app_id.len + refund->sub_app_id.len
           + refund->transaction_id.len + refund->out_trade_no.len
           + refund->refund_id.len + refund->out_refund_no.len
           + refund->success_time.len + refund->user_received_account.len
           + refund->funds_account.len + refund->request_source.len
           + refund->amount.currency.len;

    size = WECHATPAY_EVENT_FIXED_LEN + wechatpay_json_escaped_length(size)
           + refund->extra.len;

    p = memory->alloc(memory->data, size);
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    json->data = p;

    *p++ = '{';
    p = wechatpay_event_string(p, "type",
                               wechatpay_event_types[refund->status]);
    p = wechatpay_event_string(p, "timestamp", timestamp);
    p = wechatpay_event_string(p, "id", id);
    p = wechatpay_event_string(p, "provider", provider);
    p = wechatpay_event_string(p, "api_version", version);
    p = wechatpay_event_string(p, "merchant", merchant);

    p = wechatpay_event_literal(p, ",\"data\":{");
    p = wechatpay_event_string(p, "mch_id", refund->mch_id);
    p = wechatpay_event_string(p, "sub_mch_id", refund->sub_mch_id);
    p = wechatpay_event_string(p, "app_id", refund->app_id);
    p = wechatpay_event_string(p, "sub_app_id", refund->sub_app_id);
    p = wechatpay_event_string(p, "transaction_id", refund->transaction_id);
    p = wechatpay_event_string(p, "out_trade_no", refund->out_trade_no);
    p = wechatpay_event_string(p, "refund_id", refund->refund_id);
    p = wechatpay_event_string(p, "out_refund_no", refund->out_refund_no);
    p = wechatpay_event_string(p, "status",
                               wechatpay_refund_status_name(refund->status));
    p = wechatpay_event_string(p, "success_time", refund->success_time);
    p = wechatpay_event_string(p, "user_received_account",
                               refund->user_received_account);
    p = wechatpay_event_string(p, "funds_account", refund->funds_account);
    p = wechatpay_event_string(p, "request_source", refund->request_source);

    p = wechatpay_event_literal(p, ",\"amount\":{");
    p = wechatpay_event_money(p, "total", refund->amount.total);
    p = wechatpay_event_money(p, "refund", refund->amount.refund);
    p = wechatpay_event_money(p, "payer_total", refund->amount.payer_total);
    p = wechatpay_event_money(p, "payer_refund", refund->amount.payer_refund);
    p = wechatpay_event_money(p, "settlement_total",
                              refund->amount.settlement_total);
    p = wechatpay_event_money(p, "settlement_refund",
                              refund->amount.settlement_refund);
    p = wechatpay_event_string(p, "currency", refund->amount.currency);
    *p++ = '}';

    if (refund->extra.len != 0) {
        p = wechatpay_event_literal(p, ",\"extra\":{");
        p = wechatpay_event_copy(p, refund->extra);
        *p++ = '}';
    }

    *p++ = '}';
    *p++ = '}';

    json->len = (size_t) (p - json->data);

    return WECHATPAY_OK;
}


static unsigned char *
wechatpay_event_copy(unsigned char *p, wechatpay_str_t value)
{
    memcpy(p, value.data, value.len);

    return p + value.len;
}


static unsigned char *
wechatpay_event_name(unsigned char *p, const char *name)
{
    size_t  len;

    if (p[-1] != '{') {
        *p++ = ',';
    }

    *p++ = '"';

    len = strlen(name);
    memcpy(p, name, len);
    p += len;

    *p++ = '"';
    *p++ = ':';

    return p;
}


/* A member, or nothing where the value is absent. */

static unsigned char *
wechatpay_event_string(unsigned char *p, const char *name,
    wechatpay_str_t value)
{
    if (value.len == 0) {
        return p;
    }

    p = wechatpay_event_name(p, name);

    *p++ = '"';
    p = wechatpay_json_escape(p, value);
    *p++ = '"';

    return p;
}


static unsigned char *
wechatpay_event_money(unsigned char *p, const char *name, int64_t fen)
{
    size_t         n;
    unsigned char  digits[20];

    if (fen == WECHATPAY_AMOUNT_ABSENT) {
        return p;
    }

    p = wechatpay_event_name(p, name);

    n = sizeof(digits);

    do {
        digits[--n] = (unsigned char) ('0' + fen % 10);
        fen /= 10;
    } while (fen != 0);

    memcpy(p, digits + n, sizeof(digits) - n);

    return p + sizeof(digits) - n;
}


/* In Beijing's zone, as WeChat Pay's own times are. */

static wechatpay_str_t
wechatpay_event_time(time_t time, char *buf, size_t size)
{
    struct tm        tm;
    wechatpay_str_t  text;

    time += 8 * 60 * 60;

    text.data = (unsigned char *) buf;
    text.len = 0;

    if (gmtime_r(&time, &tm) != NULL) {
        text.len = strftime(buf, size, "%Y-%m-%dT%H:%M:%S+08:00", &tm);
    }

    return text;
}


/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_event.h"
#include "wechatpay_json.h"
#include "wechatpay_json_write.h"
#include "wechatpay_refund_json.h"


/* More than all names, brackets and words of the event's own together. */

#define WECHATPAY_EVENT_FIXED_LEN  256


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

    p = wechatpay_json_write_copy(p, provider);
    p = wechatpay_json_write_copy(p, refund->mch_id);
    *p++ = ':';
    p = wechatpay_json_write_copy(p, refund->refund_id);
    *p++ = ':';
    p = wechatpay_json_write_copy(p,
                                 wechatpay_refund_status_name(refund->status));

    if (refund->version == WECHATPAY_V3
        && refund->status == WECHATPAY_REFUND_ABNORMAL)
    {
        *p++ = ':';
        p = wechatpay_json_write_copy(p, refund->notify_id);
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

    size = WECHATPAY_EVENT_FIXED_LEN
           + wechatpay_json_escaped_length(timestamp.len + id.len
                                           + merchant.len)
           + wechatpay_refund_json_length(refund);

    p = memory->alloc(memory->data, size);
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    json->data = p;

    *p++ = '{';
    p = wechatpay_json_write_string(p, "type",
                               wechatpay_event_types[refund->status]);
    p = wechatpay_json_write_string(p, "timestamp", timestamp);
    p = wechatpay_json_write_string(p, "id", id);
    p = wechatpay_json_write_string(p, "provider", provider);
    p = wechatpay_json_write_string(p, "api_version", version);
    p = wechatpay_json_write_string(p, "merchant", merchant);

    p = wechatpay_json_write_name(p, "data");
    p = wechatpay_refund_json(p, refund, 0);

    *p++ = '}';

    json->len = (size_t) (p - json->data);

    return WECHATPAY_OK;
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

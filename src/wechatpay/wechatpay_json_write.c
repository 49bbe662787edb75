
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_json_write.h"
#include "wechatpay_json.h"


unsigned char *
wechatpay_json_write_copy(unsigned char *p, wechatpay_str_t value)
{
    if (value.len == 0) {
        return p;
    }

    memcpy(p, value.data, value.len);

    return p + value.len;
}


unsigned char *
wechatpay_json_write_comma(unsigned char *p)
{
    if (p[-1] != '{' && p[-1] != '[') {
        *p++ = ',';
    }

    return p;
}


unsigned char *
wechatpay_json_write_name(unsigned char *p, const char *name)
{
    size_t  len;

    p = wechatpay_json_write_comma(p);

    *p++ = '"';

    len = strlen(name);
    memcpy(p, name, len);
    p += len;

    *p++ = '"';
    *p++ = ':';

    return p;
}


unsigned char *
wechatpay_json_write_string(unsigned char *p, const char *name,
    wechatpay_str_t value)
{
    if (value.len == 0) {
        return p;
    }

    p = wechatpay_json_write_name(p, name);

    *p++ = '"';
    p = wechatpay_json_escape(p, value);
    *p++ = '"';

    return p;
}


unsigned char *
wechatpay_json_write_integer(unsigned char *p, const char *name,
    int64_t value)
{
    size_t         n;
    unsigned char  digits[20];

    if (value < 0) {
        return p;
    }

    p = wechatpay_json_write_name(p, name);

    n = sizeof(digits);

    do {
        digits[--n] = (unsigned char) ('0' + value % 10);
        value /= 10;
    } while (value != 0);

    memcpy(p, digits + n, sizeof(digits) - n);

    return p + sizeof(digits) - n;
}


/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_field.h"
#include "wechatpay_refund.h"


static int wechatpay_field_valid_v2_time(wechatpay_str_t value);
static int wechatpay_field_valid_v3_time(wechatpay_str_t value);
static int wechatpay_field_is_form(wechatpay_str_t value, const char *form);


const wechatpay_field_t *
wechatpay_field_find(const wechatpay_field_t *fields, size_t n,
    wechatpay_str_t name)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        if (wechatpay_str_equal(fields[i].name, name)) {
            return &fields[i];
        }
    }

    return NULL;
}


int
wechatpay_field_valid(wechatpay_field_form_e form, wechatpay_str_t value)
{
    size_t         i;
    unsigned char  c;

    if (value.len == 0) {
        return 0;
    }

    switch (form) {

    case WECHATPAY_FIELD_ID:

        for (i = 0; i < value.len; i++) {
            c = value.data[i];

            if ((c < '0' || c > '9') && (c < 'A' || c > 'Z')
                && (c < 'a' || c > 'z') && c != '_' && c != '-')
            {
                return 0;
            }
        }

        return value.len <= 64;

    case WECHATPAY_FIELD_NUMBER:

        for (i = 0; i < value.len; i++) {
            if (value.data[i] < 0x20 || value.data[i] >= 0x7f) {
                return 0;
            }
        }

        return value.len <= 64;

    case WECHATPAY_FIELD_V2_TIME:

        return wechatpay_field_valid_v2_time(value);

    case WECHATPAY_FIELD_V3_TIME:

        return wechatpay_field_valid_v3_time(value);

    default:

        return value.len <= 1024;
    }
}


wechatpay_error_e
wechatpay_field_missing(const wechatpay_field_t *fields, size_t n, void *base)
{
    int     absent;
    size_t  i;

    for (i = 0; i < n; i++) {

        if (fields[i].missing == WECHATPAY_OK) {
            continue;
        }

        if (fields[i].form == WECHATPAY_FIELD_MONEY) {
            absent = *wechatpay_field_money(&fields[i], base)
                     == WECHATPAY_AMOUNT_ABSENT;

        } else {
            absent = wechatpay_field_str(&fields[i], base)->len == 0;
        }

        if (absent) {
            return fields[i].missing;
        }
    }

    return WECHATPAY_OK;
}


#define wechatpay_two(p)                                                      \
    ((unsigned) ((value.data[p] - '0') * 10 + value.data[p + 1] - '0'))


static int
wechatpay_field_valid_v2_time(wechatpay_str_t value)
{
    unsigned  year, month, day, last;

    static const unsigned char  days[] = {
        31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
    };

    if (!wechatpay_field_is_form(value, "0000-00-00 00:00:00")) {
        return 0;
    }

    year = wechatpay_two(0) * 100 + wechatpay_two(2);
    month = wechatpay_two(5);
    day = wechatpay_two(8);

    if (month < 1 || month > 12 || wechatpay_two(11) > 23
        || wechatpay_two(14) > 59 || wechatpay_two(17) > 59)
    {
        return 0;
    }

    last = days[month - 1];

    if (month == 2
        && ((year % 4 == 0 && year % 100 != 0) || year % 400 == 0))
    {
        last = 29;
    }

    return day >= 1 && day <= last;
}


/* The date and time are v2's but for the "T"; a fraction and a zone follow. */

static int
wechatpay_field_valid_v3_time(wechatpay_str_t value)
{
    size_t           i;
    unsigned char    local[sizeof("0000-00-00 00:00:00") - 1];
    wechatpay_str_t  time;

    if (value.len <= sizeof(local) || value.len > 64
        || value.data[sizeof("0000-00-00") - 1] != 'T')
    {
        return 0;
    }

    memcpy(local, value.data, sizeof(local));
    local[sizeof("0000-00-00") - 1] = ' ';

    time.data = local;
    time.len = sizeof(local);

    if (!wechatpay_field_valid_v2_time(time)) {
        return 0;
    }

    i = sizeof(local);

    if (value.data[i] == '.') {

        do {
            i++;
        } while (i < value.len
                 && value.data[i] >= '0' && value.data[i] <= '9');

        if (i == sizeof(local) + 1) {
            return 0;
        }
    }

    value.data += i;
    value.len -= i;

    if (value.len == 1) {
        return value.data[0] == 'Z';
    }

    return (wechatpay_field_is_form(value, "+00:00")
            || wechatpay_field_is_form(value, "-00:00"))
           && wechatpay_two(1) <= 23 && wechatpay_two(4) <= 59;
}


#undef wechatpay_two


/* Returns 1 if value is form, where a "0" stands for any digit, else 0. */

static int
wechatpay_field_is_form(wechatpay_str_t value, const char *form)
{
    size_t  i;

    if (value.len != strlen(form)) {
        return 0;
    }

    for (i = 0; i < value.len; i++) {
        if (form[i] == '0') {
            if (value.data[i] < '0' || value.data[i] > '9') {
                return 0;
            }

        } else if (value.data[i] != form[i]) {
            return 0;
        }
    }

    return 1;
}

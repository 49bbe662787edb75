
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_field.h"
#include "wechatpay_refund.h"


static int wechatpay_field_valid_time(wechatpay_str_t value);


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

        return wechatpay_field_valid_time(value);

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


static int
wechatpay_field_valid_time(wechatpay_str_t value)
{
    unsigned  i, year, month, day, hour, minute, second, last;

    static const char           form[] = "0000-00-00 00:00:00";
    static const unsigned char  days[] = {
        31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
    };

    if (value.len != sizeof(form) - 1) {
        return 0;
    }

    for (i = 0; i < sizeof(form) - 1; i++) {
        if (form[i] == '0') {
            if (value.data[i] < '0' || value.data[i] > '9') {
                return 0;
            }

        } else if (value.data[i] != form[i]) {
            return 0;
        }
    }

#define wechatpay_two(p)                                                      \
    ((unsigned) ((value.data[p] - '0') * 10 + value.data[p + 1] - '0'))

    year = wechatpay_two(0) * 100 + wechatpay_two(2);
    month = wechatpay_two(5);
    day = wechatpay_two(8);
    hour = wechatpay_two(11);
    minute = wechatpay_two(14);
    second = wechatpay_two(17);

#undef wechatpay_two

    if (month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59) {
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


/*
 * Copyright (C) the refund-notify authors
 *
 * JSON written in place, into room that was reckoned before.
 */


#ifndef WECHATPAY_JSON_WRITE_H
#define WECHATPAY_JSON_WRITE_H


#include "wechatpay.h"


/*
 * Each takes where to write and returns where it ended.  A comma is put before
 * a member unless the byte before is "{" or "[".
 */

#define wechatpay_json_write_literal(p, s)                                    \
    ((unsigned char *) memcpy(p, s, sizeof(s) - 1) + sizeof(s) - 1)

unsigned char *wechatpay_json_write_copy(unsigned char *p,
    wechatpay_str_t value);
unsigned char *wechatpay_json_write_comma(unsigned char *p);
unsigned char *wechatpay_json_write_name(unsigned char *p, const char *name);


/* A member, or nothing where value has len 0. */

unsigned char *wechatpay_json_write_string(unsigned char *p, const char *name,
    wechatpay_str_t value);


/* A member, or nothing where value is negative: at most 20 digits. */

unsigned char *wechatpay_json_write_integer(unsigned char *p,
    const char *name, int64_t value);


#endif /* WECHATPAY_JSON_WRITE_H */

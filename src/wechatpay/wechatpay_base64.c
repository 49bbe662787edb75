
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_base64.h"


#define X  0xff

/* What is no digit has its high bit set, so that all are tested at once. */

static const unsigned char  wechatpay_base64_digits[256] = {
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X, 62,  X,  X,  X, 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61,  X,  X,  X,  X,  X,  X,
     X,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,  X,  X,  X,  X,  X,
     X, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X
};

#undef X


int
wechatpay_base64_decode(wechatpay_str_t src, unsigned char *dst, size_t *len)
{
    size_t                digits, i;
    unsigned              a, b, c, d, group, wrong;
    unsigned char        *p;
    const unsigned char  *s;

    if (src.len % 4 != 0) {
        return -1;
    }

    digits = src.len;

    if (digits != 0 && src.data[digits - 1] == '=') {
        digits--;

        if (src.data[digits - 1] == '=') {
            digits--;
        }
    }

    s = src.data;
    p = dst;
    wrong = 0;

    for (i = digits / 4; i != 0; i--) {
        a = wechatpay_base64_digits[s[0]];
        b = wechatpay_base64_digits[s[1]];
        c = wechatpay_base64_digits[s[2]];
        d = wechatpay_base64_digits[s[3]];

        wrong |= a | b | c | d;
        group = a << 18 | b << 12 | c << 6 | d;

        p[0] = (unsigned char) (group >> 16);
        p[1] = (unsigned char) (group >> 8);
        p[2] = (unsigned char) group;

        s += 4;
        p += 3;
    }

    if (wrong & 0x80) {
        return -1;
    }

    if (digits % 4 != 0) {
        a = wechatpay_base64_digits[s[0]];
        b = wechatpay_base64_digits[s[1]];
        c = (digits % 4 == 3) ? wechatpay_base64_digits[s[2]] : 0;

        if ((a | b | c) & 0x80) {
            return -1;
        }

        *p++ = (unsigned char) (a << 2 | b >> 4);

        if (digits % 4 == 3) {
            *p++ = (unsigned char) (b << 4 | c >> 2);

            if (c & 0x03) {
                return -1;
            }

        } else if (b & 0x0f) {
            return -1;
        }
    }

    *len = (size_t) (p - dst);

    return 0;
}


/*
 * Copyright (C) the refund-notify authors
 */


#include <string.h>

#include "wechatpay_utf8.h"


#define WECHATPAY_UTF8_ONES   UINT64_C(0x0101010101010101)
#define WECHATPAY_UTF8_HIGHS  UINT64_C(0x8080808080808080)


int
wechatpay_utf8_text(wechatpay_str_t text)
{
    size_t                n;
    uint64_t              word;
    unsigned char         low, high;
    const unsigned char  *p, *last;

    p = text.data;
    last = p + text.len;

    while (p < last) {

        if (last - p >= (ptrdiff_t) sizeof(word)) {

            /* most of it is base64: eight bytes at once, none 0 or over 0x7f */

            memcpy(&word, p, sizeof(word));

            if ((((word - WECHATPAY_UTF8_ONES) | word) & WECHATPAY_UTF8_HIGHS)
                == 0)
            {
                p += sizeof(word);
                continue;
            }
        }

        if (*p < 0x80) {
            if (*p++ == '\0') {
                return 0;
            }

            continue;
        }

        low = 0x80;
        high = 0xbf;

        if (*p >= 0xc2 && *p <= 0xdf) {
            n = 1;

        } else if (*p >= 0xe0 && *p <= 0xef) {
            n = 2;

            if (*p == 0xe0) {
                low = 0xa0;

            } else if (*p == 0xed) {
                high = 0x9f;
            }

        } else if (*p >= 0xf0 && *p <= 0xf4) {
            n = 3;

            if (*p == 0xf0) {
                low = 0x90;

            } else if (*p == 0xf4) {
                high = 0x8f;
            }

        } else {
            return 0;
        }

        if ((size_t) (last - p) <= n) {
            return 0;
        }

        if (p[1] < low || p[1] > high) {
            return 0;
        }

        if ((n > 1 && (p[2] & 0xc0) != 0x80)
            || (n > 2 && (p[3] & 0xc0) != 0x80))
        {
            return 0;
        }

        p += n + 1;
    }

    return 1;
}

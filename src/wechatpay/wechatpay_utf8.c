
/*
 * Copyright (C) the refund-notify authors
 */


#include <string.h>

#include "wechatpay_utf8.h"


#define WECHATPAY_UTF8_ONES    UINT64_C(0x0101010101010101)
#define WECHATPAY_UTF8_SPACES  UINT64_C(0x2020202020202020)
#define WECHATPAY_UTF8_HIGHS   UINT64_C(0x8080808080808080)


static inline int wechatpay_utf8(wechatpay_str_t text, uint64_t least,
    int plain);
static size_t wechatpay_utf8_sequence(const unsigned char *p,
    const unsigned char *last);


int
wechatpay_utf8_text(wechatpay_str_t text)
{
    return wechatpay_utf8(text, WECHATPAY_UTF8_ONES, 0);
}


int
wechatpay_utf8_plain(wechatpay_str_t text)
{
    return wechatpay_utf8(text, WECHATPAY_UTF8_SPACES, 1);
}


/*
 * Most of it is base64: 16 bytes at once, all from least, which is eight times
 * the same, to 0x7f.  A byte below least leaves its own high bit set; what it
 * borrows can only send the next one to the slow way.
 */

static inline int
wechatpay_utf8(wechatpay_str_t text, uint64_t least, int plain)
{
    size_t                n;
    uint64_t              words[2];
    const unsigned char  *p, *last;

    p = text.data;
    last = p + text.len;

    while (p < last) {

        if (last - p >= (ptrdiff_t) sizeof(words)) {

            memcpy(words, p, sizeof(words));

            if ((((words[0] - least) | words[0] | (words[1] - least)
                  | words[1])
                 & WECHATPAY_UTF8_HIGHS)
                == 0)
            {
                p += sizeof(words);
                continue;
            }
        }

        while (p < last && *p >= (unsigned char) least && *p < 0x80) {
            p++;
        }

        if (p == last) {
            break;
        }

        if (*p < 0x80) {
            if (!plain || *p != '\n') {
                return 0;
            }

            p++;
            continue;
        }

        n = wechatpay_utf8_sequence(p, last);

        if (n == 0
            || (plain && p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe))
        {
            return 0;
        }

        p += n;
    }

    return 1;
}


/* The length of the sequence that begins at p, not ASCII, or 0: it is none. */

static size_t
wechatpay_utf8_sequence(const unsigned char *p, const unsigned char *last)
{
    size_t         n;
    unsigned char  low, high;

    low = 0x80;
    high = 0xbf;

    if (*p >= 0xc2 && *p <= 0xdf) {
        n = 2;

    } else if (*p >= 0xe0 && *p <= 0xef) {
        n = 3;

        if (*p == 0xe0) {
            low = 0xa0;

        } else if (*p == 0xed) {
            high = 0x9f;
        }

    } else if (*p >= 0xf0 && *p <= 0xf4) {
        n = 4;

        if (*p == 0xf0) {
            low = 0x90;

        } else if (*p == 0xf4) {
            high = 0x8f;
        }

    } else {
        return 0;
    }

    if ((size_t) (last - p) < n) {
        return 0;
    }

    if (p[1] < low || p[1] > high) {
        return 0;
    }

    if ((n > 2 && (p[2] & 0xc0) != 0x80) || (n > 3 && (p[3] & 0xc0) != 0x80)) {
        return 0;
    }

    return n;
}

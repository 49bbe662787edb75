
/*
 * Copyright (C) the refund-notify authors
 */


#ifndef WECHATPAY_UTF8_H
#define WECHATPAY_UTF8_H


#include "wechatpay.h"


/*
 * Returns 1 if text is UTF-8 as RFC 3629 has it (shortest forms only, no
 * surrogates, at most U+10FFFF) and has no NUL, else 0.
 */

int wechatpay_utf8_text(wechatpay_str_t text);


/*
 * Returns 1 if text is that, and besides has no byte below 0x20 but line feeds
 * and neither U+FFFE nor U+FFFF, which are all that XML does not know, else 0.
 */

int wechatpay_utf8_plain(wechatpay_str_t text);


#endif /* WECHATPAY_UTF8_H */

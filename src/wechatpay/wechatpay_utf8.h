
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


#endif /* WECHATPAY_UTF8_H */

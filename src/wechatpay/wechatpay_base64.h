
/*
 * Copyright (C) the refund-notify authors
 */


#ifndef WECHATPAY_BASE64_H
#define WECHATPAY_BASE64_H


#include "wechatpay.h"


/* The room that the decoded bytes of len characters can take. */

#define wechatpay_base64_decoded_length(len)  ((len) / 4 * 3)


/*
 * Decodes base64 as RFC 4648, section 4, and section 3.5 have it: the standard
 * alphabet, padded, no line breaks or other characters, the bits left over
 * zero; so that a text has one encoding only.  dst has the room above.
 * Returns 0 and sets *len, or returns -1.
 */

int wechatpay_base64_decode(wechatpay_str_t src, unsigned char *dst,
    size_t *len);


#endif /* WECHATPAY_BASE64_H */

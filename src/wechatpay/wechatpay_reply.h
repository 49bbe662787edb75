
/*
 * Copyright (C) the refund-notify authors
 *
 * What WeChat Pay is answered, byte for byte.
 */


#ifndef WECHATPAY_REPLY_H
#define WECHATPAY_REPLY_H


#include "wechatpay.h"


typedef struct {
    unsigned         status;            /* HTTP */
    wechatpay_str_t  content_type;
    wechatpay_str_t  body;
} wechatpay_reply_t;


/* Static; a version that is unknown is answered as v3. */

const wechatpay_reply_t *wechatpay_reply(wechatpay_version_e version,
    wechatpay_result_e result);

/* "delivered" etc., static. */

wechatpay_str_t wechatpay_result_word(wechatpay_result_e result);


#endif /* WECHATPAY_REPLY_H */

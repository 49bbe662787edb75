
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_reply.h"


/*
 * The form is that of WeChat Pay's pages on the reply to a notify: v2 has no
 * other way to fail than return_code, and for v3 the HTTP status alone
 * decides, so that a 200 with code FAIL would count as accepted.
 */

#define WECHATPAY_V2_SUCCESS                                                  \
    "<xml><return_code><![CDATA[SUCCESS]]></return_code>"                     \
    "<return_msg><![CDATA[OK]]></return_msg></xml>"

#define WECHATPAY_V2_FAIL(word)                                               \
    "<xml><return_code><![CDATA[FAIL]]></return_code>"                        \
    "<return_msg><![CDATA[" word "]]></return_msg></xml>"

#define WECHATPAY_V3_SUCCESS  "{\"code\":\"SUCCESS\",\"message\":\"OK\"}"

#define WECHATPAY_V3_FAIL(word)                                               \
    "{\"code\":\"FAIL\",\"message\":\"" word "\"}"

#define wechatpay_reply_body(status, success, fail)                           \
    { (const unsigned char *) ((status) == 200 ? success : fail),             \
      ((status) == 200 ? sizeof(success) : sizeof(fail)) - 1 }


static const wechatpay_reply_t  wechatpay_v2_replies[] = {
#define X(name, word, status)                                                 \
    { 200, wechatpay_string("text/xml"),                                      \
      wechatpay_reply_body(status, WECHATPAY_V2_SUCCESS,                      \
                           WECHATPAY_V2_FAIL(word)) },
    WECHATPAY_RESULTS(X)
#undef X
};


static const wechatpay_reply_t  wechatpay_v3_replies[] = {
#define X(name, word, status)                                                 \
    { status, wechatpay_string("application/json"),                           \
      wechatpay_reply_body(status, WECHATPAY_V3_SUCCESS,                      \
                           WECHATPAY_V3_FAIL(word)) },
    WECHATPAY_RESULTS(X)
#undef X
};


static const wechatpay_str_t  wechatpay_result_words[] = {
#define X(name, word, status)  wechatpay_string(word),
    WECHATPAY_RESULTS(X)
#undef X
};


const wechatpay_reply_t *
wechatpay_reply(wechatpay_version_e version, wechatpay_result_e result)
{
    if (version == WECHATPAY_V2) {
        return &wechatpay_v2_replies[result];
    }

    return &wechatpay_v3_replies[result];
}


wechatpay_str_t
wechatpay_result_word(wechatpay_result_e result)
{
    return wechatpay_result_words[result];
}

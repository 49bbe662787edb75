
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_error.h"


static const wechatpay_result_e  wechatpay_error_results[] = {
    WECHATPAY_RESULT_DELIVERED,
#define X(name, result, phrase)  WECHATPAY_RESULT_##result,
    WECHATPAY_ERRORS(X)
#undef X
};


static const char  *const wechatpay_error_phrases[] = {
    "",
#define X(name, result, phrase)  phrase,
    WECHATPAY_ERRORS(X)
#undef X
};


wechatpay_result_e
wechatpay_error_result(wechatpay_error_e error)
{
    return wechatpay_error_results[error];
}


const char *
wechatpay_error_phrase(wechatpay_error_e error)
{
    return wechatpay_error_phrases[error];
}


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


wechatpay_error_e
wechatpay_str_copy(wechatpay_str_t value, wechatpay_memory_t *memory,
    wechatpay_str_t *copy)
{
    unsigned char  *p;

    copy->data = NULL;
    copy->len = 0;

    if (value.len == 0) {
        return WECHATPAY_OK;
    }

    p = memory->alloc(memory->data, value.len);
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    memcpy(p, value.data, value.len);

    copy->data = p;
    copy->len = value.len;

    return WECHATPAY_OK;
}

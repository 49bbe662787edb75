
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_failure.h"


typedef struct {
    wechatpay_str_t      word;
    wechatpay_outcome_e  outcome;
    unsigned             status;
    int                  retryable;
} wechatpay_code_t;


static const wechatpay_code_t  wechatpay_codes[] = {
#define X(code, outcome, status, retryable)                                   \
    { wechatpay_string(#code), WECHATPAY_##outcome, status, retryable },
    WECHATPAY_CODES(X)
#undef X
};


/*
 * From WeChat Pay's codes, as its pages on the refund and its query list them,
 * to ours.
 */

static const struct {
    wechatpay_str_t      provider;
    wechatpay_code_e     code;
} wechatpay_provider_codes[] = {

    /* v3 */

    { wechatpay_string("SYSTEM_ERROR"), WECHATPAY_CODE_SYSTEM_ERROR },
    { wechatpay_string("PARAM_ERROR"), WECHATPAY_CODE_PARAM_ERROR },
    { wechatpay_string("INVALID_REQUEST"), WECHATPAY_CODE_INVALID_REQUEST },
    { wechatpay_string("SIGN_ERROR"), WECHATPAY_CODE_SIGN_ERROR },
    { wechatpay_string("NO_AUTH"), WECHATPAY_CODE_NO_AUTH },
    { wechatpay_string("NOT_ENOUGH"), WECHATPAY_CODE_NOT_ENOUGH },
    { wechatpay_string("USER_ACCOUNT_ABNORMAL"),
      WECHATPAY_CODE_USER_ACCOUNT_ABNORMAL },
    { wechatpay_string("MCH_NOT_EXISTS"), WECHATPAY_CODE_MCH_NOT_EXISTS },
    { wechatpay_string("RESOURCE_NOT_EXISTS"),
      WECHATPAY_CODE_RESOURCE_NOT_EXISTS },
    { wechatpay_string("FREQUENCY_LIMITED"), WECHATPAY_CODE_FREQUENCY_LIMITED },

    /* v2, but for those of the same name */

    { wechatpay_string("SYSTEMERROR"), WECHATPAY_CODE_SYSTEM_ERROR },
    { wechatpay_string("BIZERR_NEED_RETRY"), WECHATPAY_CODE_SYSTEM_ERROR },
    { wechatpay_string("TRADE_OVERDUE"), WECHATPAY_CODE_TRADE_OVERDUE },
    { wechatpay_string("ERROR"), WECHATPAY_CODE_ERROR },
    { wechatpay_string("INVALID_REQ_TOO_MUCH"),
      WECHATPAY_CODE_FREQUENCY_LIMITED },
    { wechatpay_string("NOTENOUGH"), WECHATPAY_CODE_NOT_ENOUGH },
    { wechatpay_string("INVALID_TRANSACTIONID"), WECHATPAY_CODE_PARAM_ERROR },
    { wechatpay_string("APPID_NOT_EXIST"), WECHATPAY_CODE_APPID_NOT_EXIST },
    { wechatpay_string("MCHID_NOT_EXIST"), WECHATPAY_CODE_MCH_NOT_EXISTS },
    { wechatpay_string("ORDERNOTEXIST"), WECHATPAY_CODE_RESOURCE_NOT_EXISTS },
    { wechatpay_string("REFUNDNOTEXIST"), WECHATPAY_CODE_RESOURCE_NOT_EXISTS },
    { wechatpay_string("REQUIRE_POST_METHOD"),
      WECHATPAY_CODE_INVALID_REQUEST },
    { wechatpay_string("SIGNERROR"), WECHATPAY_CODE_SIGN_ERROR },
    { wechatpay_string("XML_FORMAT_ERROR"), WECHATPAY_CODE_PARAM_ERROR }
};


void
wechatpay_failure_set(wechatpay_failure_t *failure, wechatpay_code_e code)
{
    const wechatpay_code_t  *row;

    row = &wechatpay_codes[code];

    memset(failure, 0, sizeof(wechatpay_failure_t));

    failure->outcome = row->outcome;
    failure->status = row->status;
    failure->retryable = row->retryable;
    failure->code = row->word;
}


void
wechatpay_failure_unknown(wechatpay_failure_t *failure)
{
    failure->outcome = WECHATPAY_UNKNOWN;
    failure->status = 502;
    failure->retryable = 1;
}


void
wechatpay_failure_set_provider(wechatpay_failure_t *failure,
    wechatpay_str_t provider_code, unsigned status)
{
    size_t  i, n;

    n = sizeof(wechatpay_provider_codes) / sizeof(wechatpay_provider_codes[0]);

    for (i = 0; i < n; i++) {
        if (wechatpay_str_equal(provider_code,
                                wechatpay_provider_codes[i].provider))
        {
            wechatpay_failure_set(failure, wechatpay_provider_codes[i].code);
            failure->provider_code = provider_code;

            if (status >= 500 && failure->outcome == WECHATPAY_REJECTED) {

                /* a server that fails may have failed after the refund */

                wechatpay_failure_unknown(failure);
            }

            return;
        }
    }

    if (status >= 500) {

        /* what a code means that nobody knows, their server does not either */

        wechatpay_failure_set(failure, WECHATPAY_CODE_SYSTEM_ERROR);

    } else {
        wechatpay_failure_set(failure, WECHATPAY_CODE_ERROR);

        if (status >= 400) {
            failure->status = status;
            failure->retryable = (status == 429);
        }
    }

    failure->code = provider_code;
    failure->provider_code = provider_code;
}


wechatpay_str_t
wechatpay_outcome_word(wechatpay_outcome_e outcome)
{
    static const wechatpay_str_t  words[] = {
        wechatpay_string("accepted"),
        wechatpay_string("rejected"),
        wechatpay_string("unknown")
    };

    return words[outcome];
}

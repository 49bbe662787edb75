
/*
 * Copyright (C) the refund-notify authors
 *
 * How a call to WeChat Pay can fail, as the caller is told: one table from the
 * codes of both versions of the API to ours.
 */


#ifndef WECHATPAY_FAILURE_H
#define WECHATPAY_FAILURE_H


#include "wechatpay.h"


typedef enum {
    WECHATPAY_ACCEPTED = 0,
    WECHATPAY_REJECTED,             /* for certain: nothing was refunded */
    WECHATPAY_UNKNOWN               /* the call is to be repeated, or queried */
} wechatpay_outcome_e;


/*
 * X(code, outcome, HTTP status, retryable).  The first part are v3's names, and
 * v2's where v3 has none, with the HTTP status that WeChat Pay's pages on the
 * refund give them; the second part is what happens on the way.
 */

#define WECHATPAY_CODES(X)                                                    \
    X(SYSTEM_ERROR,           UNKNOWN,  502, 1)                               \
    X(PARAM_ERROR,            REJECTED, 400, 0)                               \
    X(INVALID_REQUEST,        REJECTED, 400, 0)                               \
    X(ERROR,                  REJECTED, 400, 0)                               \
    X(SIGN_ERROR,             REJECTED, 401, 0)                               \
    X(NO_AUTH,                REJECTED, 403, 0)                               \
    X(NOT_ENOUGH,             REJECTED, 403, 0)                               \
    X(USER_ACCOUNT_ABNORMAL,  REJECTED, 403, 0)                               \
    X(TRADE_OVERDUE,          REJECTED, 403, 0)                               \
    X(MCH_NOT_EXISTS,         REJECTED, 404, 0)                               \
    X(APPID_NOT_EXIST,        REJECTED, 404, 0)                               \
    X(RESOURCE_NOT_EXISTS,    REJECTED, 404, 0)                               \
    X(FREQUENCY_LIMITED,      REJECTED, 429, 1)                               \
                                                                              \
    X(UNVERIFIED_RESPONSE,    UNKNOWN,  502, 1)                               \
    X(MALFORMED_RESPONSE,     UNKNOWN,  502, 1)                               \
    X(MISMATCHED_RESPONSE,    UNKNOWN,  502, 1)                               \
    X(NO_RESPONSE,            UNKNOWN,  502, 1)                               \
    X(TIMEOUT,                UNKNOWN,  504, 1)                               \
    X(NOT_FOUND,              REJECTED, 404, 0)                               \
    X(METHOD_NOT_ALLOWED,     REJECTED, 405, 0)                               \
    X(CONFLICT,               REJECTED, 409, 0)                               \
    X(BODY_TOO_LARGE,         REJECTED, 413, 0)                               \
    X(ERROR_RATE_LIMITED,     REJECTED, 429, 1)                               \
    X(INTERNAL_ERROR,         REJECTED, 500, 1)

typedef enum {
#define X(code, outcome, status, retryable)  WECHATPAY_CODE_##code,
    WECHATPAY_CODES(X)
#undef X
    WECHATPAY_CODE_COUNT
} wechatpay_code_e;


/* A string with len 0 is absent. */

typedef struct {
    wechatpay_outcome_e  outcome;           /* never WECHATPAY_ACCEPTED */
    unsigned             status;            /* HTTP, of our answer */
    int                  retryable;
    wechatpay_str_t      code;
    wechatpay_str_t      provider_code;     /* as WeChat Pay sent it */
    wechatpay_str_t      message;
    wechatpay_str_t      field;             /* "amount.refund" */
} wechatpay_failure_t;


/* Sets all of failure from the table's row, without message and field. */

void wechatpay_failure_set(wechatpay_failure_t *failure, wechatpay_code_e code);


/* Of a call that may have happened all the same: unknown, 502, retryable. */

void wechatpay_failure_unknown(wechatpay_failure_t *failure);


/*
 * The same with a code of WeChat Pay's, which was verified to be its.  status
 * is the HTTP status that it came with, under v2 always 200.  A code that is
 * in no table passes through: rejected, with a status of its own if that is
 * 4xx, else 400; but unknown if it came with 5xx.  The span is not copied.
 */

void wechatpay_failure_set_provider(wechatpay_failure_t *failure,
    wechatpay_str_t provider_code, unsigned status);


/* "rejected", "unknown", "accepted"; static */

wechatpay_str_t wechatpay_outcome_word(wechatpay_outcome_e outcome);


#endif /* WECHATPAY_FAILURE_H */

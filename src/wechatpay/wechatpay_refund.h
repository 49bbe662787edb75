
/*
 * Copyright (C) the refund-notify authors
 *
 * A refund, whichever version of the API it was told by.
 */


#ifndef WECHATPAY_REFUND_H
#define WECHATPAY_REFUND_H


#include "wechatpay.h"


typedef enum {
    WECHATPAY_REFUND_SUCCESS = 0,
    WECHATPAY_REFUND_ABNORMAL,          /* v2: CHANGE */
    WECHATPAY_REFUND_CLOSED,            /* v2: REFUNDCLOSE */
    WECHATPAY_REFUND_PROCESSING         /* of answers, never of a notify */
} wechatpay_refund_status_e;


/* Money is a count of fen; what the provider did not send is absent. */

#define WECHATPAY_AMOUNT_ABSENT  (-1)


typedef struct {
    int64_t                    total;
    int64_t                    refund;
    int64_t                    payer_total;
    int64_t                    payer_refund;
    int64_t                    settlement_total;
    int64_t                    settlement_refund;
    wechatpay_str_t            currency;
} wechatpay_amount_t;


/* All of it absent. */

void wechatpay_amount_init(wechatpay_amount_t *amount);


/* A string with len 0 is absent; the spans live in the caller's memory. */

typedef struct {
    wechatpay_version_e        version;
    wechatpay_refund_status_e  status;

    wechatpay_str_t            mch_id;          /* the configured one */
    wechatpay_str_t            sub_mch_id;
    wechatpay_str_t            app_id;
    wechatpay_str_t            sub_app_id;
    wechatpay_str_t            transaction_id;
    wechatpay_str_t            out_trade_no;
    wechatpay_str_t            refund_id;
    wechatpay_str_t            out_refund_no;
    wechatpay_str_t            success_time;    /* RFC 3339 */
    wechatpay_str_t            user_received_account;
    wechatpay_str_t            funds_account;
    wechatpay_str_t            request_source;

    wechatpay_amount_t         amount;

    /* JSON members without the braces around them, e.g. "a":"b","c":1 */
    wechatpay_str_t            extra;

    /* of a v3 notify's envelope, or a v3 answer's refund; RFC 3339 */
    wechatpay_str_t            create_time;
    wechatpay_str_t            channel;         /* of answers */
    wechatpay_str_t            notify_id;       /* v3: of the envelope */
} wechatpay_refund_t;


/* "SUCCESS", "ABNORMAL", "CLOSED", "PROCESSING" */

wechatpay_str_t wechatpay_refund_status_name(wechatpay_refund_status_e status);


#endif /* WECHATPAY_REFUND_H */

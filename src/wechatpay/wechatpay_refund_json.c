
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_refund_json.h"
#include "wechatpay_json.h"
#include "wechatpay_json_write.h"


/* More than all names, brackets, words and the digits of money together. */

#define WECHATPAY_REFUND_FIXED_LEN  768


size_t
wechatpay_refund_json_length(const wechatpay_refund_t *refund)
{
    size_t  size;

    size = refund->mch_id.len + refund->sub_mch_id.len
           + refund->app_id.len + refund->sub_app_id.len
           + refund->transaction_id.len + refund->out_trade_no.len
           + refund->refund_id.len + refund->out_refund_no.len
           + refund->channel.len + refund->create_time.len
           + refund->success_time.len + refund->user_received_account.len
           + refund->funds_account.len + refund->request_source.len
           + refund->amount.currency.len;

    return WECHATPAY_REFUND_FIXED_LEN + wechatpay_json_escaped_length(size)
           + refund->extra.len;
}


unsigned char *
wechatpay_refund_json(unsigned char *p, const wechatpay_refund_t *refund,
    int answer)
{
    *p++ = '{';

    p = wechatpay_refund_json_order(p, refund);

    p = wechatpay_json_write_string(p, "refund_id", refund->refund_id);
    p = wechatpay_json_write_string(p, "out_refund_no", refund->out_refund_no);
    p = wechatpay_json_write_string(p, "status",
                                 wechatpay_refund_status_name(refund->status));

    if (answer) {
        p = wechatpay_json_write_string(p, "channel", refund->channel);
        p = wechatpay_json_write_string(p, "create_time", refund->create_time);
    }

    p = wechatpay_json_write_string(p, "success_time", refund->success_time);
    p = wechatpay_json_write_string(p, "user_received_account",
                                    refund->user_received_account);
    p = wechatpay_json_write_string(p, "funds_account", refund->funds_account);
    p = wechatpay_json_write_string(p, "request_source",
                                    refund->request_source);

    p = wechatpay_json_write_literal(p, ",\"amount\":{");
    p = wechatpay_json_write_integer(p, "total", refund->amount.total);
    p = wechatpay_json_write_integer(p, "refund", refund->amount.refund);
    p = wechatpay_json_write_integer(p, "payer_total",
                                     refund->amount.payer_total);
    p = wechatpay_json_write_integer(p, "payer_refund",
                                     refund->amount.payer_refund);
    p = wechatpay_json_write_integer(p, "settlement_total",
                                     refund->amount.settlement_total);
    p = wechatpay_json_write_integer(p, "settlement_refund",
                                     refund->amount.settlement_refund);
    p = wechatpay_json_write_string(p, "currency", refund->amount.currency);
    *p++ = '}';

    p = wechatpay_refund_json_extra(p, refund);

    *p++ = '}';

    return p;
}


unsigned char *
wechatpay_refund_json_order(unsigned char *p, const wechatpay_refund_t *refund)
{
    p = wechatpay_json_write_string(p, "mch_id", refund->mch_id);
    p = wechatpay_json_write_string(p, "sub_mch_id", refund->sub_mch_id);
    p = wechatpay_json_write_string(p, "app_id", refund->app_id);
    p = wechatpay_json_write_string(p, "sub_app_id", refund->sub_app_id);
    p = wechatpay_json_write_string(p, "transaction_id",
                                    refund->transaction_id);
    p = wechatpay_json_write_string(p, "out_trade_no", refund->out_trade_no);

    return p;
}


unsigned char *
wechatpay_refund_json_extra(unsigned char *p, const wechatpay_refund_t *refund)
{
    if (refund->extra.len == 0) {
        return p;
    }

    p = wechatpay_json_write_name(p, "extra");
    *p++ = '{';
    p = wechatpay_json_write_copy(p, refund->extra);
    *p++ = '}';

    return p;
}

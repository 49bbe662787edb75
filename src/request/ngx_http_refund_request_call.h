
/*
 * Copyright (C) the refund-notify authors
 *
 * One call to WeChat Pay: signed, sent, and its answer verified.  It lives on
 * the heap and depends on no client: a refund that was asked for happens, or
 * not, whoever still waits for it.
 */


#ifndef _NGX_HTTP_REFUND_REQUEST_CALL_H_INCLUDED_
#define _NGX_HTTP_REFUND_REQUEST_CALL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "wechatpay_answer.h"
#include "wechatpay_call.h"
#include "ngx_http_refund_delivery.h"
#include "ngx_http_refund_request.h"
#include "ngx_http_refund_store.h"


typedef struct ngx_http_refund_request_call_s  ngx_http_refund_request_call_t;


/* Called once, from an event of its own, when json and status are set. */

typedef void (*ngx_http_refund_request_wake_pt)(
    ngx_http_refund_request_call_t *call);


struct ngx_http_refund_request_call_s {
    ngx_pool_t                          *pool;
    ngx_uint_t                           references;

    ngx_http_refund_request_loc_conf_t  *conf;
    ngx_http_refund_merchant_t          *merchant;
    ngx_http_refund_delivery_origin_t    origin;
    ngx_msec_t                           deadline;  /* by ngx_current_msec */
    uint64_t                             started;   /* ngx_refund_clock() */

    wechatpay_request_t                  request;
    ngx_uint_t                           deliver;   /* a query's SUCCESS too */

    /* the answer for the caller; status 0: not known yet */
    ngx_uint_t                           status;
    ngx_str_t                            json;

    /* who waits, if anybody still does */
    ngx_http_refund_request_wake_pt      wake;
    void                                *data;

    /* its own */
    wechatpay_call_t                     call;
    wechatpay_headers_t                  answer_headers;
    wechatpay_answer_t                   answer;
    ngx_table_elt_t                      headers[4];
    ngx_http_refund_delivery_t           delivery;
    ngx_http_refund_store_op_t           op;
    ngx_event_t                          timer;     /* of the next try */
    ngx_uint_t                           tries;
    ngx_uint_t                           signed_ok;

    unsigned                             guarded:1; /* op holds the digest */
    unsigned                             headerless:1; /* no memory for them */
    unsigned                             signing:1; /* in another thread */
};


/*
 * Makes a call for r, with one reference that is the caller's; request and
 * deliver are to be set, in the memory of its pool.  NULL: out of memory.
 */

ngx_http_refund_request_call_t *ngx_http_refund_request_call_create(
    ngx_http_request_t *r, ngx_http_refund_request_loc_conf_t *conf,
    ngx_http_refund_merchant_t *merchant);


/* Starts it; what can be answered at once is on return: status is set. */

void ngx_http_refund_request_call_start(ngx_http_refund_request_call_t *call);


/* Gives a reference back. */

void ngx_http_refund_request_call_release(
    ngx_http_refund_request_call_t *call);


void ngx_http_refund_request_call_exit_process(void);


#endif /* _NGX_HTTP_REFUND_REQUEST_CALL_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 *
 * The inbound half: a location that takes WeChat Pay's refund notifies.
 */


#ifndef _NGX_HTTP_REFUND_NOTIFY_H_INCLUDED_
#define _NGX_HTTP_REFUND_NOTIFY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "wechatpay_notify.h"
#include "wechatpay_reply.h"
#include "ngx_http_refund_conf.h"
#include "ngx_http_refund_event.h"
#include "ngx_http_refund_merchant_name.h"


/* directives whose places the checks of their values want */

typedef enum {
    NGX_HTTP_REFUND_NOTIFY_ACCEPT = 0,
    NGX_HTTP_REFUND_NOTIFY_DEADLINE,
    NGX_HTTP_REFUND_NOTIFY_TIMEOUT,
    NGX_HTTP_REFUND_NOTIFY_LEASE,
    NGX_HTTP_REFUND_NOTIFY_RETAIN,
    NGX_HTTP_REFUND_NOTIFY_SKEW,
    NGX_HTTP_REFUND_NOTIFY_PLACES
} ngx_http_refund_notify_place_e;


/* refund_notify_accept */
#define NGX_HTTP_REFUND_NOTIFY_V2  0x0002
#define NGX_HTTP_REFUND_NOTIFY_V3  0x0004


typedef struct {
    ngx_http_refund_merchants_t      merchants;
    ngx_array_t                      stores;    /* ngx_http_refund_store_t * */
    ngx_array_t                      locations; /* .._loc_conf_t *, handlers */
    ngx_uint_t                       used;      /* by a location of any kind */
    ngx_int_t                        request_id;    /* the variable's index, or
                                                       -1: nothing uses it */
} ngx_http_refund_notify_main_conf_t;


typedef struct {
    ngx_http_refund_merchant_name_t  merchant;

    ngx_str_t                        store_name;
    ngx_http_refund_conf_place_t     store_place;

    ngx_uint_t                       accept;    /* 0: what has keys */
    ngx_msec_t                       deadline;
    time_t                           clock_skew;
    size_t                           max_body_size;

    ngx_http_refund_event_conf_t     event;

    ngx_http_refund_conf_place_t     places[NGX_HTTP_REFUND_NOTIFY_PLACES];

    ngx_http_core_srv_conf_t        *server;
} ngx_http_refund_notify_loc_conf_t;


/* What is known of one notify; it lives in the request's pool. */

typedef struct {
    ngx_http_request_t              *request;
    ngx_http_refund_merchant_t      *merchant;
    ngx_http_refund_event_t         *event;     /* NULL: none was made */
    ngx_event_t                      deadline;
    uint64_t                         started;   /* ngx_refund_clock(), or 0 */

    ngx_str_t                        result;    /* len 0: not known yet */
    const char                      *reason;    /* NULL: none */
    wechatpay_version_e              version;
} ngx_http_refund_notify_ctx_t;


extern ngx_module_t  ngx_http_refund_notify_module;


/* The content handler. */

ngx_int_t ngx_http_refund_notify_handler(ngx_http_request_t *r);


/*
 * What is known of the notify that came with r, also after an internal
 * redirect; NULL: none did.
 */

ngx_http_refund_notify_ctx_t *ngx_http_refund_notify_ctx(
    ngx_http_request_t *r);


ngx_int_t ngx_http_refund_notify_add_variables(ngx_conf_t *cf);


void ngx_http_refund_notify_exit_process(void);


#endif /* _NGX_HTTP_REFUND_NOTIFY_H_INCLUDED_ */

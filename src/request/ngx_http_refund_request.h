
/*
 * Copyright (C) the refund-notify authors
 *
 * The outbound half: a location that takes refund calls from business apps.
 */


#ifndef _NGX_HTTP_REFUND_REQUEST_H_INCLUDED_
#define _NGX_HTTP_REFUND_REQUEST_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "wechatpay_call.h"
#include "ngx_http_refund_conf.h"
#include "ngx_http_refund_event.h"
#include "ngx_http_refund_merchant_name.h"


typedef struct {
    ngx_array_t                      locations; /* .._loc_conf_t * */
} ngx_http_refund_request_main_conf_t;


typedef struct {
    ngx_http_refund_merchant_name_t  merchant;

    ngx_uint_t                       api;       /* wechatpay_version_e */
    ngx_str_t                        pass;      /* without the last "/" */
    ngx_str_t                        notify_url;
    ngx_msec_t                       deadline;
    ngx_uint_t                       error_rate;    /* calls/s, times 1000 */
    ngx_shm_zone_t                  *errors;

    ngx_str_t                        store_name;
    ngx_http_refund_conf_place_t     store_place;
    ngx_http_refund_store_t         *store;     /* NULL: no 409 */

    ngx_str_t                        event_uri;
    ngx_str_t                        event_name;
    ngx_http_refund_conf_place_t     event_place;
    ngx_http_refund_event_conf_t    *event;     /* NULL: none is delivered */

    size_t                           prefix;    /* of the URI, before "/" */

    ngx_uint_t                       threads;
#if (NGX_THREADS)
    ngx_thread_pool_t               *thread_pool;
#endif
} ngx_http_refund_request_loc_conf_t;


extern ngx_module_t  ngx_http_refund_request_module;


ngx_int_t ngx_http_refund_request_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_REFUND_REQUEST_H_INCLUDED_ */

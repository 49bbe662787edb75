
/*
 * Copyright (C) the refund-notify authors
 *
 * A location that tells how the module does: to Prometheus, to a program, to
 * somebody with a browser, to a load balancer.
 */


#ifndef _NGX_HTTP_REFUND_STATUS_H_INCLUDED_
#define _NGX_HTTP_REFUND_STATUS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_conf.h"
#include "ngx_http_refund_notify.h"
#include "ngx_refund_counters.h"


typedef struct {
    ngx_http_core_loc_conf_t            *location;
    ngx_http_refund_conf_place_t         place;
} ngx_http_refund_status_location_t;

typedef struct {
    ngx_array_t                          locations; /* as above */
    ngx_shm_zone_t                      *zone;      /* NULL: none has it */
    ngx_uint_t                           generation;    /* its number */
    ngx_http_refund_notify_main_conf_t  *notify;
    ngx_str_t                            policy;    /* of the page's content */
} ngx_http_refund_status_main_conf_t;


extern ngx_module_t  ngx_http_refund_status_module;


/* The content handler. */

ngx_int_t ngx_http_refund_status_handler(ngx_http_request_t *r);


/* This worker's part of the stores' gauges, written anew. */

void ngx_http_refund_status_publish(ngx_http_refund_status_main_conf_t *smcf);


/*
 * How a store does: all living workers taken together, or as it was known last;
 * of one without counters, as this worker finds it.
 */

ngx_http_refund_store_state_t ngx_http_refund_status_store(
    ngx_refund_counters_t *counters, ngx_http_refund_store_t *store);


/* The page, and what its Content-Security-Policy has to be. */

extern ngx_str_t  ngx_http_refund_status_page;

ngx_int_t ngx_http_refund_status_page_policy(ngx_pool_t *pool,
    ngx_str_t *policy);


#endif /* _NGX_HTTP_REFUND_STATUS_H_INCLUDED_ */

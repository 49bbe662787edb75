
/*
 * Copyright (C) the refund-notify authors
 *
 * WeChat Pay allows a merchant 150 calls a second that succeed, and 6 that
 * fail: who goes on failing is locked out.  A bucket for each merchant, in
 * shared memory, of which every call that fails takes.
 */


#ifndef _NGX_HTTP_REFUND_REQUEST_RATE_H_INCLUDED_
#define _NGX_HTTP_REFUND_REQUEST_RATE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* The zone of all locations; NULL after an error that was said. */

ngx_shm_zone_t *ngx_http_refund_request_rate_zone(ngx_conf_t *cf);


/*
 * rate: failing calls a second, times 1000.  allowed: 1 if another call may be
 * made; failed: takes one.
 */

ngx_uint_t ngx_http_refund_request_rate_allowed(ngx_shm_zone_t *zone,
    ngx_str_t *mch_id, ngx_uint_t rate);
void ngx_http_refund_request_rate_failed(ngx_shm_zone_t *zone,
    ngx_str_t *mch_id, ngx_uint_t rate);


#endif /* _NGX_HTTP_REFUND_REQUEST_RATE_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 *
 * All metrics, as they are now.
 */


#ifndef _NGX_HTTP_REFUND_STATUS_METRICS_H_INCLUDED_
#define _NGX_HTTP_REFUND_STATUS_METRICS_H_INCLUDED_


#include "ngx_http_refund_status.h"
#include "ngx_http_refund_status_output.h"


/* out as ngx_http_refund_status_begin() wants it; NGX_ERROR: out of memory */

ngx_int_t ngx_http_refund_status_metrics(
    ngx_http_refund_status_main_conf_t *smcf,
    ngx_http_refund_status_output_t *out);


#endif /* _NGX_HTTP_REFUND_STATUS_METRICS_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 *
 * The two formats of the metrics, Prometheus' text and JSON, into a chain of
 * buffers: samples in, bytes out.
 */


#ifndef _NGX_HTTP_REFUND_STATUS_OUTPUT_H_INCLUDED_
#define _NGX_HTTP_REFUND_STATUS_OUTPUT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_refund_counters.h"


#define NGX_HTTP_REFUND_STATUS_BUFFER  16384     /* bytes of each */


typedef struct {
    const char    *name;
    ngx_str_t      value;       /* any bytes; empty: without this label */
} ngx_http_refund_status_label_t;


typedef struct {
    ngx_pool_t    *pool;
    ngx_uint_t     json;

    ngx_chain_t   *chain;       /* NULL: nothing was written */
    off_t          size;

    /* its own */
    ngx_chain_t  **last;
    ngx_buf_t     *buf;
    const char    *name;        /* of the metric */
    ngx_uint_t     samples;     /* of it, so far */
    ngx_uint_t     failed;      /* out of memory */
} ngx_http_refund_status_output_t;


/* pool and json are set, all else is 0. */

void ngx_http_refund_status_begin(ngx_http_refund_status_output_t *out);

/* What follows are samples of this metric. */

void ngx_http_refund_status_metric(ngx_http_refund_status_output_t *out,
    const char *name, const char *type, const char *help);

/* labels end with one whose name is NULL. */

void ngx_http_refund_status_put_sample(ngx_http_refund_status_output_t *out,
    ngx_http_refund_status_label_t *labels, ngx_atomic_uint_t value);
void ngx_http_refund_status_put_histogram(ngx_http_refund_status_output_t *out,
    ngx_http_refund_status_label_t *labels, ngx_refund_cells_t cells);

/* NGX_ERROR: out of memory. */

ngx_int_t ngx_http_refund_status_end(ngx_http_refund_status_output_t *out);


#endif /* _NGX_HTTP_REFUND_STATUS_OUTPUT_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 *
 * A failure that repeats fills no disk: at most one line a second for each
 * reason and worker, with the count of those held back.
 */


#ifndef _NGX_HTTP_REFUND_LOG_H_INCLUDED_
#define _NGX_HTTP_REFUND_LOG_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* Zeroed memory that lives as long as the process; one for each reason. */

typedef struct {
    const char  *reason;
    ngx_msec_t   next;          /* no line before; 0: none was written yet */
    ngx_uint_t   held_back;
} ngx_http_refund_log_limit_t;


/*
 * The limit of a reason, which is told by its address: a static phrase.  One of
 * them is shared by all that come after NGX_HTTP_REFUND_LOG_REASONS of them.
 */

#define NGX_HTTP_REFUND_LOG_REASONS  256

ngx_http_refund_log_limit_t *ngx_http_refund_log_limit(const char *reason);


/* fmt as in ngx_log_error(); what exceeds a line of the error log is cut. */

void ngx_http_refund_log_limited(ngx_uint_t level, ngx_log_t *log,
    ngx_http_refund_log_limit_t *limit, const char *fmt, ...);


#endif /* _NGX_HTTP_REFUND_LOG_H_INCLUDED_ */

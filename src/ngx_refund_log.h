
/*
 * Copyright (C) the refund-notify authors
 *
 * A failure that repeats fills no disk: at most one line a second for each
 * reason and worker, with the count of those held back.
 */


#ifndef _NGX_REFUND_LOG_H_INCLUDED_
#define _NGX_REFUND_LOG_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* All that come after as many reasons share one limit. */

#define NGX_REFUND_LOG_REASONS  256


/*
 * As ngx_log_error().  The reason is told by its address and the level: a
 * static phrase, or any object that lives as long as the process.  What exceeds
 * a line of the error log is cut.
 */

void ngx_cdecl ngx_refund_log_limited(ngx_uint_t level, ngx_log_t *log,
    const void *reason, const char *fmt, ...);


#endif /* _NGX_REFUND_LOG_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_refund_counters.h"
#include "ngx_refund_log.h"


#define NGX_REFUND_LOG_INTERVAL  1000       /* milliseconds */


typedef struct {
    const void  *reason;
    ngx_uint_t   level;
    ngx_msec_t   next;          /* no line before */
    ngx_uint_t   held_back;
    ngx_uint_t   written;
} ngx_refund_log_limit_t;


static ngx_refund_log_limit_t *ngx_refund_log_limit(const void *reason,
    ngx_uint_t level);


static ngx_refund_log_limit_t  ngx_refund_log_limits[NGX_REFUND_LOG_REASONS];


void ngx_cdecl
ngx_refund_log_limited(ngx_uint_t level, ngx_log_t *log, const void *reason,
    const char *fmt, ...)
{
    u_char                  *p, line[NGX_MAX_ERROR_STR];
    va_list                  args;
    ngx_refund_log_limit_t  *limit;

    if (log->log_level < level) {
        return;
    }

    limit = ngx_refund_log_limit(reason, level);

    if (limit->written
        && (ngx_msec_int_t) (limit->next - ngx_current_msec) > 0)
    {
        limit->held_back++;
        ngx_refund_count(LOG_HELD_BACK);
        return;
    }

    va_start(args, fmt);
    p = ngx_vslprintf(line, line + NGX_MAX_ERROR_STR, fmt, args);
    va_end(args);

    if (limit->held_back) {
        ngx_log_error(level, log, 0, "%*s (%ui more like this held back)",
                      (size_t) (p - line), line, limit->held_back);

    } else {
        ngx_log_error(level, log, 0, "%*s", (size_t) (p - line), line);
    }

    limit->written = 1;
    limit->next = ngx_current_msec + NGX_REFUND_LOG_INTERVAL;
    limit->held_back = 0;
}


/*
 * The level belongs to it: what anyone can cause at "info" must not hold back
 * what ops have to mend at "error".
 */

static ngx_refund_log_limit_t *
ngx_refund_log_limit(const void *reason, ngx_uint_t level)
{
    ngx_uint_t               i, n;
    ngx_refund_log_limit_t  *limit;

    n = (((uintptr_t) reason >> 3) + level) % NGX_REFUND_LOG_REASONS;
    limit = &ngx_refund_log_limits[n];

    for (i = 0; i < NGX_REFUND_LOG_REASONS; i++) {
        limit = &ngx_refund_log_limits[(n + i) % NGX_REFUND_LOG_REASONS];

        if (limit->reason == NULL) {
            limit->reason = reason;
            limit->level = level;
        }

        if (limit->reason == reason && limit->level == level) {
            break;
        }
    }

    return limit;
}


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_log.h"


#define NGX_HTTP_REFUND_LOG_INTERVAL  1000      /* milliseconds */


static ngx_http_refund_log_limit_t
    ngx_http_refund_log_limits[NGX_HTTP_REFUND_LOG_REASONS];


ngx_http_refund_log_limit_t *
ngx_http_refund_log_limit(const char *reason)
{
    ngx_uint_t                    i, n;
    ngx_http_refund_log_limit_t  *limit;

    n = ((uintptr_t) reason >> 3) % NGX_HTTP_REFUND_LOG_REASONS;
    limit = &ngx_http_refund_log_limits[n];

    for (i = 0; i < NGX_HTTP_REFUND_LOG_REASONS; i++) {
        limit = &ngx_http_refund_log_limits[(n + i)
                                            % NGX_HTTP_REFUND_LOG_REASONS];

        if (limit->reason == NULL) {
            limit->reason = reason;
        }

        if (limit->reason == reason) {
            break;
        }
    }

    return limit;
}


void
ngx_http_refund_log_limited(ngx_uint_t level, ngx_log_t *log,
    ngx_http_refund_log_limit_t *limit, const char *fmt, ...)
{
    u_char   *p, line[NGX_MAX_ERROR_STR];
    va_list   args;

    if (log->log_level < level) {
        return;
    }

    if (limit->next
        && (ngx_msec_int_t) (limit->next - ngx_current_msec) > 0)
    {
        limit->held_back++;
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

    limit->next = ngx_current_msec + NGX_HTTP_REFUND_LOG_INTERVAL;
    limit->held_back = 0;
}

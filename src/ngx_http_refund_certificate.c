
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_certificate.h"


#define NGX_HTTP_REFUND_CERTIFICATE_WARN  (30 * 24 * 60 * 60)


/*
 * An expired certificate of ours is of no use; another's may still verify what
 * is on its way while the new one is being put beside it.
 */

char *
ngx_http_refund_certificate_dates(ngx_conf_t *cf, ngx_str_t *file,
    time_t not_before, time_t not_after, ngx_uint_t ours)
{
    time_t       now;
    ngx_uint_t   level;

    now = ngx_time();
    level = ours ? NGX_LOG_EMERG : NGX_LOG_WARN;

    if (now > not_after) {
        ngx_conf_log_error(level, cf, 0,
                           "certificate \"%V\" expired %T days ago: put a new "
                           "one in its place", file,
                           (now - not_after) / (24 * 60 * 60));
        return ours ? NGX_CONF_ERROR : NGX_CONF_OK;
    }

    if (now < not_before) {
        ngx_conf_log_error(level, cf, 0,
                           "certificate \"%V\" is not valid yet: check the "
                           "file and this machine's clock", file);
        return ours ? NGX_CONF_ERROR : NGX_CONF_OK;
    }

    if (not_after - now < NGX_HTTP_REFUND_CERTIFICATE_WARN) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "certificate \"%V\" expires in %T days: renew it",
                           file, (not_after - now) / (24 * 60 * 60));
    }

    return NGX_CONF_OK;
}

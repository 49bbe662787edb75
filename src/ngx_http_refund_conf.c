
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_http_refund_conf.h"


#define NGX_HTTP_REFUND_CONF_MESSAGE_LEN  1024


void
ngx_http_refund_conf_place(ngx_conf_t *cf, ngx_http_refund_conf_place_t *place)
{
    place->file = cf->conf_file->file.name;
    place->line = cf->conf_file->line;
}


void ngx_cdecl
ngx_http_refund_conf_error(ngx_uint_t level, ngx_conf_t *cf,
    ngx_http_refund_conf_place_t *place, const char *fmt, ...)
{
    u_char   message[NGX_HTTP_REFUND_CONF_MESSAGE_LEN], *last;
    va_list  args;

    va_start(args, fmt);
    last = ngx_vslprintf(message, message + sizeof(message), fmt, args);
    va_end(args);

    ngx_log_error(level, cf->log, 0, "%*s in %V:%ui",
                  (size_t) (last - message), message, &place->file,
                  place->line);
}

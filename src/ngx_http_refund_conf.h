
/*
 * Copyright (C) the refund-notify authors
 *
 * Where a directive stands, for what can only be judged after the whole
 * configuration was read.
 */


#ifndef _NGX_HTTP_REFUND_CONF_H_INCLUDED_
#define _NGX_HTTP_REFUND_CONF_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


typedef struct {
    ngx_str_t    file;
    ngx_uint_t   line;
} ngx_http_refund_conf_place_t;


/* Remembers the place that is being read; the file's name is not copied. */

void ngx_http_refund_conf_place(ngx_conf_t *cf,
    ngx_http_refund_conf_place_t *place);


/*
 * As ngx_conf_log_error(), with the remembered place: "... in file:line".
 * The message is cut at 1,024 bytes.
 */

void ngx_cdecl ngx_http_refund_conf_error(ngx_uint_t level, ngx_conf_t *cf,
    ngx_http_refund_conf_place_t *place, const char *fmt, ...);


#endif /* _NGX_HTTP_REFUND_CONF_H_INCLUDED_ */

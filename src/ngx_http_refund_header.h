
/*
 * Copyright (C) the refund-notify authors
 *
 * Headers of an answer.
 */


#ifndef _NGX_HTTP_REFUND_HEADER_H_INCLUDED_
#define _NGX_HTTP_REFUND_HEADER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * Adds one to r's answer; name, which ends with a NUL, and the bytes of value
 * have to live as long as r.  NGX_ERROR: out of memory.
 */

ngx_int_t ngx_http_refund_header(ngx_http_request_t *r, const char *name,
    const ngx_str_t *value);


#endif /* _NGX_HTTP_REFUND_HEADER_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 *
 * The body of a client's request, wherever nginx has put it.
 */


#ifndef _NGX_HTTP_REFUND_BODY_H_INCLUDED_
#define _NGX_HTTP_REFUND_BODY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "wechatpay.h"


/*
 * After the body was read: all of it as one span, in r's memory.  NGX_DECLINED:
 * it has more than max bytes; NGX_ERROR: out of memory, or it could not be read
 * back from its temporary file (said in the log).
 */

ngx_int_t ngx_http_refund_body(ngx_http_request_t *r, size_t max,
    wechatpay_str_t *body);


#endif /* _NGX_HTTP_REFUND_BODY_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 *
 * Between nginx' strings and pools and those of wechatpay/.
 */


#ifndef _NGX_HTTP_REFUND_SPAN_H_INCLUDED_
#define _NGX_HTTP_REFUND_SPAN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "wechatpay.h"


/* Both ways the bytes stay where they are. */

static ngx_inline wechatpay_str_t
ngx_http_refund_span(ngx_str_t *s)
{
    wechatpay_str_t  span;

    span.data = s->data;
    span.len = s->len;

    return span;
}


static ngx_inline ngx_str_t
ngx_http_refund_string(wechatpay_str_t span)
{
    ngx_str_t  s;

    s.data = (u_char *) span.data;
    s.len = span.len;

    return s;
}


/* What wechatpay/ makes goes with the pool. */

static ngx_inline void *
ngx_http_refund_alloc(void *data, size_t size)
{
    return ngx_palloc(data, size);
}


static ngx_inline wechatpay_memory_t
ngx_http_refund_memory(ngx_pool_t *pool)
{
    wechatpay_memory_t  memory;

    memory.alloc = ngx_http_refund_alloc;
    memory.data = pool;

    return memory;
}


#endif /* _NGX_HTTP_REFUND_SPAN_H_INCLUDED_ */

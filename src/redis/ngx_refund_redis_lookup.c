
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_refund_redis_lookup.h"


static void ngx_refund_redis_lookup_handler(ngx_resolver_ctx_t *ctx);


ngx_uint_t
ngx_refund_redis_lookup_is_localhost(const ngx_str_t *host)
{
    static ngx_str_t  localhost = ngx_string("localhost");

    return host->len == localhost.len
           && ngx_strncasecmp(host->data, localhost.data, localhost.len) == 0;
}


ngx_int_t
ngx_refund_redis_lookup_start(ngx_refund_redis_lookup_t *lookup,
    ngx_resolver_t *resolver, const ngx_str_t *host, ngx_msec_t timeout)
{
    ngx_int_t            rc;
    ngx_resolver_ctx_t  *ctx;

    lookup->n = 0;
    lookup->error = "out of memory";

    ctx = ngx_resolve_start(resolver, NULL);

    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ctx->name = *host;
    ctx->handler = ngx_refund_redis_lookup_handler;
    ctx->data = lookup;
    ctx->timeout = timeout;
    ctx->cancelable = 1;

    lookup->ctx = ctx;
    lookup->starting = 1;

    rc = ngx_resolve_name(ctx);

    lookup->starting = 0;

    if (rc != NGX_OK) {
        /* it has freed ctx */
        lookup->ctx = NULL;
        return NGX_ERROR;
    }

    if (lookup->ctx) {
        return NGX_AGAIN;
    }

    return lookup->error ? NGX_ERROR : NGX_OK;
}


void
ngx_refund_redis_lookup_cancel(ngx_refund_redis_lookup_t *lookup)
{
    if (lookup->ctx) {
        ngx_resolve_name_done(lookup->ctx);
        lookup->ctx = NULL;
    }
}


static void
ngx_refund_redis_lookup_handler(ngx_resolver_ctx_t *ctx)
{
    ngx_refund_redis_lookup_t  *lookup = ctx->data;

    u_char      *p;
    ngx_uint_t   i;

    /* a name without an address is one that is not found */

    if (ctx->state == NGX_OK) {
        lookup->error = NULL;
        lookup->n = ngx_min(ctx->naddrs, NGX_REFUND_REDIS_LOOKUP_MAX);

        for (i = 0; i < lookup->n; i++) {
            p = lookup->text[i];
            lookup->numeric[i].data = p;
            lookup->numeric[i].len = ngx_sock_ntop(ctx->addrs[i].sockaddr,
                                                   ctx->addrs[i].socklen, p,
                                                   NGX_INET6_ADDRSTRLEN, 0);
            p[lookup->numeric[i].len] = '\0';
        }

    } else {
        lookup->error = ngx_resolver_strerror(ctx->state);
    }

    ngx_resolve_name_done(ctx);
    lookup->ctx = NULL;

    if (!lookup->starting) {
        lookup->handler(lookup->data);
    }
}

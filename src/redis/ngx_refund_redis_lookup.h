
/*
 * Copyright (C) the refund-notify authors
 *
 * The addresses of a host name, asked of nginx' resolver: nothing waits.
 */


#ifndef _NGX_REFUND_REDIS_LOOKUP_H_INCLUDED_
#define _NGX_REFUND_REDIS_LOOKUP_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


#define NGX_REFUND_REDIS_LOOKUP_MAX  16         /* addresses; more are left */


typedef struct {
    ngx_resolver_ctx_t   *ctx;      /* NULL: none is under way */
    const char           *error;    /* static; NULL: there are addresses */

    /* the owner's; never called from within start() */
    void                (*handler)(void *data);
    void                 *data;

    ngx_uint_t            n;
    ngx_str_t             numeric[NGX_REFUND_REDIS_LOOKUP_MAX];
    u_char                text[NGX_REFUND_REDIS_LOOKUP_MAX]
                              [NGX_INET6_ADDRSTRLEN + 1];
    unsigned              starting:1;
} ngx_refund_redis_lookup_t;


/* The name that is nobody's to answer for: RFC 6761, section 6.3. */

ngx_uint_t ngx_refund_redis_lookup_is_localhost(const ngx_str_t *host);


/*
 * NGX_OK: the addresses, texts that end with a NUL, are there already.
 * NGX_AGAIN: the handler will be called, with them or an error, at the latest
 * after the timeout.  NGX_ERROR: see error.  resolver is one that has servers;
 * it writes the host's letters anew, in lower case.
 */

ngx_int_t ngx_refund_redis_lookup_start(ngx_refund_redis_lookup_t *lookup,
    ngx_resolver_t *resolver, const ngx_str_t *host, ngx_msec_t timeout);


/* Ends what is under way, if anything is; the handler is not called. */

void ngx_refund_redis_lookup_cancel(ngx_refund_redis_lookup_t *lookup);


#endif /* _NGX_REFUND_REDIS_LOOKUP_H_INCLUDED_ */

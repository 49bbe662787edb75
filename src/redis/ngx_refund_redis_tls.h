
/*
 * Copyright (C) the refund-notify authors
 *
 * TLS to Redis, where hiredis has it (NGX_REFUND_REDIS_TLS): hiredis makes the
 * handshake as the socket allows, and leaves names to its caller.
 */


#ifndef _NGX_REFUND_REDIS_TLS_H_INCLUDED_
#define _NGX_REFUND_REDIS_TLS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis.h"
#include "ngx_refund_redis_adapter.h"

#include <openssl/err.h>
#include <openssl/ssl.h>


#define NGX_REFUND_REDIS_TLS_NAME_MAX  253      /* a host name's, RFC 1035 */


struct ngx_refund_redis_tls_s {
    SSL_CTX    *ctx;        /* it verifies, and has TLS 1.2 at the least */
    ngx_str_t   name;       /* expected of each server; len 0: its host */
};


#if (NGX_REFUND_REDIS_TLS)

/*
 * Begins the handshake on a context that has just connected.  The certificate
 * has to bear tls->name, or else host, which is a name or a numeric address
 * and ends with a NUL.  NULL; or a static phrase, detail and refused, as below:
 * the context is to be freed.
 */

const char *ngx_refund_redis_tls_start(ngx_refund_redis_tls_t *tls,
    ngx_refund_redis_adapter_t *adapter, ngx_str_t *host, u_char *detail,
    size_t size, ngx_uint_t *refused);


/*
 * Why the connection broke, called before the context is freed: a static
 * phrase and OpenSSL's own words in detail (of size bytes), or NULL if TLS was
 * not the reason.  refused is set if it will be no other the next time.
 */

const char *ngx_refund_redis_tls_reason(SSL *ssl, u_char *detail, size_t size,
    ngx_uint_t *refused);

#endif


#endif /* _NGX_REFUND_REDIS_TLS_H_INCLUDED_ */

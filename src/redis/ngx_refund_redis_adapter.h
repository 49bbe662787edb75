
/*
 * Copyright (C) the refund-notify authors
 *
 * hiredis' asynchronous context on nginx' events.
 */


#ifndef _NGX_REFUND_REDIS_ADAPTER_H_INCLUDED_
#define _NGX_REFUND_REDIS_ADAPTER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include <hiredis/hiredis.h>
#include <hiredis/async.h>

#if (NGX_REFUND_REDIS_TLS)
#include <openssl/ssl.h>
#endif


/*
 * Bytes that may wait to be read, one reply being twice as many at the most;
 * and elements of one array.  Large: a cluster of 16384 ranges of one slot.
 */

#define NGX_REFUND_REDIS_REPLY_MAX     65536
#define NGX_REFUND_REDIS_ELEMENTS_MAX  1024
#define NGX_REFUND_REDIS_DEPTH_MAX     4

#define NGX_REFUND_REDIS_LARGE_REPLY_MAX     (8 * 1024 * 1024)
#define NGX_REFUND_REDIS_LARGE_ELEMENTS_MAX  16384


typedef struct ngx_refund_redis_adapter_s  ngx_refund_redis_adapter_t;

struct ngx_refund_redis_adapter_s {
    redisAsyncContext  *context;        /* NULL: detached */
    ngx_connection_t   *connection;
    size_t              reply_size;     /* of the reply being read */
    const char         *broken;         /* what is wrong with it, static */
#if (NGX_REFUND_REDIS_TLS)
    SSL                *ssl;            /* hiredis'; NULL: without TLS */
#endif
    unsigned            large:1;        /* the owner's: replies may be */

    /*
     * The owner's.  detached() is called from within hiredis: the context is
     * about to be freed, and its callbacks may still follow.  interrupted()
     * is called outside of it and may free the context: the reply is larger
     * than allowed (the worker's shutdown timeout: shutdown is 1).
     */
    void              (*detached)(ngx_refund_redis_adapter_t *adapter);
    void              (*interrupted)(ngx_refund_redis_adapter_t *adapter,
                                     ngx_uint_t shutdown);
    void               *data;
};


/*
 * Ties a context without an error, whose callbacks are not set yet, to the
 * event loop, and bounds its replies; a reply that nobody waits for ends the
 * connection, and so does anything else than a message where one is subscribed
 * to.  NGX_ERROR: no free connection, the context is the caller's to
 * free.  The socket remains hiredis' to close.
 */

ngx_int_t ngx_refund_redis_adapter_attach(ngx_refund_redis_adapter_t *adapter,
    redisAsyncContext *context);


/*
 * To be called in a reply's callback: the reply becomes the caller's, to be
 * freed by freeReplyObject().
 */

void ngx_refund_redis_adapter_keep(redisReply *reply);


/* Writes what hiredis has to write, if the socket takes it, without waiting. */

void ngx_refund_redis_adapter_flush(ngx_refund_redis_adapter_t *adapter);


#endif /* _NGX_REFUND_REDIS_ADAPTER_H_INCLUDED_ */

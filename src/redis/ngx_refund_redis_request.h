
/*
 * Copyright (C) the refund-notify authors
 *
 * Commands on their way: made once, held by one connection at a time, and given
 * back by it, so that they may go on to another node.
 */


#ifndef _NGX_REFUND_REDIS_REQUEST_H_INCLUDED_
#define _NGX_REFUND_REDIS_REQUEST_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis.h"


typedef struct ngx_refund_redis_connection_s  ngx_refund_redis_connection_t;
typedef struct ngx_refund_redis_request_s     ngx_refund_redis_request_t;


struct ngx_refund_redis_request_s {
    ngx_refund_redis_connection_t   *connection;    /* has it, or had it last */
    ngx_queue_t                      queue;     /* waiting, sent, or ended */
    ngx_msec_t                       deadline;  /* for the connection */

    /*
     * The connection gives it back, out of its own event: the request is its
     * owner's again, who sends it anew or frees it.
     */
    void                           (*done)(ngx_refund_redis_request_t *request);
    void                            *owner;
    const char                      *error;     /* NULL: all answered, well */
    unsigned                         written:1; /* Redis may have run it */
    unsigned                         asking:1;  /* ASKING before each command */
    unsigned                         secret:1;  /* bytes are to be wiped */

    ngx_refund_redis_handler_pt      handler;   /* NULL: nobody waits */
    void                            *data;

    /* of a topology of several nodes */
    ngx_queue_t                      pending;   /* the oldest first */
    ngx_msec_t                       expires;
    const char                      *reason;    /* why it waits, or has */
    ngx_uint_t                       slot;
    ngx_uint_t                       hops;

    ngx_uint_t                       n;
    ngx_uint_t                       first;     /* to be sent */
    ngx_uint_t                       answered;
    redisReply                      *replies[NGX_REFUND_REDIS_COMMANDS_MAX];
    size_t                           len[NGX_REFUND_REDIS_COMMANDS_MAX];
    size_t                           size;
    u_char                           bytes[1];
};


/*
 * 1 to NGX_REFUND_REDIS_COMMANDS_MAX commands in RESP, on the heap, with done,
 * owner, handler and data to be set.  NULL: no memory.
 */

ngx_refund_redis_request_t *ngx_refund_redis_request_create(
    const ngx_refund_redis_command_t *commands, ngx_uint_t n);

void ngx_refund_redis_request_free(ngx_refund_redis_request_t *request);


/* Calls the handler, with request->error, and frees the request. */

void ngx_refund_redis_request_finish(ngx_refund_redis_request_t *request);


/*
 * The first reply that is an error, and in *i its command; NULL: there is none,
 * or a command before it has no reply, and may have been run.
 */

redisReply *ngx_refund_redis_request_refused(
    ngx_refund_redis_request_t *request, ngx_uint_t *i);


/* Makes it fit to be sent anew, from command i on. */

void ngx_refund_redis_request_rewind(ngx_refund_redis_request_t *request,
    ngx_uint_t i);


#endif /* _NGX_REFUND_REDIS_REQUEST_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 *
 * The requests of a client of several nodes: which are under way, which wait
 * for a node, and since when.
 */


#ifndef _NGX_REFUND_REDIS_PENDING_H_INCLUDED_
#define _NGX_REFUND_REDIS_PENDING_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_refund_redis_request.h"


typedef struct {
    ngx_queue_t   all;          /* the oldest first */
    ngx_queue_t   waiting;      /* those that no connection has */
    ngx_uint_t    n;
    ngx_msec_t    timeout;
    ngx_event_t   timer;        /* of the oldest */
    const char   *reason;       /* why all wait; NULL: each has its own */
} ngx_refund_redis_pending_t;


void ngx_refund_redis_pending_init(ngx_refund_redis_pending_t *pending,
    ngx_msec_t timeout);

/* Ends what waits; whatever connections have is done by closing them before. */

void ngx_refund_redis_pending_close(ngx_refund_redis_pending_t *pending);


/*
 * Makes a request that ends within the timeout from now, whoever has it.  A
 * static phrase: there is none.
 */

const char *ngx_refund_redis_pending_add(ngx_refund_redis_pending_t *pending,
    const ngx_refund_redis_command_t *commands, ngx_uint_t n,
    ngx_refund_redis_handler_pt handler, void *data,
    ngx_refund_redis_request_t **request);


/* Puts by a request that no connection has; the phrase is told if it expires */

void ngx_refund_redis_pending_wait(ngx_refund_redis_pending_t *pending,
    ngx_refund_redis_request_t *request, const char *reason);


/* Hands each that was put by to the handler, which may put it by again. */

void ngx_refund_redis_pending_forward(ngx_refund_redis_pending_t *pending,
    void (*handler)(ngx_refund_redis_request_t *request));


/* Calls its handler, if anyone waits, and frees it. */

void ngx_refund_redis_pending_end(ngx_refund_redis_pending_t *pending,
    ngx_refund_redis_request_t *request);


#endif /* _NGX_REFUND_REDIS_PENDING_H_INCLUDED_ */

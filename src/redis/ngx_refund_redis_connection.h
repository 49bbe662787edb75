
/*
 * Copyright (C) the refund-notify authors
 *
 * One connection of a worker to one Redis: commands in, replies out, pipelined.
 */


#ifndef _NGX_REFUND_REDIS_CONNECTION_H_INCLUDED_
#define _NGX_REFUND_REDIS_CONNECTION_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_refund_redis_request.h"


/*
 * What a node of several has: whoever owns it says when to connect, and logs.
 * up and down are called from the connection's own event, down as the last
 * thing of it, so that it may close rc; detail is the system's own word, or
 * empty.
 */

typedef struct {
    void       (*up)(void *data, ngx_refund_redis_connection_t *rc);
    void       (*down)(void *data, ngx_refund_redis_connection_t *rc,
                       const char *reason, const char *detail);
    void        *data;
    unsigned     master:1;      /* only a master will do */
    unsigned     large:1;       /* its replies may be large */
} ngx_refund_redis_owner_t;


/*
 * Makes the connection, on the heap; to be called in a worker.  server must
 * live as long as it; of address it has a copy.  owner NULL: it begins to
 * connect, does so again whenever it broke, and logs.  NULL: no memory.
 */

ngx_refund_redis_connection_t *ngx_refund_redis_connection_open(
    const ngx_refund_redis_server_t *server,
    const ngx_refund_redis_address_t *address,
    const ngx_refund_redis_owner_t *owner);


/* Begins to connect, unless it has begun, or is not allowed to yet. */

void ngx_refund_redis_connection_connect(ngx_refund_redis_connection_t *rc);


/* Ends all requests, which are done now, and frees rc. */

void ngx_refund_redis_connection_close(ngx_refund_redis_connection_t *rc);


/*
 * For a connection with an owner, who takes leave of it: its requests end as
 * they would, then it closes itself.  queue: where it is until then, to be
 * closed by whoever has the queue, if that goes first.
 */

void ngx_refund_redis_connection_retire(ngx_refund_redis_connection_t *rc,
    ngx_queue_t *queue);
void ngx_refund_redis_connections_close(ngx_queue_t *queue);


/*
 * Sends the request, once.  While there is no connection it waits for the next
 * attempt.  NULL: it will be done, within the timeout; else a static phrase,
 * and it will not: it is still the caller's.
 */

const char *ngx_refund_redis_connection_send(ngx_refund_redis_connection_t *rc,
    ngx_refund_redis_request_t *request);


/*
 * Takes back a request that was sent and is not done.  NGX_DECLINED: it was
 * written, and will be done in its time.
 */

ngx_int_t ngx_refund_redis_connection_cancel(
    ngx_refund_redis_request_t *request);


/* Drops the connection, and fails all requests with this static phrase. */

void ngx_refund_redis_connection_drop(ngx_refund_redis_connection_t *rc,
    const char *reason);


/*
 * Subscribes to a channel; to be called in up(), and nothing is sent over the
 * connection afterwards.  handler gets a message's payload, out of hiredis'
 * own event: it may do no more than note it.  NGX_ERROR: out of memory.
 */

typedef void (*ngx_refund_redis_message_pt)(void *data, const ngx_str_t *text);

ngx_int_t ngx_refund_redis_connection_subscribe(
    ngx_refund_redis_connection_t *rc, const char *channel,
    ngx_refund_redis_message_pt handler);


ngx_uint_t ngx_refund_redis_connection_is_up(
    ngx_refund_redis_connection_t *rc);
/* It was lost, or could not be made, and has not been since; without owner. */
ngx_uint_t ngx_refund_redis_connection_is_down(
    ngx_refund_redis_connection_t *rc);
const ngx_refund_redis_address_t *ngx_refund_redis_connection_address(
    ngx_refund_redis_connection_t *rc);


/*
 * Milliseconds until the next attempt after so many failures in a row, between
 * the half of min and max: the workers of many machines must not come all at
 * once.
 */

ngx_msec_t ngx_refund_redis_backoff(ngx_uint_t failures, ngx_msec_t min,
    ngx_msec_t max);


#endif /* _NGX_REFUND_REDIS_CONNECTION_H_INCLUDED_ */

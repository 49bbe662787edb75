
/*
 * Copyright (C) the refund-notify authors
 *
 * Durability by choice: a commit ends when so many replicas of Redis have it,
 * or when its time is over; never as an error.
 */


#ifndef _NGX_HTTP_REFUND_STORE_REPLICAS_H_INCLUDED_
#define _NGX_HTTP_REFUND_STORE_REPLICAS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_store.h"


#define NGX_HTTP_REFUND_STORE_REPLICAS_MAX  16


typedef struct ngx_http_refund_store_replicas_s
    ngx_http_refund_store_replicas_t;


/*
 * For a worker: opens a connection of its own, for WAIT blocks the one it is
 * sent on.  NULL: no memory.
 */

ngx_http_refund_store_replicas_t *ngx_http_refund_store_replicas_open(
    ngx_http_refund_store_t *store);


/* Ends all commits that wait, and frees it. */

void ngx_http_refund_store_replicas_close(
    ngx_http_refund_store_replicas_t *replicas);


/*
 * For a commit that Redis has done: ngx_http_refund_store_end() is called
 * within the store's timeout, with OK as its result, and not from within.
 */

void ngx_http_refund_store_replicas_wait(
    ngx_http_refund_store_replicas_t *replicas,
    ngx_http_refund_store_op_t *op);


#endif /* _NGX_HTTP_REFUND_STORE_REPLICAS_H_INCLUDED_ */

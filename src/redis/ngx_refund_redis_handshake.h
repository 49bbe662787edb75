
/*
 * Copyright (C) the refund-notify authors
 *
 * What is said to a Redis first: who we are, which database we mean, and
 * whether it is one that will do.
 */


#ifndef _NGX_REFUND_REDIS_HANDSHAKE_H_INCLUDED_
#define _NGX_REFUND_REDIS_HANDSHAKE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis_request.h"


/*
 * Nothing is to be sent before it has succeeded: a command after a SELECT that
 * failed would write to another database.  master: only a master will do.  As
 * ngx_refund_redis_request_create(), and what it holds is wiped.
 */

ngx_refund_redis_request_t *ngx_refund_redis_handshake_create(
    const ngx_refund_redis_server_t *server, ngx_uint_t master);


/*
 * NULL: it has succeeded, by the replies to all of its commands; else a static
 * phrase, and in *refused whether to ask again soon is of no use.
 */

const char *ngx_refund_redis_handshake_error(
    const ngx_refund_redis_server_t *server, ngx_uint_t master,
    redisReply **replies, ngx_uint_t *refused);


#endif /* _NGX_REFUND_REDIS_HANDSHAKE_H_INCLUDED_ */

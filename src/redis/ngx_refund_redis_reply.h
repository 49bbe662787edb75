
/*
 * Copyright (C) the refund-notify authors
 *
 * What sentinels and the nodes of a cluster say about where a key is.  Whatever
 * they send is checked; nothing here needs more of nginx than its types.
 */


#ifndef _NGX_REFUND_REDIS_REPLY_H_INCLUDED_
#define _NGX_REFUND_REDIS_REPLY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis.h"


#define NGX_REFUND_REDIS_SLOTS     16384
#define NGX_REFUND_REDIS_HOST_MAX  255      /* of a name */


/*
 * A node as it is announced.  host has no NUL at its end; len 0: the host that
 * was asked.  ip is the address of a host that is a name, where it is told.
 */

typedef struct {
    ngx_str_t    host;
    ngx_str_t    ip;
    in_port_t    port;
} ngx_refund_redis_announced_t;


/*
 * The slot of a key, 0 to 16383: CRC16 (XMODEM) of what is between its first
 * "{" and the next "}", if that is not empty, else of all of it.
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
 */

ngx_uint_t ngx_refund_redis_slot(const ngx_str_t *key);


/*
 * The reply to CLUSTER SLOTS: calls handler for each range of slots and its
 * master.  NGX_OK, or what handler returned if not that; NGX_DECLINED: it is
 * not such a reply, and handler was not called.
 */

typedef ngx_int_t (*ngx_refund_redis_slots_pt)(void *data, ngx_uint_t first,
    ngx_uint_t last, const ngx_refund_redis_announced_t *node);

ngx_int_t ngx_refund_redis_slots(const redisReply *reply,
    ngx_refund_redis_slots_pt handler, void *data);


/* "MOVED 3999 host:port", ASK likewise; NGX_DECLINED: it is neither. */

ngx_int_t ngx_refund_redis_redirection(const ngx_str_t *text,
    ngx_refund_redis_announced_t *node);


/*
 * The reply to SENTINEL get-master-addr-by-name; NGX_DECLINED: the sentinel
 * knows no such master, NGX_ERROR: it is not such a reply.
 */

ngx_int_t ngx_refund_redis_master(const redisReply *reply,
    ngx_refund_redis_announced_t *node);


/*
 * The message of +switch-master: "name oldip oldport ip port".  NGX_DECLINED:
 * it is about another master, or no such message.
 */

ngx_int_t ngx_refund_redis_switched(const ngx_str_t *text,
    const ngx_str_t *master, ngx_refund_redis_announced_t *node);


#endif /* _NGX_REFUND_REDIS_REPLY_H_INCLUDED_ */

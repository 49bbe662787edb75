
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

#include "ngx_refund_redis_adapter.h"


#define NGX_REFUND_REDIS_COMMANDS_MAX  3        /* of one request */
#define NGX_REFUND_REDIS_PENDING_MAX   16384    /* requests */


/* Where Redis is.  All strings are terminated by a NUL, none by len. */

typedef struct {
    ngx_str_t    label;         /* for logs, e.g. store "main" */
    ngx_str_t    host;          /* a numeric address, or a socket's path */
    in_port_t    port;          /* 0: host is the path of a Unix socket */
    ngx_str_t    user;          /* len 0: the default user */
    ngx_str_t    password;      /* len 0: none */
    ngx_uint_t   database;
    ngx_msec_t   timeout;       /* of connecting, and of each request */
} ngx_refund_redis_server_t;


typedef struct {
    ngx_uint_t        argc;
    const ngx_str_t  *argv;
} ngx_refund_redis_command_t;


/*
 * How a request ends, always, and never from within another call: error is NULL
 * and replies has one for each command, none of them an error; or error is a
 * static phrase, and whether Redis has executed a command is unknown.  The
 * replies are freed when the handler returns.
 */

typedef void (*ngx_refund_redis_handler_pt)(void *data, redisReply **replies,
    const char *error);


typedef struct ngx_refund_redis_connection_s  ngx_refund_redis_connection_t;


/*
 * Makes the connection, on the heap, and begins to connect; to be called in a
 * worker.  server must live as long as it.  NULL: no memory.
 */

ngx_refund_redis_connection_t *ngx_refund_redis_open(
    ngx_refund_redis_server_t *server);


/* Ends all requests, whose handlers are called now, and frees rc. */

void ngx_refund_redis_close(ngx_refund_redis_connection_t *rc);


/*
 * Sends 1 to NGX_REFUND_REDIS_COMMANDS_MAX commands in one write, once: a
 * request is never repeated.  While there is no connection it waits for the
 * next attempt.  NULL: the handler will be called within the timeout; else a
 * static phrase, and it will not.
 */

const char *ngx_refund_redis_send(ngx_refund_redis_connection_t *rc,
    const ngx_refund_redis_command_t *commands, ngx_uint_t n,
    ngx_refund_redis_handler_pt handler, void *data);


/*
 * For a handler whose replies are not those of its commands: drops the
 * connection, and fails all other requests with this static phrase.
 */

void ngx_refund_redis_drop(ngx_refund_redis_connection_t *rc,
    const char *reason);


#endif /* _NGX_REFUND_REDIS_CONNECTION_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 *
 * A Redis, whatever it is made of: a worker's client of one server, of the
 * master that sentinels name, or of a cluster.
 */


#ifndef _NGX_REFUND_REDIS_H_INCLUDED_
#define _NGX_REFUND_REDIS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include <hiredis/hiredis.h>


#define NGX_REFUND_REDIS_COMMANDS_MAX  3        /* of one request */
#define NGX_REFUND_REDIS_PENDING_MAX   16384    /* requests */


typedef struct ngx_refund_redis_s      ngx_refund_redis_t;
typedef struct ngx_refund_redis_ops_s  ngx_refund_redis_ops_t;
typedef struct ngx_refund_redis_tls_s  ngx_refund_redis_tls_t;


/* All strings here are terminated by a NUL, none by len. */

typedef struct {
    ngx_str_t         host;     /* a name, an address, or a socket's path */
    in_port_t         port;     /* 0: host is the path of a Unix socket */
    const ngx_str_t  *numeric;  /* what host was when it was configured */
    ngx_uint_t        n;        /* 0: host is numeric */
    unsigned          told:1;   /* numeric is Redis' own word: no lookup */
} ngx_refund_redis_address_t;


/* What all servers of a kind have in common. */

typedef struct {
    ngx_str_t    label;         /* for logs, e.g. refund_store "main" */
    ngx_str_t    user;          /* len 0: the default user */
    ngx_str_t    password;      /* len 0: none */
    ngx_uint_t   database;
    ngx_msec_t   timeout;       /* of connecting, and of each request */
    ngx_refund_redis_tls_t  *tls;           /* NULL: none */
    ngx_resolver_t          *resolver;      /* NULL: names stay as they are */
} ngx_refund_redis_server_t;


/* As it is configured; to live as long as the client. */

typedef struct {
    const ngx_refund_redis_ops_t  *ops;         /* which topology */
    ngx_refund_redis_server_t      server;
    ngx_refund_redis_address_t    *addresses;   /* in the order to be tried */
    ngx_uint_t                     n;           /* single: 1 */
    ngx_refund_redis_server_t      sentinel;    /* what sentinels have */
    ngx_str_t                      master;      /* its name to sentinels */
} ngx_refund_redis_conf_t;


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


struct ngx_refund_redis_ops_s {
    ngx_refund_redis_t  *(*open)(const ngx_refund_redis_conf_t *conf);
    void                 (*close)(ngx_refund_redis_t *redis);
    const char          *(*send)(ngx_refund_redis_t *redis,
                                 const ngx_str_t *key,
                                 const ngx_refund_redis_command_t *commands,
                                 ngx_uint_t n,
                                 ngx_refund_redis_handler_pt handler,
                                 void *data);
    ngx_int_t            (*state)(ngx_refund_redis_t *redis,
                                  ngx_uint_t *connections);
    ngx_uint_t           (*node)(ngx_refund_redis_t *redis,
                                 const ngx_str_t *key);     /* NULL: one */
};


/* The head of each topology's own. */

struct ngx_refund_redis_s {
    const ngx_refund_redis_conf_t   *conf;
};


extern const ngx_refund_redis_ops_t  ngx_refund_redis_single_ops;
extern const ngx_refund_redis_ops_t  ngx_refund_redis_sentinel_ops;
extern const ngx_refund_redis_ops_t  ngx_refund_redis_cluster_ops;


/*
 * Makes the client, on the heap, and begins to connect; to be called in a
 * worker.  NULL: no memory.
 */

ngx_refund_redis_t *ngx_refund_redis_open(const ngx_refund_redis_conf_t *conf);


/* Ends all requests, whose handlers are called now, and frees the client. */

void ngx_refund_redis_close(ngx_refund_redis_t *redis);


/*
 * Sends 1 to NGX_REFUND_REDIS_COMMANDS_MAX commands, all about this key, in one
 * write.  While there is no connection they wait.  What Redis may have run is
 * never sent again, but for this: where it says of a command that it was not
 * run, that one and those after it are sent once more; so all but the first
 * have to bear that.  NULL: the handler will be called within the timeout; else
 * a static phrase, and it will not.
 */

const char *ngx_refund_redis_send(ngx_refund_redis_t *redis,
    const ngx_str_t *key, const ngx_refund_redis_command_t *commands,
    ngx_uint_t n, ngx_refund_redis_handler_pt handler, void *data);


/*
 * How this worker stands with it, for whoever looks on.  NGX_OK: it is there;
 * NGX_ERROR: it is down, which a cluster is where no node tells its slots, but
 * not where one of its nodes is out of reach; NGX_AGAIN: not known yet.
 * connections: those that are ready.
 */

ngx_int_t ngx_refund_redis_state(ngx_refund_redis_t *redis,
    ngx_uint_t *connections);


/*
 * Which node a command about this key would be sent to now: a number that tells
 * the nodes apart, until their map changes.  Only where conf->ops->node is not
 * NULL.
 */

ngx_uint_t ngx_refund_redis_node(ngx_refund_redis_t *redis,
    const ngx_str_t *key);


/*
 * For a handler, to be called from within it: tells the connections apart that
 * replies come from, of which one leads to the same server as long as it is.
 * NULL: it was called with an error.
 */

const void *ngx_refund_redis_origin(void);


/*
 * For a handler whose replies are not those of its commands, to be called from
 * within it: drops the connection that they came from, and fails all other
 * requests on it with this static phrase.
 */

void ngx_refund_redis_distrust(const char *reason);


#endif /* _NGX_REFUND_REDIS_H_INCLUDED_ */

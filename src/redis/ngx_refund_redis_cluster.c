
/*
 * Copyright (C) the refund-notify authors
 *
 * A Redis Cluster: the node of each slot, by a connection to each node that is
 * made when it is first needed.
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_refund_log.h"
#include "ngx_refund_redis_connection.h"
#include "ngx_refund_redis_error.h"
#include "ngx_refund_redis_pending.h"
#include "ngx_refund_redis_reply.h"


#define NGX_REFUND_REDIS_CLUSTER_NODES  1000
#define NGX_REFUND_REDIS_CLUSTER_HOPS   5       /* MOVED, ASK of a request */

/* milliseconds until what has to wait is tried again */

#define NGX_REFUND_REDIS_CLUSTER_AGAIN  25

/*
 * and of the map: after failures at least and at most, between two that did not
 * fail, after a MOVED, and while a node is down
 */

#define NGX_REFUND_REDIS_CLUSTER_MIN      50
#define NGX_REFUND_REDIS_CLUSTER_MAX      1000
#define NGX_REFUND_REDIS_CLUSTER_SPACING  300
#define NGX_REFUND_REDIS_CLUSTER_MOVED    100
#define NGX_REFUND_REDIS_CLUSTER_WATCH    3000

#define NGX_REFUND_REDIS_CLUSTER_NONE     0xffff

/* a node's place in the limits of the log: nodes come and go, and these stay */

#define ngx_refund_redis_cluster_reason(node)                                 \
    &(node)->cluster->nodes[1 + (node)->hash % 32]


typedef struct ngx_refund_redis_cluster_s  ngx_refund_redis_cluster_t;


typedef struct {
    ngx_refund_redis_cluster_t      *cluster;
    ngx_refund_redis_connection_t   *connection;    /* NULL: not needed yet */
    ngx_refund_redis_address_t       address;   /* host as it is announced */
    ngx_str_t                        ip;        /* likewise, or len 0 */
    uint32_t                         hash;      /* of host and port */
    unsigned                         mapped:1;  /* a slot was on it */
    unsigned                         asked:1;   /* in this refresh */
    unsigned                         down:1;
    u_char                           bytes[1];
} ngx_refund_redis_node_t;


struct ngx_refund_redis_cluster_s {
    ngx_refund_redis_t               redis;
    const ngx_refund_redis_conf_t   *conf;
    ngx_refund_redis_pending_t       pending;
    ngx_queue_t                      retired;

    ngx_refund_redis_node_t  *nodes[NGX_REFUND_REDIS_CLUSTER_NODES];
    ngx_uint_t                n;                    /* nodes[] in use, or not */
    uint16_t                  slots[NGX_REFUND_REDIS_SLOTS];

    /* a refresh asks the nodes that are up, then the others, then the seeds */

    ngx_uint_t                pass;
    ngx_uint_t                tried;
    ngx_uint_t                start;
    ngx_uint_t                failures;             /* in a row */
    ngx_msec_t                not_before;           /* the next one */

    ngx_event_t               refresh;
    ngx_event_t               again;

    unsigned                  refreshing:1;
    unsigned                  down:1;
    unsigned                  closed:1;
};


/* CLUSTER SLOTS being read */

typedef struct {
    ngx_refund_redis_cluster_t         *cluster;
    const ngx_refund_redis_address_t   *from;
    ngx_uint_t                          begun;
} ngx_refund_redis_cluster_map_t;


static ngx_refund_redis_t *ngx_refund_redis_cluster_open(
    const ngx_refund_redis_conf_t *conf);
static void ngx_refund_redis_cluster_close(ngx_refund_redis_t *redis);
static const char *ngx_refund_redis_cluster_send(ngx_refund_redis_t *redis,
    const ngx_str_t *key, const ngx_refund_redis_command_t *commands,
    ngx_uint_t n, ngx_refund_redis_handler_pt handler, void *data);
static ngx_int_t ngx_refund_redis_cluster_state(ngx_refund_redis_t *redis,
    ngx_uint_t *connections);

static ngx_uint_t ngx_refund_redis_cluster_where(ngx_refund_redis_t *redis,
    const ngx_str_t *key);

static void ngx_refund_redis_cluster_forward(
    ngx_refund_redis_request_t *request);
static void ngx_refund_redis_cluster_forward_to(ngx_refund_redis_cluster_t *c,
    ngx_refund_redis_request_t *request, ngx_uint_t i);
static void ngx_refund_redis_cluster_wait(ngx_refund_redis_cluster_t *c,
    ngx_refund_redis_request_t *request, const char *reason);
static void ngx_refund_redis_cluster_again_handler(ngx_event_t *ev);
static void ngx_refund_redis_cluster_done(ngx_refund_redis_request_t *request);
static void ngx_refund_redis_cluster_redirect(ngx_refund_redis_cluster_t *c,
    ngx_refund_redis_request_t *request, ngx_uint_t i, ngx_uint_t asking);

static void ngx_refund_redis_cluster_refresh(ngx_refund_redis_cluster_t *c,
    ngx_msec_t delay);
static void ngx_refund_redis_cluster_refresh_handler(ngx_event_t *ev);
static void ngx_refund_redis_cluster_ask_next(ngx_refund_redis_cluster_t *c);
static ngx_uint_t ngx_refund_redis_cluster_choose(
    ngx_refund_redis_cluster_t *c);
static ngx_int_t ngx_refund_redis_cluster_ask(ngx_refund_redis_cluster_t *c,
    ngx_uint_t i);
static void ngx_refund_redis_cluster_slots_done(
    ngx_refund_redis_request_t *request);
static const char *ngx_refund_redis_cluster_slots(
    ngx_refund_redis_cluster_t *c, ngx_refund_redis_request_t *request);
static ngx_int_t ngx_refund_redis_cluster_slots_range(void *data,
    ngx_uint_t first, ngx_uint_t last,
    const ngx_refund_redis_announced_t *announced);
static void ngx_refund_redis_cluster_refreshed(ngx_refund_redis_cluster_t *c);

static ngx_uint_t ngx_refund_redis_cluster_node(ngx_refund_redis_cluster_t *c,
    const ngx_refund_redis_announced_t *announced,
    const ngx_refund_redis_address_t *from);
static ngx_refund_redis_connection_t *ngx_refund_redis_cluster_connection(
    ngx_refund_redis_node_t *node);
static void ngx_refund_redis_cluster_up(void *data,
    ngx_refund_redis_connection_t *rc);
static void ngx_refund_redis_cluster_down(void *data,
    ngx_refund_redis_connection_t *rc, const char *reason, const char *detail);


const ngx_refund_redis_ops_t  ngx_refund_redis_cluster_ops = {
    ngx_refund_redis_cluster_open,
    ngx_refund_redis_cluster_close,
    ngx_refund_redis_cluster_send,
    ngx_refund_redis_cluster_state,
    ngx_refund_redis_cluster_where
};


static ngx_refund_redis_t *
ngx_refund_redis_cluster_open(const ngx_refund_redis_conf_t *conf)
{
    ngx_uint_t                   i;
    ngx_refund_redis_cluster_t  *c;

    c = ngx_calloc(sizeof(ngx_refund_redis_cluster_t), ngx_cycle->log);
    if (c == NULL) {
        return NULL;
    }

    c->conf = conf;

    for (i = 0; i < NGX_REFUND_REDIS_SLOTS; i++) {
        c->slots[i] = NGX_REFUND_REDIS_CLUSTER_NONE;
    }

    ngx_queue_init(&c->retired);
    ngx_refund_redis_pending_init(&c->pending, conf->server.timeout);

    c->refresh.handler = ngx_refund_redis_cluster_refresh_handler;
    c->refresh.data = c;
    c->refresh.log = ngx_cycle->log;
    c->refresh.cancelable = 1;

    c->again.handler = ngx_refund_redis_cluster_again_handler;
    c->again.data = c;
    c->again.log = ngx_cycle->log;
    c->again.cancelable = 1;

    /* from the event loop: ngx_current_msec may be old in a new process */

    ngx_add_timer(&c->refresh, 1);

    return &c->redis;
}


static void
ngx_refund_redis_cluster_close(ngx_refund_redis_t *redis)
{
    ngx_uint_t                   i;
    ngx_refund_redis_node_t     *node;
    ngx_refund_redis_cluster_t  *c = (ngx_refund_redis_cluster_t *) redis;

    c->closed = 1;

    for (i = 0; i < c->n; i++) {
        node = c->nodes[i];

        if (node == NULL) {
            continue;
        }

        if (node->connection) {
            ngx_refund_redis_connection_close(node->connection);
        }

        ngx_free(node);
    }

    ngx_refund_redis_connections_close(&c->retired);
    ngx_refund_redis_pending_close(&c->pending);

    if (c->refresh.timer_set) {
        ngx_del_timer(&c->refresh);
    }

    if (c->again.timer_set) {
        ngx_del_timer(&c->again);
    }

    ngx_free(c);
}


static const char *
ngx_refund_redis_cluster_send(ngx_refund_redis_t *redis, const ngx_str_t *key,
    const ngx_refund_redis_command_t *commands, ngx_uint_t n,
    ngx_refund_redis_handler_pt handler, void *data)
{
    const char                  *error;
    ngx_refund_redis_cluster_t  *c = (ngx_refund_redis_cluster_t *) redis;
    ngx_refund_redis_request_t  *request;

    if (c->closed) {
        return "the worker exits";
    }

    error = ngx_refund_redis_pending_add(&c->pending, commands, n, handler,
                                         data, &request);
    if (error) {
        return error;
    }

    request->done = ngx_refund_redis_cluster_done;
    request->owner = c;
    request->slot = ngx_refund_redis_slot(key);

    ngx_refund_redis_cluster_forward(request);

    return NULL;
}


/* A node that is down, and its slots with it, does not make a cluster down. */

static ngx_int_t
ngx_refund_redis_cluster_state(ngx_refund_redis_t *redis,
    ngx_uint_t *connections)
{
    ngx_uint_t                   i;
    ngx_refund_redis_node_t     *node;
    ngx_refund_redis_cluster_t  *c = (ngx_refund_redis_cluster_t *) redis;

    *connections = 0;

    for (i = 0; i < c->n; i++) {
        node = c->nodes[i];

        if (node && node->connection
            && ngx_refund_redis_connection_is_up(node->connection))
        {
            (*connections)++;
        }
    }

    if (c->down) {
        return NGX_ERROR;
    }

    return *connections ? NGX_OK : NGX_AGAIN;
}


static ngx_uint_t
ngx_refund_redis_cluster_where(ngx_refund_redis_t *redis, const ngx_str_t *key)
{
    ngx_refund_redis_cluster_t  *c = (ngx_refund_redis_cluster_t *) redis;

    return c->slots[ngx_refund_redis_slot(key)];
}


static void
ngx_refund_redis_cluster_forward(ngx_refund_redis_request_t *request)
{
    ngx_uint_t                   i;
    ngx_refund_redis_cluster_t  *c;

    c = request->owner;

    i = c->slots[request->slot];

    if (i == NGX_REFUND_REDIS_CLUSTER_NONE) {
        ngx_refund_redis_cluster_wait(c, request,
                                 "no node of the Redis Cluster has the slot");
        ngx_refund_redis_cluster_refresh(c, 0);
        return;
    }

    ngx_refund_redis_cluster_forward_to(c, request, i);
}


static void
ngx_refund_redis_cluster_forward_to(ngx_refund_redis_cluster_t *c,
    ngx_refund_redis_request_t *request, ngx_uint_t i)
{
    const char                     *error;
    ngx_refund_redis_connection_t  *rc;

    rc = ngx_refund_redis_cluster_connection(c->nodes[i]);

    error = rc ? ngx_refund_redis_connection_send(rc, request)
               : "out of memory";

    if (error) {
        ngx_refund_redis_cluster_wait(c, request, error);
    }
}


/* Until the map is new, or for a moment: then it is tried again. */

static void
ngx_refund_redis_cluster_wait(ngx_refund_redis_cluster_t *c,
    ngx_refund_redis_request_t *request, const char *reason)
{
    request->asking = 0;

    ngx_refund_redis_pending_wait(&c->pending, request, reason);

    if (!c->again.timer_set) {
        ngx_add_timer(&c->again, NGX_REFUND_REDIS_CLUSTER_AGAIN
                                 + (ngx_msec_t) ngx_random()
                                   % NGX_REFUND_REDIS_CLUSTER_AGAIN);
    }
}


static void
ngx_refund_redis_cluster_again_handler(ngx_event_t *ev)
{
    ngx_refund_redis_cluster_t  *c = ev->data;

    ngx_refund_redis_pending_forward(&c->pending,
                                     ngx_refund_redis_cluster_forward);
}


static void
ngx_refund_redis_cluster_done(ngx_refund_redis_request_t *request)
{
    ngx_uint_t                       i;
    const char                      *reason;
    redisReply                      *reply;
    ngx_refund_redis_cluster_t      *c;
    ngx_refund_redis_again_e         again;
    const ngx_refund_redis_error_t  *error;

    c = request->owner;

    if (request->error == NULL || request->handler == NULL || c->closed) {
        ngx_refund_redis_pending_end(&c->pending, request);
        return;
    }

    reply = ngx_refund_redis_request_refused(request, &i);

    if (reply == NULL) {

        if (request->written) {

            /* what became of it nobody knows */

            ngx_refund_redis_pending_end(&c->pending, request);
            return;
        }

        again = NGX_REFUND_REDIS_ELSEWHERE;
        reason = request->reason ? request->reason : request->error;
        i = request->first;

    } else {
        error = ngx_refund_redis_error(reply->str, reply->len);
        again = error->again;
        reason = error->phrase;
    }

    switch (again) {

    case NGX_REFUND_REDIS_MOVED:
    case NGX_REFUND_REDIS_ASK:
        ngx_refund_redis_cluster_redirect(c, request, i,
                                          again == NGX_REFUND_REDIS_ASK);
        return;

    case NGX_REFUND_REDIS_ELSEWHERE:
        ngx_refund_redis_cluster_refresh(c, 0);
        break;

    case NGX_REFUND_REDIS_LATER:
        break;

    default: /* NGX_REFUND_REDIS_NOWHERE */
        ngx_refund_redis_pending_end(&c->pending, request);
        return;
    }

    ngx_refund_redis_request_rewind(request, i);
    ngx_refund_redis_cluster_wait(c, request, reason);
}


/* Redis has not run command i, nor has the key here any longer. */

static void
ngx_refund_redis_cluster_redirect(ngx_refund_redis_cluster_t *c,
    ngx_refund_redis_request_t *request, ngx_uint_t i, ngx_uint_t asking)
{
    ngx_str_t                     text;
    ngx_uint_t                    to;
    const char                   *reason;
    ngx_refund_redis_announced_t  announced;

    text.data = (u_char *) request->replies[i]->str;
    text.len = request->replies[i]->len;

    if (++request->hops > NGX_REFUND_REDIS_CLUSTER_HOPS
        || ngx_refund_redis_redirection(&text, &announced) != NGX_OK)
    {
        /* if the node it names was of no use, that says more */

        if (request->reason) {
            request->error = request->reason;
        }

        ngx_refund_redis_pending_end(&c->pending, request);
        return;
    }

    to = ngx_refund_redis_cluster_node(c, &announced,
                     ngx_refund_redis_connection_address(request->connection));

    reason = request->error;

    ngx_refund_redis_request_rewind(request, i);

    if (to == NGX_REFUND_REDIS_CLUSTER_NONE) {
        ngx_refund_redis_cluster_wait(c, request, reason);
        return;
    }

    if (!asking) {
        c->slots[request->slot] = (uint16_t) to;
        ngx_refund_redis_cluster_refresh(c, NGX_REFUND_REDIS_CLUSTER_MOVED);
    }

    request->asking = asking;

    ngx_refund_redis_cluster_forward_to(c, request, to);
}


/* The map, from any node that has one; delay: in no hurry. */

static void
ngx_refund_redis_cluster_refresh(ngx_refund_redis_cluster_t *c,
    ngx_msec_t delay)
{
    ngx_msec_int_t  left, next;

    if (c->refreshing || c->closed) {
        return;
    }

    left = (ngx_msec_int_t) (delay
                             + ngx_refund_redis_backoff(c->failures,
                                               NGX_REFUND_REDIS_CLUSTER_MIN,
                                               NGX_REFUND_REDIS_CLUSTER_MAX));

    next = (ngx_msec_int_t) (c->not_before - ngx_current_msec);
    left = ngx_max(left, next);

    if (c->refresh.timer_set) {
        next = (ngx_msec_int_t) (c->refresh.timer.key - ngx_current_msec);

        if (next <= left) {
            return;
        }

        ngx_del_timer(&c->refresh);
    }

    ngx_add_timer(&c->refresh, (ngx_msec_t) left);
}


static void
ngx_refund_redis_cluster_refresh_handler(ngx_event_t *ev)
{
    ngx_uint_t                   i;
    ngx_refund_redis_cluster_t  *c;

    c = ev->data;

    /* an exiting worker asks for those who wait only */

    if (c->refreshing || (ngx_exiting && ngx_queue_empty(&c->pending.waiting)))
    {
        return;
    }

    c->refreshing = 1;
    c->pass = 0;
    c->tried = 0;
    c->start = (ngx_uint_t) ngx_random();

    for (i = 0; i < c->n; i++) {
        if (c->nodes[i]) {
            c->nodes[i]->asked = 0;
        }
    }

    ngx_refund_redis_cluster_ask_next(c);
}


static void
ngx_refund_redis_cluster_ask_next(ngx_refund_redis_cluster_t *c)
{
    ngx_uint_t  i;

    for ( ;; ) {
        i = ngx_refund_redis_cluster_choose(c);

        if (i == NGX_REFUND_REDIS_CLUSTER_NONE) {
            break;
        }

        if (ngx_refund_redis_cluster_ask(c, i) == NGX_OK) {
            return;
        }
    }

    c->refreshing = 0;
    c->failures++;

    if (!c->down) {
        c->down = 1;
        ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, c,
                               "%V is down: no node of the Redis Cluster "
                               "tells its slots", &c->conf->server.label);
    }

    ngx_refund_redis_cluster_refresh(c, 0);
}


static ngx_uint_t
ngx_refund_redis_cluster_choose(ngx_refund_redis_cluster_t *c)
{
    ngx_uint_t                         i, up;
    ngx_refund_redis_node_t           *node;
    const ngx_refund_redis_address_t  *seed;
    ngx_refund_redis_announced_t       announced;

    for ( /* void */ ; c->pass < 2; c->pass++, c->tried = 0) {

        while (c->tried < c->n) {
            i = (c->start + c->tried++) % c->n;
            node = c->nodes[i];

            if (node == NULL || node->asked) {
                continue;
            }

            up = node->connection
                 && ngx_refund_redis_connection_is_up(node->connection);

            if (up == (c->pass == 0)) {
                node->asked = 1;
                return i;
            }
        }
    }

    while (c->tried < c->conf->n) {
        seed = &c->conf->addresses[(c->start + c->tried++) % c->conf->n];

        ngx_str_null(&announced.host);
        announced.port = seed->port;
        ngx_str_null(&announced.ip);

        i = ngx_refund_redis_cluster_node(c, &announced, seed);

        if (i != NGX_REFUND_REDIS_CLUSTER_NONE && !c->nodes[i]->asked) {
            c->nodes[i]->asked = 1;
            return i;
        }
    }

    return NGX_REFUND_REDIS_CLUSTER_NONE;
}


static ngx_int_t
ngx_refund_redis_cluster_ask(ngx_refund_redis_cluster_t *c, ngx_uint_t i)
{
    ngx_str_t                       argv[2];
    ngx_refund_redis_command_t      command;
    ngx_refund_redis_request_t     *request;
    ngx_refund_redis_connection_t  *rc;

    rc = ngx_refund_redis_cluster_connection(c->nodes[i]);
    if (rc == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&argv[0], "CLUSTER");
    ngx_str_set(&argv[1], "SLOTS");

    command.argc = 2;
    command.argv = argv;

    request = ngx_refund_redis_request_create(&command, 1);
    if (request == NULL) {
        return NGX_ERROR;
    }

    request->done = ngx_refund_redis_cluster_slots_done;
    request->owner = c;

    if (ngx_refund_redis_connection_send(rc, request) != NULL) {
        ngx_refund_redis_request_free(request);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_refund_redis_cluster_slots_done(ngx_refund_redis_request_t *request)
{
    const char                         *error;
    ngx_refund_redis_cluster_t         *c;
    const ngx_refund_redis_address_t   *address;

    c = request->owner;

    if (c->closed) {
        ngx_refund_redis_request_free(request);
        return;
    }

    error = ngx_refund_redis_cluster_slots(c, request);

    if (error) {

        /* that a node is down is said elsewhere */

        if (request->replies[0]) {
            address = ngx_refund_redis_connection_address(request->connection);

            ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, &c->slots,
                                   "%V: node %V, port %d, does not tell the "
                                   "slots: %s",
                                   &c->conf->server.label, &address->host,
                                   (int) address->port, error);
        }

        ngx_refund_redis_request_free(request);
        ngx_refund_redis_cluster_ask_next(c);
        return;
    }

    ngx_refund_redis_request_free(request);
    ngx_refund_redis_cluster_refreshed(c);
}


static const char *
ngx_refund_redis_cluster_slots(ngx_refund_redis_cluster_t *c,
    ngx_refund_redis_request_t *request)
{
    ngx_refund_redis_cluster_map_t  map;

    if (request->error) {
        return request->error;
    }

    map.cluster = c;
    map.from = ngx_refund_redis_connection_address(request->connection);
    map.begun = 0;

    return ngx_refund_redis_slots(request->replies[0],
                                  ngx_refund_redis_cluster_slots_range, &map)
           == NGX_OK
           ? NULL : "Redis sent an unexpected reply";
}


/* What there is no room for stays a hole: MOVED says so of each key. */

static ngx_int_t
ngx_refund_redis_cluster_slots_range(void *data, ngx_uint_t first,
    ngx_uint_t last, const ngx_refund_redis_announced_t *announced)
{
    ngx_refund_redis_cluster_map_t  *map = data;

    ngx_uint_t                       i, slot;
    ngx_refund_redis_cluster_t      *c;

    c = map->cluster;

    if (!map->begun) {
        map->begun = 1;

        for (slot = 0; slot < NGX_REFUND_REDIS_SLOTS; slot++) {
            c->slots[slot] = NGX_REFUND_REDIS_CLUSTER_NONE;
        }

        for (i = 0; i < c->n; i++) {
            if (c->nodes[i]) {
                c->nodes[i]->mapped = 0;
            }
        }
    }

    i = ngx_refund_redis_cluster_node(c, announced, map->from);

    if (i != NGX_REFUND_REDIS_CLUSTER_NONE) {
        c->nodes[i]->mapped = 1;
    }

    for (slot = first; slot <= last; slot++) {
        c->slots[slot] = (uint16_t) i;
    }

    return NGX_OK;
}


static void
ngx_refund_redis_cluster_refreshed(ngx_refund_redis_cluster_t *c)
{
    ngx_uint_t                i, errors;
    ngx_refund_redis_node_t  *node;

    c->refreshing = 0;
    c->failures = 0;
    c->not_before = ngx_current_msec
                    + ngx_refund_redis_backoff(0,
                                            NGX_REFUND_REDIS_CLUSTER_SPACING,
                                            NGX_REFUND_REDIS_CLUSTER_SPACING);

    if (c->down) {
        c->down = 0;
        ngx_refund_log_limited(NGX_LOG_NOTICE, ngx_cycle->log, c,
                               "%V is up again", &c->conf->server.label);
    }

    errors = 0;

    for (i = 0; i < c->n; i++) {
        node = c->nodes[i];

        if (node == NULL) {
            continue;
        }

        if (node->mapped) {

            if (node->down) {
                errors = 1;
                ngx_refund_redis_connection_connect(node->connection);
            }

            continue;
        }

        /* what was sent to it ends there */

        if (node->connection) {
            ngx_refund_redis_connection_retire(node->connection, &c->retired);
        }

        c->nodes[i] = NULL;
        ngx_free(node);
    }

    if (errors) {
        ngx_refund_redis_cluster_refresh(c, NGX_REFUND_REDIS_CLUSTER_WATCH);
    }

    ngx_refund_redis_pending_forward(&c->pending,
                                     ngx_refund_redis_cluster_forward);
}


/* The node of this name, made if need be; from: who announces it. */

static ngx_uint_t
ngx_refund_redis_cluster_node(ngx_refund_redis_cluster_t *c,
    const ngx_refund_redis_announced_t *announced,
    const ngx_refund_redis_address_t *from)
{
    uint32_t                   hash;
    ngx_uint_t                 i, room;
    const ngx_str_t           *host, *ip;
    ngx_refund_redis_node_t   *node;

    host = announced->host.len ? &announced->host : &from->host;
    ip = &announced->ip;
    hash = ngx_crc32_short(host->data, host->len) + announced->port;
    room = c->n;

    for (i = 0; i < c->n; i++) {
        node = c->nodes[i];

        if (node == NULL) {
            room = i;
            continue;
        }

        if (node->hash == hash
            && node->address.port == announced->port
            && node->address.host.len == host->len
            && ngx_memcmp(node->address.host.data, host->data, host->len) == 0
            && (ip->len == 0
                || (node->ip.len == ip->len
                    && ngx_memcmp(node->ip.data, ip->data, ip->len) == 0)))
        {
            return i;
        }
    }

    if (room == NGX_REFUND_REDIS_CLUSTER_NODES) {
        ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, &c->nodes,
                               "%V: the Redis Cluster has more than %d nodes",
                               &c->conf->server.label,
                               NGX_REFUND_REDIS_CLUSTER_NODES);

        return NGX_REFUND_REDIS_CLUSTER_NONE;
    }

    /* what was told goes with its node, what is configured stays */

    if (announced->host.len == 0 && from->told) {
        ip = from->numeric;
    }

    node = ngx_calloc(sizeof(ngx_refund_redis_node_t) + host->len + ip->len
                      + 1, ngx_cycle->log);
    if (node == NULL) {
        return NGX_REFUND_REDIS_CLUSTER_NONE;
    }

    node->cluster = c;
    node->hash = hash;

    node->address.host.data = node->bytes;
    node->address.host.len = host->len;
    node->address.port = announced->port;
    ngx_memcpy(node->bytes, host->data, host->len);

    if (ip->len) {
        node->ip.data = node->bytes + host->len + 1;
        node->ip.len = ip->len;
        ngx_memcpy(node->ip.data, ip->data, ip->len);

        node->address.numeric = &node->ip;
        node->address.n = 1;
        node->address.told = 1;

    } else if (announced->host.len == 0) {
        node->address.numeric = from->numeric;
        node->address.n = from->n;
    }

    c->nodes[room] = node;
    c->n = ngx_max(c->n, room + 1);

    return room;
}


/* NULL: no memory. */

static ngx_refund_redis_connection_t *
ngx_refund_redis_cluster_connection(ngx_refund_redis_node_t *node)
{
    ngx_refund_redis_owner_t  owner;

    if (node->connection == NULL) {
        ngx_memzero(&owner, sizeof(ngx_refund_redis_owner_t));

        owner.up = ngx_refund_redis_cluster_up;
        owner.down = ngx_refund_redis_cluster_down;
        owner.data = node;
        owner.large = 1;

        node->connection = ngx_refund_redis_connection_open(
                                                &node->cluster->conf->server,
                                                &node->address, &owner);
    }

    return node->connection;
}


static void
ngx_refund_redis_cluster_up(void *data, ngx_refund_redis_connection_t *rc)
{
    ngx_refund_redis_node_t  *node = data;

    if (node->down) {
        node->down = 0;
        ngx_refund_log_limited(NGX_LOG_NOTICE, ngx_cycle->log,
                               ngx_refund_redis_cluster_reason(node),
                               "%V: node %V, port %d, is up again",
                               &node->cluster->conf->server.label,
                               &node->address.host, (int) node->address.port);
    }
}


static void
ngx_refund_redis_cluster_down(void *data, ngx_refund_redis_connection_t *rc,
    const char *reason, const char *detail)
{
    ngx_refund_redis_node_t  *node = data;

    if (!node->down) {
        node->down = 1;
        ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log,
                               ngx_refund_redis_cluster_reason(node),
                               *detail ? "%V: node %V, port %d, is down: "
                                         "%s (%s)"
                                       : "%V: node %V, port %d, is down: %s",
                               &node->cluster->conf->server.label,
                               &node->address.host, (int) node->address.port,
                               reason, detail);
    }

    ngx_refund_redis_cluster_refresh(node->cluster, 0);
}

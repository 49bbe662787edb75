
/*
 * Copyright (C) the refund-notify authors
 *
 * The master that sentinels name: asked in turn, proven by its role, followed
 * when it changes.
 * https://redis.io/docs/latest/develop/reference/sentinel-clients/
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_refund_log.h"
#include "ngx_refund_redis_connection.h"
#include "ngx_refund_redis_error.h"
#include "ngx_refund_redis_pending.h"
#include "ngx_refund_redis_reply.h"


/* milliseconds between two lookups: the least, while requests wait, and else */

#define NGX_REFUND_REDIS_SENTINEL_MIN    50
#define NGX_REFUND_REDIS_SENTINEL_WAIT   200
#define NGX_REFUND_REDIS_SENTINEL_MAX    1000

/*
 * and of those that are made while all is well, for a message may have been
 * lost: not before the sentinels, who tell each other every 2 seconds, agree
 * on a master that is new
 */

#define NGX_REFUND_REDIS_SENTINEL_CHECK  5000

/* until what the master's connection had no room for is tried again */

#define NGX_REFUND_REDIS_SENTINEL_AGAIN  25


/* An address with room for it; len 0: none. */

typedef struct {
    ngx_refund_redis_address_t       address;
    u_char                           host[NGX_REFUND_REDIS_HOST_MAX + 1];
} ngx_refund_redis_place_t;


typedef struct {
    ngx_refund_redis_place_t         named;     /* as master, in this lookup */
    const char                      *complaint; /* the last; NULL: all well */
} ngx_refund_redis_witness_t;


typedef struct {
    ngx_refund_redis_t               redis;
    const ngx_refund_redis_conf_t   *conf;
    ngx_refund_redis_pending_t       pending;

    ngx_refund_redis_connection_t   *master;    /* NULL: not known */
    ngx_refund_redis_connection_t   *candidate; /* not known to be it yet */
    ngx_refund_redis_connection_t   *asked;     /* a sentinel */
    ngx_refund_redis_connection_t   *watched;   /* likewise, subscribed to */
    ngx_queue_t                      retired;

    ngx_uint_t                       current;   /* the sentinel being asked */
    ngx_uint_t                       tried;     /* in this lookup */
    ngx_uint_t                       watching;  /* the sentinel watched */
    ngx_uint_t                       failures;  /* of lookups in a row */
    ngx_uint_t                       unwatched; /* likewise of watching */

    ngx_refund_redis_place_t         tried_last;    /* in this lookup */
    ngx_refund_redis_place_t         switched;      /* told by a message */

    ngx_event_t                      lookup;    /* the next one */
    ngx_event_t                      watch;     /* begin to */
    ngx_event_t                      message;   /* came */
    ngx_event_t                      again;     /* forward what waits */

    unsigned                         looking:1;
    unsigned                         down:1;
    unsigned                         closed:1;

    ngx_refund_redis_witness_t       witnesses[1];  /* a sentinel each */
} ngx_refund_redis_sentinel_t;


static ngx_refund_redis_t *ngx_refund_redis_sentinel_open(
    const ngx_refund_redis_conf_t *conf);
static void ngx_refund_redis_sentinel_close(ngx_refund_redis_t *redis);
static const char *ngx_refund_redis_sentinel_send(ngx_refund_redis_t *redis,
    const ngx_str_t *key, const ngx_refund_redis_command_t *commands,
    ngx_uint_t n, ngx_refund_redis_handler_pt handler, void *data);
static ngx_int_t ngx_refund_redis_sentinel_state(ngx_refund_redis_t *redis,
    ngx_uint_t *connections);
static void ngx_refund_redis_sentinel_forward(
    ngx_refund_redis_request_t *request);
static void ngx_refund_redis_sentinel_again_handler(ngx_event_t *ev);
static void ngx_refund_redis_sentinel_done(
    ngx_refund_redis_request_t *request);

static void ngx_refund_redis_sentinel_schedule(
    ngx_refund_redis_sentinel_t *s);
static void ngx_refund_redis_sentinel_lookup_handler(ngx_event_t *ev);
static void ngx_refund_redis_sentinel_begin(ngx_refund_redis_sentinel_t *s);
static void ngx_refund_redis_sentinel_ask(ngx_refund_redis_sentinel_t *s);
static void ngx_refund_redis_sentinel_asked_done(
    ngx_refund_redis_request_t *request);
static void ngx_refund_redis_sentinel_asked_down(void *data,
    ngx_refund_redis_connection_t *rc, const char *reason, const char *detail);
static const char *ngx_refund_redis_sentinel_answer(
    ngx_refund_redis_sentinel_t *s, ngx_refund_redis_request_t *request);
static void ngx_refund_redis_sentinel_next(ngx_refund_redis_sentinel_t *s);
static void ngx_refund_redis_sentinel_found(ngx_refund_redis_sentinel_t *s);

static const char *ngx_refund_redis_sentinel_try(
    ngx_refund_redis_sentinel_t *s, const ngx_refund_redis_announced_t *node);
static void ngx_refund_redis_sentinel_master_up(void *data,
    ngx_refund_redis_connection_t *rc);
static void ngx_refund_redis_sentinel_master_down(void *data,
    ngx_refund_redis_connection_t *rc, const char *reason, const char *detail);
static void ngx_refund_redis_sentinel_lost(ngx_refund_redis_sentinel_t *s,
    const char *reason, const char *detail);

static void ngx_refund_redis_sentinel_watch_handler(ngx_event_t *ev);
static void ngx_refund_redis_sentinel_watch_up(void *data,
    ngx_refund_redis_connection_t *rc);
static void ngx_refund_redis_sentinel_watch_down(void *data,
    ngx_refund_redis_connection_t *rc, const char *reason, const char *detail);
static void ngx_refund_redis_sentinel_watch_next(
    ngx_refund_redis_sentinel_t *s);
static void ngx_refund_redis_sentinel_message(void *data,
    const ngx_str_t *text);
static void ngx_refund_redis_sentinel_message_handler(ngx_event_t *ev);

static void ngx_refund_redis_sentinel_complain(ngx_refund_redis_sentinel_t *s,
    ngx_uint_t sentinel, const void *key, const char *reason,
    const char *detail);
static void ngx_refund_redis_place_set(ngx_refund_redis_place_t *place,
    const ngx_str_t *host, in_port_t port);
static ngx_uint_t ngx_refund_redis_place_is(
    const ngx_refund_redis_address_t *address, const ngx_str_t *host,
    in_port_t port);


const ngx_refund_redis_ops_t  ngx_refund_redis_sentinel_ops = {
    ngx_refund_redis_sentinel_open,
    ngx_refund_redis_sentinel_close,
    ngx_refund_redis_sentinel_send,
    ngx_refund_redis_sentinel_state,
    NULL
};


static ngx_refund_redis_t *
ngx_refund_redis_sentinel_open(const ngx_refund_redis_conf_t *conf)
{
    ngx_refund_redis_sentinel_t  *s;

    s = ngx_calloc(sizeof(ngx_refund_redis_sentinel_t)
                   + (conf->n - 1) * sizeof(ngx_refund_redis_witness_t),
                   ngx_cycle->log);
    if (s == NULL) {
        return NULL;
    }

    s->conf = conf;

    ngx_queue_init(&s->retired);
    ngx_refund_redis_pending_init(&s->pending, conf->server.timeout);

    s->pending.reason = "the sentinels were not asked yet";

    s->lookup.handler = ngx_refund_redis_sentinel_lookup_handler;
    s->lookup.data = s;
    s->lookup.log = ngx_cycle->log;
    s->lookup.cancelable = 1;

    s->watch.handler = ngx_refund_redis_sentinel_watch_handler;
    s->watch.data = s;
    s->watch.log = ngx_cycle->log;
    s->watch.cancelable = 1;

    s->message.handler = ngx_refund_redis_sentinel_message_handler;
    s->message.data = s;
    s->message.log = ngx_cycle->log;

    s->again.handler = ngx_refund_redis_sentinel_again_handler;
    s->again.data = s;
    s->again.log = ngx_cycle->log;
    s->again.cancelable = 1;

    /* from the event loop: ngx_current_msec may be old in a new process */

    ngx_add_timer(&s->lookup, 1);
    ngx_add_timer(&s->watch, 1);

    return &s->redis;
}


static void
ngx_refund_redis_sentinel_close(ngx_refund_redis_t *redis)
{
    ngx_refund_redis_sentinel_t  *s = (ngx_refund_redis_sentinel_t *) redis;

    s->closed = 1;

    if (s->master) {
        ngx_refund_redis_connection_close(s->master);
    }

    if (s->candidate) {
        ngx_refund_redis_connection_close(s->candidate);
    }

    if (s->asked) {
        ngx_refund_redis_connection_close(s->asked);
    }

    if (s->watched) {
        ngx_refund_redis_connection_close(s->watched);
    }

    ngx_refund_redis_connections_close(&s->retired);
    ngx_refund_redis_pending_close(&s->pending);

    if (s->lookup.timer_set) {
        ngx_del_timer(&s->lookup);
    }

    if (s->watch.timer_set) {
        ngx_del_timer(&s->watch);
    }

    if (s->message.posted) {
        ngx_delete_posted_event(&s->message);
    }

    if (s->again.timer_set) {
        ngx_del_timer(&s->again);
    }

    ngx_free(s);
}


static const char *
ngx_refund_redis_sentinel_send(ngx_refund_redis_t *redis, const ngx_str_t *key,
    const ngx_refund_redis_command_t *commands, ngx_uint_t n,
    ngx_refund_redis_handler_pt handler, void *data)
{
    const char                   *error;
    ngx_refund_redis_request_t   *request;
    ngx_refund_redis_sentinel_t  *s = (ngx_refund_redis_sentinel_t *) redis;

    if (s->closed) {
        return "the worker exits";
    }

    error = ngx_refund_redis_pending_add(&s->pending, commands, n, handler,
                                         data, &request);
    if (error) {
        return error;
    }

    request->done = ngx_refund_redis_sentinel_done;
    request->owner = s;

    ngx_refund_redis_sentinel_forward(request);

    return NULL;
}


static ngx_int_t
ngx_refund_redis_sentinel_state(ngx_refund_redis_t *redis,
    ngx_uint_t *connections)
{
    ngx_refund_redis_sentinel_t  *s = (ngx_refund_redis_sentinel_t *) redis;

    *connections = (s->master != NULL);

    if (s->master) {
        return NGX_OK;
    }

    return s->down ? NGX_ERROR : NGX_AGAIN;
}


static void
ngx_refund_redis_sentinel_forward(ngx_refund_redis_request_t *request)
{
    const char                   *error;
    ngx_refund_redis_sentinel_t  *s;

    s = request->owner;

    if (s->master) {
        error = ngx_refund_redis_connection_send(s->master, request);

        if (error == NULL) {
            return;
        }

        /* it is just going down, or has too much to do */

    } else {
        error = s->pending.reason;
    }

    ngx_refund_redis_pending_wait(&s->pending, request, error);

    if (s->master == NULL) {
        ngx_refund_redis_sentinel_schedule(s);

    } else if (!s->again.timer_set) {
        ngx_add_timer(&s->again, NGX_REFUND_REDIS_SENTINEL_AGAIN);
    }
}


static void
ngx_refund_redis_sentinel_again_handler(ngx_event_t *ev)
{
    ngx_refund_redis_sentinel_t  *s = ev->data;

    ngx_refund_redis_pending_forward(&s->pending,
                                     ngx_refund_redis_sentinel_forward);
}


static void
ngx_refund_redis_sentinel_done(ngx_refund_redis_request_t *request)
{
    ngx_str_t                        text;
    ngx_uint_t                       i;
    redisReply                      *reply;
    ngx_refund_redis_sentinel_t     *s;
    const ngx_refund_redis_error_t  *error;

    s = request->owner;

    if (request->error == NULL || request->handler == NULL || s->closed) {
        ngx_refund_redis_pending_end(&s->pending, request);
        return;
    }

    reply = ngx_refund_redis_request_refused(request, &i);

    if (reply) {
        text.data = (u_char *) reply->str;
        text.len = reply->len;
        error = ngx_refund_redis_error((char *) text.data, text.len);

        if (error->again != NGX_REFUND_REDIS_ELSEWHERE) {
            ngx_refund_redis_pending_end(&s->pending, request);
            return;
        }

        if (s->master == request->connection) {
            ngx_refund_redis_connection_retire(s->master, &s->retired);
            ngx_refund_redis_sentinel_lost(s, error->phrase, "");
        }

        ngx_refund_redis_request_rewind(request, i);
        ngx_refund_redis_sentinel_forward(request);
        return;
    }

    if (request->written) {

        /* what became of it nobody knows */

        ngx_refund_redis_pending_end(&s->pending, request);
        return;
    }

    ngx_refund_redis_request_rewind(request, request->first);
    ngx_refund_redis_sentinel_forward(request);
}


/* The next lookup: as soon as allowed if someone waits for it. */

static void
ngx_refund_redis_sentinel_schedule(ngx_refund_redis_sentinel_t *s)
{
    ngx_msec_t  delay, left;

    if (s->looking || s->closed) {
        return;
    }

    delay = ngx_refund_redis_backoff(s->failures,
                                     NGX_REFUND_REDIS_SENTINEL_MIN,
                                     ngx_queue_empty(&s->pending.waiting)
                                     ? NGX_REFUND_REDIS_SENTINEL_MAX
                                     : NGX_REFUND_REDIS_SENTINEL_WAIT);

    if (s->lookup.timer_set) {
        left = s->lookup.timer.key - ngx_current_msec;

        if ((ngx_msec_int_t) left <= (ngx_msec_int_t) delay) {
            return;
        }

        ngx_del_timer(&s->lookup);
    }

    ngx_add_timer(&s->lookup, delay);
}


static void
ngx_refund_redis_sentinel_lookup_handler(ngx_event_t *ev)
{
    ngx_refund_redis_sentinel_t  *s;

    s = ev->data;

    /* an exiting worker asks for those who wait only */

    if (s->looking || (ngx_exiting && ngx_queue_empty(&s->pending.waiting))) {
        return;
    }

    ngx_refund_redis_sentinel_begin(s);

    /* the one that tells of changes: what it says is of a piece */

    if (s->watched && ngx_refund_redis_connection_is_up(s->watched)) {
        s->current = s->watching;
    }

    ngx_refund_redis_sentinel_ask(s);
}


static void
ngx_refund_redis_sentinel_begin(ngx_refund_redis_sentinel_t *s)
{
    ngx_uint_t  i;

    s->looking = 1;
    s->tried = 0;
    s->tried_last.address.host.len = 0;

    for (i = 0; i < s->conf->n; i++) {
        s->witnesses[i].named.address.host.len = 0;
    }
}


static void
ngx_refund_redis_sentinel_ask(ngx_refund_redis_sentinel_t *s)
{
    ngx_str_t                    argv[3];
    const char                  *error;
    ngx_refund_redis_owner_t     owner;
    ngx_refund_redis_command_t   command;
    ngx_refund_redis_request_t  *request;

    ngx_str_set(&argv[0], "SENTINEL");
    ngx_str_set(&argv[1], "get-master-addr-by-name");
    argv[2] = s->conf->master;

    command.argc = 3;
    command.argv = argv;

    ngx_memzero(&owner, sizeof(ngx_refund_redis_owner_t));

    owner.down = ngx_refund_redis_sentinel_asked_down;
    owner.data = s;

    request = NULL;
    error = "out of memory";

    s->asked = ngx_refund_redis_connection_open(&s->conf->sentinel,
                                            &s->conf->addresses[s->current],
                                            &owner);
    if (s->asked) {
        request = ngx_refund_redis_request_create(&command, 1);
    }

    if (request) {
        request->done = ngx_refund_redis_sentinel_asked_done;
        request->owner = s;

        error = ngx_refund_redis_connection_send(s->asked, request);

        if (error == NULL) {
            return;
        }

        ngx_refund_redis_request_free(request);
    }

    if (s->asked) {
        ngx_refund_redis_connection_retire(s->asked, &s->retired);
        s->asked = NULL;
    }

    ngx_refund_redis_sentinel_complain(s, s->current, &s->asked, error, "");
    ngx_refund_redis_sentinel_next(s);
}


static void
ngx_refund_redis_sentinel_asked_done(ngx_refund_redis_request_t *request)
{
    const char                   *error;
    ngx_refund_redis_sentinel_t  *s;

    s = request->owner;

    /* of a lookup that was given up, or the connection goes down next */

    if (s->closed
        || s->asked != request->connection
        || (request->error && request->replies[0] == NULL))
    {
        ngx_refund_redis_request_free(request);
        return;
    }

    error = ngx_refund_redis_sentinel_answer(s, request);

    ngx_refund_redis_request_free(request);

    ngx_refund_redis_connection_retire(s->asked, &s->retired);
    s->asked = NULL;

    if (error) {
        ngx_refund_redis_sentinel_complain(s, s->current,
                                           &s->conf->addresses[s->current],
                                           error, "");
        ngx_refund_redis_sentinel_next(s);
    }
}


static void
ngx_refund_redis_sentinel_asked_down(void *data,
    ngx_refund_redis_connection_t *rc, const char *reason, const char *detail)
{
    ngx_refund_redis_sentinel_t  *s = data;

    ngx_refund_redis_sentinel_complain(s, s->current,
                                       &s->conf->addresses[s->current].port,
                                       reason, detail);

    s->asked = NULL;
    ngx_refund_redis_connection_close(rc);

    /* it would not tell of a change either */

    if (s->watched && s->current == s->watching) {
        ngx_refund_redis_connection_retire(s->watched, &s->retired);
        ngx_refund_redis_sentinel_watch_next(s);
    }

    ngx_refund_redis_sentinel_next(s);
}


/*
 * NULL: the lookup goes on with the master that it names, or has ended; empty:
 * it goes on with the next sentinel.  While there is no master, the first one
 * that is named and says that it is one will do.  One that works is left for
 * another, or kept without asking on, only by the word of more than half of the
 * sentinels: one that is stale would lead some workers to another master than
 * the rest.
 */

static const char *
ngx_refund_redis_sentinel_answer(ngx_refund_redis_sentinel_t *s,
    ngx_refund_redis_request_t *request)
{
    ngx_int_t                          rc;
    ngx_uint_t                         i, agree;
    ngx_refund_redis_witness_t        *witness;
    ngx_refund_redis_announced_t       node;
    const ngx_refund_redis_address_t  *address;

    if (request->error) {
        return request->error;
    }

    rc = ngx_refund_redis_master(request->replies[0], &node);

    if (rc == NGX_DECLINED) {
        return "it knows no master of this name";
    }

    if (rc != NGX_OK) {
        return "Redis sent an unexpected reply";
    }

    witness = &s->witnesses[s->current];
    witness->complaint = NULL;
    ngx_refund_redis_place_set(&witness->named, &node.host, node.port);

    if (s->master) {
        agree = 0;

        for (i = 0; i < s->conf->n; i++) {
            agree += ngx_refund_redis_place_is(&s->witnesses[i].named.address,
                                               &node.host, node.port);
        }

        if (agree <= s->conf->n / 2) {
            return "";
        }

        address = ngx_refund_redis_connection_address(s->master);

        if (ngx_refund_redis_place_is(address, &node.host, node.port)) {
            ngx_refund_redis_sentinel_found(s);
            return NULL;
        }
    }

    return ngx_refund_redis_sentinel_try(s, &node);
}


static void
ngx_refund_redis_sentinel_next(ngx_refund_redis_sentinel_t *s)
{
    s->current = (s->current + 1) % s->conf->n;

    if (++s->tried < s->conf->n) {
        ngx_refund_redis_sentinel_ask(s);
        return;
    }

    /* nobody has a majority against the master that works */

    if (s->master && s->tried_last.address.host.len == 0) {
        ngx_refund_redis_sentinel_found(s);
        return;
    }

    s->looking = 0;
    s->failures++;

    if (s->master == NULL) {
        s->pending.reason = "no sentinel leads to a master";

        if (!s->down) {
            s->down = 1;
            ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, s,
                                   "%V is down: %s", &s->conf->server.label,
                                   s->pending.reason);
        }
    }

    ngx_refund_redis_sentinel_schedule(s);
}


/* There is a master. */

static void
ngx_refund_redis_sentinel_found(ngx_refund_redis_sentinel_t *s)
{
    s->looking = 0;
    s->failures = 0;
    s->pending.reason = NULL;

    if (s->lookup.timer_set) {
        ngx_del_timer(&s->lookup);
    }

    ngx_add_timer(&s->lookup, NGX_REFUND_REDIS_SENTINEL_CHECK / 2
                              + (ngx_msec_t) ngx_random()
                                % NGX_REFUND_REDIS_SENTINEL_CHECK);

    ngx_refund_redis_pending_forward(&s->pending,
                                     ngx_refund_redis_sentinel_forward);
}


/* NULL: it is being connected to; empty: there is nothing to complain of. */

static const char *
ngx_refund_redis_sentinel_try(ngx_refund_redis_sentinel_t *s,
    const ngx_refund_redis_announced_t *node)
{
    ngx_refund_redis_owner_t  owner;

    /* two sentinels agree: it would only fail once more */

    if (ngx_refund_redis_place_is(&s->tried_last.address, &node->host,
                                  node->port))
    {
        return "";
    }

    ngx_refund_redis_place_set(&s->tried_last, &node->host, node->port);

    ngx_memzero(&owner, sizeof(ngx_refund_redis_owner_t));

    owner.up = ngx_refund_redis_sentinel_master_up;
    owner.down = ngx_refund_redis_sentinel_master_down;
    owner.data = s;
    owner.master = 1;

    s->candidate = ngx_refund_redis_connection_open(&s->conf->server,
                                                    &s->tried_last.address,
                                                    &owner);
    if (s->candidate == NULL) {
        return "out of memory";
    }

    ngx_refund_redis_connection_connect(s->candidate);

    return NULL;
}


static void
ngx_refund_redis_sentinel_master_up(void *data,
    ngx_refund_redis_connection_t *rc)
{
    const ngx_refund_redis_address_t  *address;
    ngx_refund_redis_sentinel_t       *s = data;

    /* what was sent to the one before ends there */

    if (s->master) {
        ngx_refund_redis_connection_retire(s->master, &s->retired);
    }

    s->master = rc;
    s->candidate = NULL;
    s->down = 0;

    address = ngx_refund_redis_connection_address(rc);

    ngx_refund_log_limited(NGX_LOG_NOTICE, ngx_cycle->log, s,
                           "%V is up: its master is %V, port %d",
                           &s->conf->server.label, &address->host,
                           (int) address->port);

    ngx_refund_redis_sentinel_found(s);
}


static void
ngx_refund_redis_sentinel_master_down(void *data,
    ngx_refund_redis_connection_t *rc, const char *reason, const char *detail)
{
    const ngx_refund_redis_address_t  *address;
    ngx_refund_redis_sentinel_t       *s = data;

    if (rc == s->master) {
        ngx_refund_redis_sentinel_lost(s, reason, detail);
        ngx_refund_redis_connection_close(rc);
        return;
    }

    address = ngx_refund_redis_connection_address(rc);

    ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, &s->candidate,
                           *detail ? "%V: %V, port %d, is named its master, "
                                     "but %s (%s)"
                                   : "%V: %V, port %d, is named its master, "
                                     "but %s",
                           &s->conf->server.label, &address->host,
                           (int) address->port, reason, detail);

    s->candidate = NULL;
    ngx_refund_redis_connection_close(rc);

    ngx_refund_redis_sentinel_next(s);
}


/* The master is one no longer, or out of reach. */

static void
ngx_refund_redis_sentinel_lost(ngx_refund_redis_sentinel_t *s,
    const char *reason, const char *detail)
{
    s->master = NULL;
    s->pending.reason = reason;

    if (!s->down) {
        s->down = 1;
        ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, s,
                               *detail ? "%V is down: %s (%s)"
                                       : "%V is down: %s",
                               &s->conf->server.label, reason, detail);
    }

    ngx_refund_redis_sentinel_schedule(s);
}


/* A kept connection to one sentinel, which tells when the master changes. */

static void
ngx_refund_redis_sentinel_watch_handler(ngx_event_t *ev)
{
    ngx_refund_redis_owner_t      owner;
    ngx_refund_redis_sentinel_t  *s;

    s = ev->data;

    if (ngx_exiting) {
        return;
    }

    ngx_memzero(&owner, sizeof(ngx_refund_redis_owner_t));

    owner.up = ngx_refund_redis_sentinel_watch_up;
    owner.down = ngx_refund_redis_sentinel_watch_down;
    owner.data = s;

    s->watched = ngx_refund_redis_connection_open(&s->conf->sentinel,
                                            &s->conf->addresses[s->watching],
                                            &owner);
    if (s->watched == NULL) {
        ngx_refund_redis_sentinel_watch_next(s);
        return;
    }

    ngx_refund_redis_connection_connect(s->watched);
}


static void
ngx_refund_redis_sentinel_watch_up(void *data,
    ngx_refund_redis_connection_t *rc)
{
    ngx_refund_redis_sentinel_t  *s = data;

    if (ngx_refund_redis_connection_subscribe(rc, "+switch-master",
                                            ngx_refund_redis_sentinel_message)
        != NGX_OK)
    {
        ngx_refund_redis_connection_drop(rc, "out of memory");
        return;
    }

    /* what it told before nobody has heard: asked from now on, and now */

    s->unwatched = 0;
    ngx_refund_redis_sentinel_schedule(s);
}


static void
ngx_refund_redis_sentinel_watch_down(void *data,
    ngx_refund_redis_connection_t *rc, const char *reason, const char *detail)
{
    ngx_refund_redis_sentinel_t  *s = data;

    ngx_refund_redis_sentinel_complain(s, s->watching, &s->watched, reason,
                                       detail);

    ngx_refund_redis_connection_close(rc);
    ngx_refund_redis_sentinel_watch_next(s);
}


static void
ngx_refund_redis_sentinel_watch_next(ngx_refund_redis_sentinel_t *s)
{
    s->watched = NULL;
    s->watching = (s->watching + 1) % s->conf->n;

    ngx_add_timer(&s->watch,
                  ngx_refund_redis_backoff(s->unwatched++,
                                           NGX_REFUND_REDIS_SENTINEL_MIN,
                                           NGX_REFUND_REDIS_SENTINEL_MAX));
}


static void
ngx_refund_redis_sentinel_message(void *data, const ngx_str_t *text)
{
    ngx_refund_redis_sentinel_t   *s = data;

    ngx_refund_redis_announced_t   node;

    if (ngx_refund_redis_switched(text, &s->conf->master, &node) != NGX_OK) {
        return;
    }

    ngx_refund_redis_place_set(&s->switched, &node.host, node.port);
    ngx_post_event(&s->message, &ngx_posted_events);
}


static void
ngx_refund_redis_sentinel_message_handler(ngx_event_t *ev)
{
    ngx_refund_redis_sentinel_t        *s;
    ngx_refund_redis_announced_t        node;
    const ngx_refund_redis_address_t   *address;

    s = ev->data;

    node.host = s->switched.address.host;
    node.port = s->switched.address.port;

    if (s->master) {
        address = ngx_refund_redis_connection_address(s->master);

        if (ngx_refund_redis_place_is(address, &node.host, node.port)) {
            return;
        }
    }

    /* a lookup that has begun knows less */

    if (s->asked) {
        ngx_refund_redis_connection_retire(s->asked, &s->retired);
        s->asked = NULL;
    }

    if (s->candidate) {
        ngx_refund_redis_connection_retire(s->candidate, &s->retired);
        s->candidate = NULL;
    }

    ngx_refund_redis_sentinel_begin(s);

    s->current = s->watching;

    if (ngx_refund_redis_sentinel_try(s, &node) != NULL) {
        ngx_refund_redis_sentinel_next(s);
    }
}


static void
ngx_refund_redis_sentinel_complain(ngx_refund_redis_sentinel_t *s,
    ngx_uint_t sentinel, const void *key, const char *reason,
    const char *detail)
{
    ngx_refund_redis_address_t  *address;

    if (*reason == '\0') {
        return;
    }

    /* while there is a master, it is news once */

    if (s->master && s->witnesses[sentinel].complaint == reason) {
        return;
    }

    s->witnesses[sentinel].complaint = reason;

    address = &s->conf->addresses[sentinel];

    ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, key,
                           *detail ? "%V: the sentinel %V, port %d: %s (%s)"
                                   : "%V: the sentinel %V, port %d: %s",
                           &s->conf->server.label, &address->host,
                           (int) address->port, reason, detail);
}


static void
ngx_refund_redis_place_set(ngx_refund_redis_place_t *place,
    const ngx_str_t *host, in_port_t port)
{
    ngx_memcpy(place->host, host->data, host->len);
    place->host[host->len] = '\0';

    place->address.host.data = place->host;
    place->address.host.len = host->len;
    place->address.port = port;
}


/* Names are the same in upper and lower case, which a lookup makes of them. */

static ngx_uint_t
ngx_refund_redis_place_is(const ngx_refund_redis_address_t *address,
    const ngx_str_t *host, in_port_t port)
{
    return address->port == port
           && address->host.len == host->len
           && ngx_strncasecmp(address->host.data, host->data, host->len) == 0;
}

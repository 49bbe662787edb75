
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_refund_log.h"
#include "ngx_refund_redis_adapter.h"
#include "ngx_refund_redis_connection.h"
#include "ngx_refund_redis_error.h"
#include "ngx_refund_redis_handshake.h"
#include "ngx_refund_redis_lookup.h"
#include "ngx_refund_redis_numeric.h"
#include "ngx_refund_redis_tls.h"


/* milliseconds between the starts of two attempts to connect */

#define NGX_REFUND_REDIS_DELAY_MIN      50
#define NGX_REFUND_REDIS_DELAY_MAX      1000

/* after a refused password: for requests, and in the background */

#define NGX_REFUND_REDIS_REFUSED_MIN    1000
#define NGX_REFUND_REDIS_REFUSED_DELAY  5000


typedef enum {
    NGX_REFUND_REDIS_DISCONNECTED = 0,
    NGX_REFUND_REDIS_RESOLVING,
    NGX_REFUND_REDIS_CONNECTING,
    NGX_REFUND_REDIS_HANDSHAKE,
    NGX_REFUND_REDIS_READY
} ngx_refund_redis_state_e;


struct ngx_refund_redis_connection_s {
    ngx_refund_redis_adapter_t       adapter;
    const ngx_refund_redis_server_t  *server;
    ngx_refund_redis_address_t       address;
    ngx_refund_redis_owner_t         owner;
    ngx_refund_redis_state_e         state;

    /* oldest first: the timeout is the same for all */
    ngx_queue_t                      waiting;   /* for a connection */
    ngx_queue_t                      sent;
    ngx_queue_t                      ended;     /* whose handler is to run */
    ngx_uint_t                       pending;   /* in all three */

    ngx_event_t                      posted;    /* runs the handlers */
    ngx_event_t                      timer;     /* of the oldest request */
    ngx_event_t                      retry;     /* the next attempt */

    ngx_msec_t                       attempt;   /* its deadline */
    ngx_msec_t                       address_deadline;  /* this address' */
    ngx_msec_t                       not_before;    /* the next attempt */
    ngx_uint_t                       failures;  /* since the last success */

    ngx_refund_redis_lookup_t        lookup;
    const ngx_str_t                 *numeric;   /* the addresses to try */
    ngx_uint_t                       n;
    ngx_uint_t                       turn;      /* the next of them */
    ngx_uint_t                       left;      /* in this attempt */

    const char                      *reason;    /* why it is being dropped */
    const char                      *drop;      /* to be dropped when posted */
    const char                      *last;      /* why it went down last */
    const char                      *logged;    /* of that, what is in the log */
    ngx_msec_t                       logged_at;
    u_char                           detail[128];

    ngx_str_t                        told;      /* address.numeric, if told */
    ngx_queue_t                      queue;     /* of those that retire */
    ngx_refund_redis_message_pt      message;

    unsigned                         name:1;    /* address.host is one */
    unsigned                         next:1;    /* address is to be tried */
    unsigned                         down:1;
    unsigned                         lost:1;
    unsigned                         refused:1;
    unsigned                         retired:1;
    unsigned                         closed:1;

    u_char                           host[1];
};


static void ngx_refund_redis_request_write(ngx_refund_redis_request_t *request);
static void ngx_refund_redis_request_end(ngx_refund_redis_request_t *request,
    const char *error);
static ngx_int_t ngx_refund_redis_append(ngx_refund_redis_connection_t *rc,
    ngx_refund_redis_request_t *request, u_char *bytes, size_t len);
static void ngx_refund_redis_reply_handler(redisAsyncContext *context,
    void *reply, void *data);
static void ngx_refund_redis_message_handler(redisAsyncContext *context,
    void *reply, void *data);

static void ngx_refund_redis_connect(ngx_refund_redis_connection_t *rc);
static ngx_int_t ngx_refund_redis_resolve(ngx_refund_redis_connection_t *rc);
static void ngx_refund_redis_resolve_handler(void *data);
static void ngx_refund_redis_connect_first(ngx_refund_redis_connection_t *rc);
static void ngx_refund_redis_connect_next(ngx_refund_redis_connection_t *rc);
static void ngx_refund_redis_connect_handler(const redisAsyncContext *context,
    int status);
static void ngx_refund_redis_handshake(ngx_refund_redis_connection_t *rc);
static void ngx_refund_redis_handshake_done(
    ngx_refund_redis_request_t *request);

static void ngx_refund_redis_detached(ngx_refund_redis_adapter_t *adapter);
static void ngx_refund_redis_interrupted(ngx_refund_redis_adapter_t *adapter,
    ngx_uint_t shutdown);
static void ngx_refund_redis_find_reason(ngx_refund_redis_connection_t *rc,
    const redisAsyncContext *context);
static void ngx_refund_redis_free_context(ngx_refund_redis_connection_t *rc,
    const char *reason);
static void ngx_refund_redis_lost(ngx_refund_redis_connection_t *rc);

static void ngx_refund_redis_posted_handler(ngx_event_t *ev);
static void ngx_refund_redis_timer_handler(ngx_event_t *ev);
static void ngx_refund_redis_retry_handler(ngx_event_t *ev);
static void ngx_refund_redis_watch(ngx_refund_redis_connection_t *rc);
static void ngx_refund_redis_schedule(ngx_refund_redis_connection_t *rc);
static void ngx_refund_redis_up(ngx_refund_redis_connection_t *rc);
static ngx_uint_t ngx_refund_redis_reached(ngx_msec_t time);


ngx_refund_redis_connection_t *
ngx_refund_redis_connection_open(const ngx_refund_redis_server_t *server,
    const ngx_refund_redis_address_t *address,
    const ngx_refund_redis_owner_t *owner)
{
    const ngx_str_t                *ip;
    ngx_refund_redis_connection_t  *rc;

    ip = address->told ? address->numeric : NULL;

    rc = ngx_calloc(sizeof(ngx_refund_redis_connection_t) + address->host.len
                    + (ip ? ip->len + 1 : 0), ngx_cycle->log);
    if (rc == NULL) {
        return NULL;
    }

    rc->server = server;
    rc->address.host.data = rc->host;
    rc->address.host.len = address->host.len;
    rc->address.port = address->port;
    rc->address.numeric = address->numeric;
    rc->address.n = address->n;
    rc->address.told = address->told;
    ngx_memcpy(rc->host, address->host.data, address->host.len);

    /* a node may go before its connection does */

    if (ip) {
        rc->told.data = rc->host + address->host.len + 1;
        rc->told.len = ip->len;
        ngx_memcpy(rc->told.data, ip->data, ip->len);
        rc->address.numeric = &rc->told;
    }

    rc->name = address->port
               && !ngx_refund_redis_numeric(&address->host)
               && !(address->n
                    && ngx_refund_redis_lookup_is_localhost(&address->host));
    rc->lookup.handler = ngx_refund_redis_resolve_handler;
    rc->lookup.data = rc;

    rc->adapter.data = rc;
    rc->adapter.detached = ngx_refund_redis_detached;
    rc->adapter.interrupted = ngx_refund_redis_interrupted;

    ngx_queue_init(&rc->waiting);
    ngx_queue_init(&rc->sent);
    ngx_queue_init(&rc->ended);

    rc->posted.handler = ngx_refund_redis_posted_handler;
    rc->posted.data = rc;
    rc->posted.log = ngx_cycle->log;

    /* while a request is pending, the worker must not exit: see watch() */

    rc->timer.handler = ngx_refund_redis_timer_handler;
    rc->timer.data = rc;
    rc->timer.log = ngx_cycle->log;
    rc->timer.cancelable = 1;

    rc->retry.handler = ngx_refund_redis_retry_handler;
    rc->retry.data = rc;
    rc->retry.log = ngx_cycle->log;
    rc->retry.cancelable = 1;

    rc->last = "Redis was not connected to yet";

    rc->not_before = ngx_current_msec;

    if (owner) {
        rc->owner = *owner;
        rc->adapter.large = owner->large;

    } else {

        /* from the event loop: ngx_current_msec may be old in a new process */

        ngx_add_timer(&rc->retry, 1);
    }

    return rc;
}


void
ngx_refund_redis_connection_connect(ngx_refund_redis_connection_t *rc)
{
    if (rc->state != NGX_REFUND_REDIS_DISCONNECTED || rc->closed) {
        return;
    }

    if (ngx_refund_redis_reached(rc->not_before)) {
        ngx_refund_redis_connect(rc);

    } else if (!rc->retry.timer_set) {
        ngx_refund_redis_schedule(rc);
    }
}


void
ngx_refund_redis_connection_close(ngx_refund_redis_connection_t *rc)
{
    ngx_queue_t                 *q;
    ngx_refund_redis_request_t  *request;

    rc->closed = 1;

    /* what was queued last has not been written yet: once, without waiting */

    if (rc->state == NGX_REFUND_REDIS_READY && rc->adapter.context) {
        ngx_refund_redis_adapter_flush(&rc->adapter);
    }

    ngx_refund_redis_lookup_cancel(&rc->lookup);
    ngx_refund_redis_free_context(rc, "the worker exits");

    while (!ngx_queue_empty(&rc->waiting)) {
        q = ngx_queue_head(&rc->waiting);
        request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);
        ngx_refund_redis_request_end(request, "the worker exits");
    }

    ngx_refund_redis_posted_handler(&rc->posted);

    if (rc->posted.posted) {
        ngx_delete_posted_event(&rc->posted);
    }

    if (rc->timer.timer_set) {
        ngx_del_timer(&rc->timer);
    }

    if (rc->retry.timer_set) {
        ngx_del_timer(&rc->retry);
    }

    if (rc->retired) {
        ngx_queue_remove(&rc->queue);
    }

    ngx_free(rc);
}


void
ngx_refund_redis_connection_retire(ngx_refund_redis_connection_t *rc,
    ngx_queue_t *queue)
{
    ngx_queue_t                 *q;
    ngx_refund_redis_request_t  *request;

    rc->retired = 1;
    ngx_queue_insert_tail(queue, &rc->queue);

    while (!ngx_queue_empty(&rc->waiting)) {
        q = ngx_queue_head(&rc->waiting);
        request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);
        ngx_refund_redis_request_end(request, "the Redis node is no longer "
                                              "in use");
    }

    ngx_post_event(&rc->posted, &ngx_posted_events);
}


void
ngx_refund_redis_connections_close(ngx_queue_t *queue)
{
    ngx_refund_redis_connection_t  *rc;

    while (!ngx_queue_empty(queue)) {
        rc = ngx_queue_data(ngx_queue_head(queue),
                            ngx_refund_redis_connection_t, queue);
        ngx_refund_redis_connection_close(rc);
    }
}


const char *
ngx_refund_redis_connection_send(ngx_refund_redis_connection_t *rc,
    ngx_refund_redis_request_t *request)
{
    ngx_uint_t  wait;

    if (rc->closed) {
        return "the worker exits";
    }

    if (rc->pending >= NGX_REFUND_REDIS_PENDING_MAX) {
        return "too many requests to Redis are pending";
    }

    wait = 0;

    if (rc->state == NGX_REFUND_REDIS_DISCONNECTED) {
        wait = !ngx_refund_redis_reached(rc->not_before);

        if (wait
            && ngx_refund_redis_reached(rc->not_before - rc->server->timeout))
        {
            /* the next attempt comes in time */

        } else if (wait) {
            return rc->last;
        }
    }

    request->connection = rc;
    request->deadline = ngx_current_msec + rc->server->timeout;
    rc->pending++;

    if (rc->state == NGX_REFUND_REDIS_READY) {
        ngx_refund_redis_request_write(request);

    } else {
        ngx_queue_insert_tail(&rc->waiting, &request->queue);

        if (rc->state == NGX_REFUND_REDIS_DISCONNECTED) {

            if (wait) {
                ngx_refund_redis_schedule(rc);

            } else {
                ngx_refund_redis_connect(rc);
            }
        }
    }

    ngx_refund_redis_watch(rc);

    return NULL;
}


ngx_int_t
ngx_refund_redis_connection_cancel(ngx_refund_redis_request_t *request)
{
    if (request->written || request->error) {
        return NGX_DECLINED;
    }

    ngx_queue_remove(&request->queue);
    request->connection->pending--;

    return NGX_OK;
}


void
ngx_refund_redis_connection_drop(ngx_refund_redis_connection_t *rc,
    const char *reason)
{
    ngx_uint_t                   i;
    ngx_queue_t                 *q;
    ngx_refund_redis_request_t  *request;

    /*
     * Replies read after a wrong one may be other requests': one that says that
     * a command was not run may be of another command
     */

    for (q = ngx_queue_head(&rc->ended);
         q != ngx_queue_sentinel(&rc->ended);
         q = ngx_queue_next(q))
    {
        request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);

        if (!request->written) {
            continue;
        }

        request->error = reason;

        for (i = request->first; i < request->n; i++) {
            if (request->replies[i]) {
                freeReplyObject(request->replies[i]);
                request->replies[i] = NULL;
            }
        }
    }

    ngx_refund_redis_free_context(rc, reason);
}


static void
ngx_refund_redis_request_write(ngx_refund_redis_request_t *request)
{
    u_char                         *p;
    ngx_uint_t                      i;
    ngx_refund_redis_connection_t  *rc;

    static u_char                   asking[] = "*1" CRLF "$6" CRLF "ASKING"
                                               CRLF;

    rc = request->connection;
    request->written = 1;

    ngx_queue_insert_tail(&rc->sent, &request->queue);

    p = request->bytes;

    for (i = 0; i < request->n; i++) {

        if (i < request->first) {
            p += request->len[i];
            continue;
        }

        if ((request->asking
             && ngx_refund_redis_append(rc, NULL, asking, sizeof(asking) - 1)
                != NGX_OK)
            || ngx_refund_redis_append(rc, request, p, request->len[i])
               != NGX_OK)
        {
            request->n = i;

            if (i == request->first) {
                ngx_refund_redis_request_end(request, "out of memory");

            } else {
                request->error = "out of memory";
            }

            rc->drop = "out of memory";
            ngx_post_event(&rc->posted, &ngx_posted_events);

            return;
        }

        p += request->len[i];
    }
}


/* request NULL: nobody wants the reply. */

static ngx_int_t
ngx_refund_redis_append(ngx_refund_redis_connection_t *rc,
    ngx_refund_redis_request_t *request, u_char *bytes, size_t len)
{
    redisAsyncContext     *context;
    struct redisCallback  *tail;

    context = rc->adapter.context;
    tail = context->replies.tail;

    /*
     * hiredis 0.14 sends the command even if there was no memory for its
     * callback: all replies after it would go to the wrong ones
     */

    return (redisAsyncFormattedCommand(context, ngx_refund_redis_reply_handler,
                                       request, (char *) bytes, len)
            == REDIS_OK
            && context->replies.tail != tail)
           ? NGX_OK : NGX_ERROR;
}


/* The handler runs later: hiredis is on the stack, or the caller of send(). */

static void
ngx_refund_redis_request_end(ngx_refund_redis_request_t *request,
    const char *error)
{
    ngx_refund_redis_connection_t  *rc;

    rc = request->connection;

    if (request->error == NULL) {
        request->error = error;
    }

    ngx_queue_remove(&request->queue);
    ngx_queue_insert_tail(&rc->ended, &request->queue);

    ngx_post_event(&rc->posted, &ngx_posted_events);
}


static void
ngx_refund_redis_reply_handler(redisAsyncContext *context, void *reply,
    void *data)
{
    redisReply                      *r = reply;
    ngx_refund_redis_request_t      *request = data;

    const ngx_refund_redis_error_t  *error;
    ngx_refund_redis_connection_t   *rc;

    if (request == NULL) {
        return;
    }

    rc = request->connection;

    if (r == NULL) {
        ngx_refund_redis_find_reason(rc, context);

        if (request->error == NULL) {
            request->error = rc->reason;
        }

    } else {
        ngx_refund_redis_adapter_keep(r);
        request->replies[request->answered] = r;

        if (r->type == REDIS_REPLY_ERROR
            && request->done != ngx_refund_redis_handshake_done)
        {
            error = ngx_refund_redis_error(r->str, r->len);

            if (request->error == NULL) {
                request->error = error->phrase;
            }

            /* of several nodes, the owner knows where else to go */

            if (error->action == NGX_REFUND_REDIS_REFUSED
                || (error->action == NGX_REFUND_REDIS_RECONNECT
                    && rc->owner.down == NULL))
            {
                rc->refused = (error->action == NGX_REFUND_REDIS_REFUSED);
                rc->drop = error->phrase;
                ngx_post_event(&rc->posted, &ngx_posted_events);
            }
        }
    }

    if (++request->answered == request->n) {
        ngx_refund_redis_request_end(request, NULL);
    }
}


static void
ngx_refund_redis_connect(ngx_refund_redis_connection_t *rc)
{
    if (rc->retry.timer_set) {
        ngx_del_timer(&rc->retry);
    }

    rc->refused = 0;
    rc->attempt = ngx_current_msec + rc->server->timeout;
    rc->address_deadline = rc->attempt;
    rc->not_before = ngx_current_msec + NGX_REFUND_REDIS_DELAY_MIN;

    rc->numeric = rc->address.n ? rc->address.numeric : &rc->address.host;
    rc->n = rc->address.n ? rc->address.n : 1;

    if (!rc->name || rc->address.told
        || (rc->server->resolver == NULL && rc->address.n))
    {
        ngx_refund_redis_connect_first(rc);

    } else if (ngx_refund_redis_resolve(rc) == NGX_OK) {
        ngx_refund_redis_resolve_handler(rc);
    }

    ngx_refund_redis_watch(rc);
}


/* hiredis would wait for the answer: it is never given a name. */

static ngx_int_t
ngx_refund_redis_resolve(ngx_refund_redis_connection_t *rc)
{
    ngx_int_t   n;
    ngx_msec_t  timeout;

    rc->state = NGX_REFUND_REDIS_RESOLVING;
    rc->reason = NULL;
    rc->drop = NULL;
    rc->detail[0] = '\0';

    if (rc->server->resolver == NULL) {
        rc->lookup.error = "there is no \"resolver\"";
        return NGX_OK;
    }

    /* what was found when it was configured needs its share of the time */

    timeout = rc->address.n ? ngx_max(rc->server->timeout / 2, 1)
                            : rc->server->timeout;

    n = ngx_refund_redis_lookup_start(&rc->lookup, rc->server->resolver,
                                      &rc->address.host, timeout);

    return (n == NGX_AGAIN) ? NGX_AGAIN : NGX_OK;
}


/*
 * A name that only the system knows, from /etc/hosts, say, has its addresses of
 * when it was configured; so has one whose name server is out of order.
 */

static void
ngx_refund_redis_resolve_handler(void *data)
{
    ngx_refund_redis_connection_t  *rc = data;

    if (rc->lookup.error == NULL) {
        rc->numeric = rc->lookup.numeric;
        rc->n = rc->lookup.n;

    } else if (rc->address.n == 0) {
        rc->reason = "the host name of Redis cannot be resolved";
        (void) ngx_cpystrn(rc->detail, (u_char *) rc->lookup.error,
                           sizeof(rc->detail));
        ngx_refund_redis_lost(rc);
        return;
    }

    ngx_refund_redis_connect_first(rc);
}


static void
ngx_refund_redis_connect_first(ngx_refund_redis_connection_t *rc)
{
    rc->left = rc->n;

    ngx_refund_redis_connect_next(rc);
}


/* Each address that is left gets its share of the time that is left. */

static void
ngx_refund_redis_connect_next(ngx_refund_redis_connection_t *rc)
{
    ngx_msec_int_t      left;
    const ngx_str_t    *host;
    redisAsyncContext  *context;

    rc->state = NGX_REFUND_REDIS_CONNECTING;
    rc->reason = NULL;
    rc->drop = NULL;
    rc->detail[0] = '\0';

    left = (ngx_msec_int_t) (rc->attempt - ngx_current_msec);
    left = ngx_max(left, 0);

    rc->address_deadline = ngx_current_msec + (ngx_msec_t) left / rc->left;
    rc->left--;

    host = &rc->numeric[rc->turn % rc->n];

    if (rc->address.port) {
        context = redisAsyncConnect((char *) host->data, rc->address.port);

    } else {
        context = redisAsyncConnectUnix((char *) host->data);
    }

    if (context == NULL) {
        rc->reason = "out of memory";
        ngx_refund_redis_lost(rc);
        return;
    }

    /* a peer that has vanished is found out, even if it is never asked */

    if (context->err == 0 && rc->address.port) {
        (void) redisEnableKeepAlive(&context->c);
        context->err = context->c.err;
    }

    if (context->err) {
        ngx_refund_redis_find_reason(rc, context);
        redisAsyncFree(context);
        ngx_refund_redis_lost(rc);
        return;
    }

    if (ngx_refund_redis_adapter_attach(&rc->adapter, context) != NGX_OK) {
        rc->reason = "worker_connections are not enough";
        redisAsyncFree(context);
        ngx_refund_redis_lost(rc);
        return;
    }

    context->data = rc;

    (void) redisAsyncSetConnectCallback(context,
                                        ngx_refund_redis_connect_handler);

    /* it may be set to a later time than this address' */

    if (rc->timer.timer_set) {
        ngx_del_timer(&rc->timer);
    }

    ngx_refund_redis_watch(rc);
}


static void
ngx_refund_redis_connect_handler(const redisAsyncContext *context, int status)
{
#if (NGX_REFUND_REDIS_TLS)
    ngx_uint_t                      refused;
#endif
    ngx_refund_redis_connection_t  *rc;

    rc = context->data;

    if (status != REDIS_OK) {
        ngx_refund_redis_find_reason(rc, context);
        return;
    }

    rc->state = NGX_REFUND_REDIS_HANDSHAKE;

#if (NGX_REFUND_REDIS_TLS)

    if (rc->server->tls) {
        refused = 0;

        rc->reason = ngx_refund_redis_tls_start(rc->server->tls, &rc->adapter,
                                                &rc->address.host, rc->detail,
                                                sizeof(rc->detail), &refused);
        if (rc->reason) {
            rc->refused = refused;
            rc->drop = rc->reason;
            ngx_post_event(&rc->posted, &ngx_posted_events);
            return;
        }
    }

#endif

    ngx_refund_redis_handshake(rc);
}


static void
ngx_refund_redis_handshake(ngx_refund_redis_connection_t *rc)
{
    ngx_refund_redis_request_t  *request;

    request = ngx_refund_redis_handshake_create(rc->server, rc->owner.master);
    if (request == NULL) {
        rc->drop = "out of memory";
        ngx_post_event(&rc->posted, &ngx_posted_events);
        return;
    }

    request->done = ngx_refund_redis_handshake_done;
    request->connection = rc;
    request->deadline = rc->attempt;
    rc->pending++;

    ngx_refund_redis_request_write(request);
}


static void
ngx_refund_redis_handshake_done(ngx_refund_redis_request_t *request)
{
    const char                     *error;
    ngx_uint_t                      refused;
    ngx_queue_t                    *q;
    ngx_refund_redis_connection_t  *rc;

    rc = request->connection;

    if (request->error || rc->state != NGX_REFUND_REDIS_HANDSHAKE) {

        /* the connection is gone already, or about to be dropped */

        ngx_refund_redis_request_free(request);
        return;
    }

    error = ngx_refund_redis_handshake_error(rc->server, rc->owner.master,
                                             request->replies, &refused);

    ngx_refund_redis_request_free(request);

    if (error) {
        rc->refused = refused;
        ngx_refund_redis_free_context(rc, error);
        return;
    }

    rc->state = NGX_REFUND_REDIS_READY;

    ngx_refund_redis_up(rc);

    while (!ngx_queue_empty(&rc->waiting)) {
        q = ngx_queue_head(&rc->waiting);
        request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);

        ngx_queue_remove(q);
        ngx_refund_redis_request_write(request);
    }
}


static void
ngx_refund_redis_detached(ngx_refund_redis_adapter_t *adapter)
{
    ngx_refund_redis_connection_t  *rc;

    rc = adapter->data;

    ngx_refund_redis_find_reason(rc, adapter->context);
    ngx_refund_redis_lost(rc);
}


static void
ngx_refund_redis_interrupted(ngx_refund_redis_adapter_t *adapter,
    ngx_uint_t shutdown)
{
    ngx_refund_redis_connection_t  *rc;

    rc = adapter->data;

    if (shutdown) {

        /* who still has something to tell connects anew, for a while */

        ngx_refund_redis_free_context(rc, "the worker exits");

    } else {
        ngx_refund_redis_free_context(rc,
                                      "Redis sent a reply that is too large");
    }
}


static void
ngx_refund_redis_find_reason(ngx_refund_redis_connection_t *rc,
    const redisAsyncContext *context)
{
#if (NGX_REFUND_REDIS_TLS)
    ngx_uint_t  refused;
#endif

    if (rc->reason) {
        return;
    }

    if (rc->adapter.broken) {
        rc->reason = rc->adapter.broken;
        rc->adapter.broken = NULL;
        return;
    }

#if (NGX_REFUND_REDIS_TLS)

    if (rc->adapter.ssl) {
        refused = 0;

        rc->reason = ngx_refund_redis_tls_reason(rc->adapter.ssl, rc->detail,
                                                 sizeof(rc->detail), &refused);
        if (rc->reason) {
            rc->refused |= refused;
            return;
        }
    }

#endif

    switch (context->c.err) {

    case REDIS_ERR_IO:

        /* the system's own words only, never what a peer sent */

        (void) ngx_cpystrn(rc->detail, (u_char *) context->c.errstr,
                           sizeof(rc->detail));

        rc->reason = (rc->state == NGX_REFUND_REDIS_CONNECTING)
                     ? "Redis cannot be connected to"
                     : "the connection to Redis broke";
        break;

    case REDIS_ERR_EOF:
        rc->reason = "Redis closed the connection";
        break;

    case REDIS_ERR_PROTOCOL:
        rc->reason = "Redis sent a broken reply";
        break;

    case REDIS_ERR_OOM:
        rc->reason = "out of memory";
        break;

    default:

        /* an error reply that came of itself, or no socket */

        rc->reason = (rc->state == NGX_REFUND_REDIS_CONNECTING)
                     ? "Redis cannot be connected to"
                     : ngx_refund_redis_error(context->c.errstr,
                                     ngx_strlen(context->c.errstr))->phrase;
    }
}


/* Never from within a hiredis callback, where it would be put off. */

static void
ngx_refund_redis_free_context(ngx_refund_redis_connection_t *rc,
    const char *reason)
{
    if (rc->adapter.context == NULL) {
        return;
    }

    if (rc->reason == NULL) {
        rc->reason = reason;
    }

    redisAsyncFree(rc->adapter.context);
}


/*
 * The connection, or an attempt at one, is no more; callbacks of what was sent
 * may still follow.  An attempt that failed fails all who waited for it, unless
 * there is another address.
 */

static void
ngx_refund_redis_lost(ngx_refund_redis_connection_t *rc)
{
    ngx_queue_t                 *q;
    ngx_refund_redis_request_t  *request;

    if (rc->state == NGX_REFUND_REDIS_CONNECTING
        || rc->state == NGX_REFUND_REDIS_HANDSHAKE)
    {
        rc->turn++;

        if (rc->left && !rc->refused && !rc->closed
            && !ngx_refund_redis_reached(rc->attempt))
        {
            rc->state = NGX_REFUND_REDIS_CONNECTING;
            rc->next = 1;
            ngx_post_event(&rc->posted, &ngx_posted_events);
            return;
        }
    }

    if (rc->state != NGX_REFUND_REDIS_READY) {

        while (!ngx_queue_empty(&rc->waiting)) {
            q = ngx_queue_head(&rc->waiting);
            request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);
            ngx_refund_redis_request_end(request, rc->reason);
        }

        rc->failures++;
    }

    if (rc->refused) {
        rc->not_before = ngx_current_msec + NGX_REFUND_REDIS_REFUSED_MIN;
    }

    rc->state = NGX_REFUND_REDIS_DISCONNECTED;
    rc->last = rc->reason;
    rc->drop = NULL;
    rc->lost = 1;

    ngx_post_event(&rc->posted, &ngx_posted_events);
}


/* Where all handlers run, and all that may not be done inside of hiredis. */

static void
ngx_refund_redis_posted_handler(ngx_event_t *ev)
{
    ngx_queue_t                    *q;
    ngx_refund_redis_request_t     *request;
    ngx_refund_redis_connection_t  *rc;

    rc = ev->data;

    if (rc->drop) {
        ngx_refund_redis_free_context(rc, rc->drop);
    }

    if (rc->next) {
        rc->next = 0;

        if (!rc->closed) {
            ngx_refund_redis_connect_next(rc);
        }
    }

    while (!ngx_queue_empty(&rc->ended)) {
        q = ngx_queue_head(&rc->ended);
        request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);

        ngx_queue_remove(q);
        rc->pending--;
        request->done(request);
    }

    rc->timer.cancelable = (rc->pending == 0);

    if (rc->retired && rc->pending == 0 && !rc->closed) {
        ngx_refund_redis_connection_close(rc);
        return;
    }

    if (rc->lost) {
        rc->lost = 0;

        if (rc->owner.down) {
            if (!rc->retired && !rc->closed) {
                rc->owner.down(rc->owner.data, rc, rc->last,
                               (char *) rc->detail);
            }

            return;
        }

        /* why it stays down may be another thing than why it went */

        if (!rc->closed
            && (!rc->down
                || (rc->last != rc->logged
                    && ngx_refund_redis_reached(rc->logged_at + 1000))))
        {
            rc->down = 1;
            rc->logged = rc->last;
            rc->logged_at = ngx_current_msec;

            ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, rc->server,
                                   rc->detail[0] ? "%V is down: %s (%s)"
                                                 : "%V is down: %s",
                                   &rc->server->label, rc->last, rc->detail);
        }

        if (rc->state == NGX_REFUND_REDIS_DISCONNECTED) {
            ngx_refund_redis_schedule(rc);
        }
    }
}


static void
ngx_refund_redis_timer_handler(ngx_event_t *ev)
{
    ngx_queue_t                    *q;
    ngx_refund_redis_request_t     *request;
    ngx_refund_redis_connection_t  *rc;

    rc = ev->data;

    if ((rc->state == NGX_REFUND_REDIS_CONNECTING
         || rc->state == NGX_REFUND_REDIS_HANDSHAKE)
        && ngx_refund_redis_reached(rc->address_deadline))
    {
        ngx_refund_redis_free_context(rc, "connecting to Redis took too long");
    }

    if (!ngx_queue_empty(&rc->sent)) {
        q = ngx_queue_head(&rc->sent);
        request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);

        /*
         * The replies come in order: behind one that does not come, all others
         * wait too; and one that comes too late must meet no other request
         */

        if (ngx_refund_redis_reached(request->deadline)) {
            ngx_refund_redis_free_context(rc, "Redis did not answer in time");
        }
    }

    while (!ngx_queue_empty(&rc->waiting)) {
        q = ngx_queue_head(&rc->waiting);
        request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);

        if (!ngx_refund_redis_reached(request->deadline)) {
            break;
        }

        ngx_refund_redis_request_end(request, rc->last);
    }

    ngx_refund_redis_watch(rc);
}


static void
ngx_refund_redis_retry_handler(ngx_event_t *ev)
{
    ngx_refund_redis_connection_t  *rc;

    rc = ev->data;

    if (rc->state != NGX_REFUND_REDIS_DISCONNECTED || rc->closed) {
        return;
    }

    /* an exiting worker connects for those who wait only */

    if (ngx_exiting && ngx_queue_empty(&rc->waiting)) {
        return;
    }

    ngx_refund_redis_connect(rc);
}


/*
 * One timer watches the oldest of all: the deadlines are in order, so that one
 * which is set need not be moved.
 */

static void
ngx_refund_redis_watch(ngx_refund_redis_connection_t *rc)
{
    ngx_msec_int_t               left, oldest;
    ngx_queue_t                 *q;
    ngx_refund_redis_request_t  *request;

    rc->timer.cancelable = (rc->pending == 0);

    if (rc->timer.timer_set) {
        return;
    }

    oldest = NGX_MAX_INT32_VALUE;

    if (rc->state == NGX_REFUND_REDIS_CONNECTING
        || rc->state == NGX_REFUND_REDIS_HANDSHAKE)
    {
        oldest = (ngx_msec_int_t) (rc->address_deadline - ngx_current_msec);
    }

    if (!ngx_queue_empty(&rc->sent)) {
        q = ngx_queue_head(&rc->sent);
        request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);
        left = (ngx_msec_int_t) (request->deadline - ngx_current_msec);
        oldest = ngx_min(oldest, left);
    }

    if (!ngx_queue_empty(&rc->waiting)) {
        q = ngx_queue_head(&rc->waiting);
        request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);
        left = (ngx_msec_int_t) (request->deadline - ngx_current_msec);
        oldest = ngx_min(oldest, left);
    }

    if (oldest == NGX_MAX_INT32_VALUE) {
        return;
    }

    ngx_add_timer(&rc->timer, (ngx_msec_t) ngx_max(oldest, 1));
}


/* The next attempt: as soon as allowed if someone waits, else with backoff. */

static void
ngx_refund_redis_schedule(ngx_refund_redis_connection_t *rc)
{
    ngx_msec_t      delay;
    ngx_msec_int_t  left;

    if (rc->closed) {
        return;
    }

    left = (ngx_msec_int_t) (rc->not_before - ngx_current_msec);
    left = ngx_max(left, 1);

    if (ngx_queue_empty(&rc->waiting)) {

        delay = rc->refused
                ? ngx_refund_redis_backoff(0, NGX_REFUND_REDIS_REFUSED_DELAY,
                                           NGX_REFUND_REDIS_REFUSED_DELAY)
                : ngx_refund_redis_backoff(rc->failures,
                                           NGX_REFUND_REDIS_DELAY_MIN,
                                           NGX_REFUND_REDIS_DELAY_MAX);

        left = ngx_max(left, (ngx_msec_int_t) delay);
    }

    if (rc->retry.timer_set) {
        ngx_del_timer(&rc->retry);
    }

    ngx_add_timer(&rc->retry, (ngx_msec_t) left);
}


static void
ngx_refund_redis_up(ngx_refund_redis_connection_t *rc)
{
    rc->failures = 0;

    if (rc->retired) {
        return;
    }

    if (rc->owner.up) {
        rc->owner.up(rc->owner.data, rc);
        return;
    }

    if (rc->down) {
        rc->down = 0;

        ngx_refund_log_limited(NGX_LOG_NOTICE, ngx_cycle->log, rc->server,
                               "%V is up again", &rc->server->label);
    }
}


ngx_int_t
ngx_refund_redis_connection_subscribe(ngx_refund_redis_connection_t *rc,
    const char *channel, ngx_refund_redis_message_pt handler)
{
    ngx_str_t                    argv[2];
    ngx_int_t                    rv;
    ngx_refund_redis_command_t   command;
    ngx_refund_redis_request_t  *request;

    ngx_str_set(&argv[0], "SUBSCRIBE");
    argv[1].data = (u_char *) channel;
    argv[1].len = ngx_strlen(channel);

    command.argc = 2;
    command.argv = argv;

    request = ngx_refund_redis_request_create(&command, 1);
    if (request == NULL) {
        return NGX_ERROR;
    }

    rc->message = handler;

    rv = redisAsyncFormattedCommand(rc->adapter.context,
                                    ngx_refund_redis_message_handler, rc,
                                    (char *) request->bytes, request->len[0]);

    ngx_refund_redis_request_free(request);

    return (rv == REDIS_OK) ? NGX_OK : NGX_ERROR;
}


/* The adapter lets pass "subscribe" and "message" only, of three elements. */

static void
ngx_refund_redis_message_handler(redisAsyncContext *context, void *reply,
    void *data)
{
    redisReply                     *r = reply;
    ngx_refund_redis_connection_t  *rc = data;

    ngx_str_t                       text;

    if (r == NULL || r->element[2]->type != REDIS_REPLY_STRING) {
        return;
    }

    text.data = (u_char *) r->element[2]->str;
    text.len = r->element[2]->len;

    rc->message(rc->owner.data, &text);
}


ngx_uint_t
ngx_refund_redis_connection_is_up(ngx_refund_redis_connection_t *rc)
{
    return rc->state == NGX_REFUND_REDIS_READY;
}


ngx_uint_t
ngx_refund_redis_connection_is_down(ngx_refund_redis_connection_t *rc)
{
    return rc->down;
}


const ngx_refund_redis_address_t *
ngx_refund_redis_connection_address(ngx_refund_redis_connection_t *rc)
{
    return &rc->address;
}


ngx_msec_t
ngx_refund_redis_backoff(ngx_uint_t failures, ngx_msec_t min, ngx_msec_t max)
{
    ngx_msec_t  delay;

    delay = min << ngx_min(failures, 8);
    delay = ngx_min(delay, max);

    return delay / 2 + (ngx_msec_t) ngx_random() % (delay / 2 + 1);
}


static ngx_uint_t
ngx_refund_redis_reached(ngx_msec_t time)
{
    return (ngx_msec_int_t) (time - ngx_current_msec) <= 0;
}


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis_connection.h"
#include "ngx_refund_redis_pending.h"


static void ngx_refund_redis_pending_timer_handler(ngx_event_t *ev);
static void ngx_refund_redis_pending_expire(
    ngx_refund_redis_pending_t *pending, ngx_refund_redis_request_t *request);
static void ngx_refund_redis_pending_remove(
    ngx_refund_redis_pending_t *pending, ngx_refund_redis_request_t *request);


void
ngx_refund_redis_pending_init(ngx_refund_redis_pending_t *pending,
    ngx_msec_t timeout)
{
    ngx_queue_init(&pending->all);
    ngx_queue_init(&pending->waiting);

    pending->timeout = timeout;

    pending->timer.handler = ngx_refund_redis_pending_timer_handler;
    pending->timer.data = pending;
    pending->timer.log = ngx_cycle->log;
}


void
ngx_refund_redis_pending_close(ngx_refund_redis_pending_t *pending)
{
    ngx_queue_t                 *q;
    ngx_refund_redis_request_t  *request;

    while (!ngx_queue_empty(&pending->waiting)) {
        q = ngx_queue_head(&pending->waiting);
        request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);

        ngx_queue_remove(q);
        request->error = "the worker exits";
        ngx_refund_redis_pending_end(pending, request);
    }

    if (pending->timer.timer_set) {
        ngx_del_timer(&pending->timer);
    }
}


const char *
ngx_refund_redis_pending_add(ngx_refund_redis_pending_t *pending,
    const ngx_refund_redis_command_t *commands, ngx_uint_t n,
    ngx_refund_redis_handler_pt handler, void *data,
    ngx_refund_redis_request_t **request)
{
    if (pending->n >= NGX_REFUND_REDIS_PENDING_MAX) {
        return "too many requests to Redis are pending";
    }

    *request = ngx_refund_redis_request_create(commands, n);
    if (*request == NULL) {
        return "out of memory";
    }

    (*request)->handler = handler;
    (*request)->data = data;
    (*request)->expires = ngx_current_msec + pending->timeout;

    ngx_queue_insert_tail(&pending->all, &(*request)->pending);

    /* a worker must not exit meanwhile */

    pending->n++;
    pending->timer.cancelable = 0;

    if (!pending->timer.timer_set) {
        ngx_add_timer(&pending->timer, pending->timeout);
    }

    return NULL;
}


void
ngx_refund_redis_pending_wait(ngx_refund_redis_pending_t *pending,
    ngx_refund_redis_request_t *request, const char *reason)
{
    request->connection = NULL;
    request->reason = reason;

    ngx_queue_insert_tail(&pending->waiting, &request->queue);
}


void
ngx_refund_redis_pending_forward(ngx_refund_redis_pending_t *pending,
    void (*handler)(ngx_refund_redis_request_t *request))
{
    ngx_queue_t                  waiting, *q;
    ngx_refund_redis_request_t  *request;

    if (ngx_queue_empty(&pending->waiting)) {
        return;
    }

    /* those that it puts by again are left for the next time */

    ngx_queue_init(&waiting);
    ngx_queue_add(&waiting, &pending->waiting);
    ngx_queue_init(&pending->waiting);

    while (!ngx_queue_empty(&waiting)) {
        q = ngx_queue_head(&waiting);
        request = ngx_queue_data(q, ngx_refund_redis_request_t, queue);

        ngx_queue_remove(q);
        handler(request);
    }
}


void
ngx_refund_redis_pending_end(ngx_refund_redis_pending_t *pending,
    ngx_refund_redis_request_t *request)
{
    /* without a handler it was given up, and is there no longer */

    if (request->handler) {
        ngx_refund_redis_pending_remove(pending, request);
    }

    ngx_refund_redis_request_finish(request);
}


static void
ngx_refund_redis_pending_timer_handler(ngx_event_t *ev)
{
    ngx_queue_t                 *q;
    ngx_msec_int_t               left;
    ngx_refund_redis_pending_t  *pending;
    ngx_refund_redis_request_t  *request;

    pending = ev->data;

    while (!ngx_queue_empty(&pending->all)) {
        q = ngx_queue_head(&pending->all);
        request = ngx_queue_data(q, ngx_refund_redis_request_t, pending);
        left = (ngx_msec_int_t) (request->expires - ngx_current_msec);

        if (left > 0) {
            ngx_add_timer(&pending->timer, (ngx_msec_t) left);
            return;
        }

        ngx_refund_redis_pending_expire(pending, request);
    }
}


/*
 * What was written is left to its connection, which has to meet its replies;
 * nobody hears of them.
 */

static void
ngx_refund_redis_pending_expire(ngx_refund_redis_pending_t *pending,
    ngx_refund_redis_request_t *request)
{
    void                         *data;
    const char                   *reason;
    ngx_refund_redis_handler_pt   handler;

    if (request->connection == NULL) {
        ngx_queue_remove(&request->queue);

        if (pending->reason) {
            request->reason = pending->reason;
        }

    } else if (ngx_refund_redis_connection_cancel(request) != NGX_OK) {
        handler = request->handler;
        data = request->data;
        reason = request->reason ? request->reason
                                 : "Redis did not answer in time";

        request->handler = NULL;
        ngx_refund_redis_pending_remove(pending, request);

        handler(data, NULL, reason);
        return;

    } else if (request->reason == NULL) {
        request->reason = "connecting to Redis took too long";
    }

    request->error = request->reason;
    ngx_refund_redis_pending_end(pending, request);
}


static void
ngx_refund_redis_pending_remove(ngx_refund_redis_pending_t *pending,
    ngx_refund_redis_request_t *request)
{
    ngx_queue_remove(&request->pending);

    pending->n--;
    pending->timer.cancelable = (pending->n == 0);
}

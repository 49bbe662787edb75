
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_acknowledgement.h"
#include "ngx_refund_counters.h"
#include "ngx_refund_log.h"
#include "ngx_http_refund_target.h"
#include "ngx_http_refund_webhook.h"


/* commits that failed and are repeated: how many a worker keeps, how long */
#define NGX_HTTP_REFUND_COMMITS_MAX       4096
#define NGX_HTTP_REFUND_COMMIT_TIME       60000
#define NGX_HTTP_REFUND_COMMIT_TIME_EXIT  10000     /* once it exits */
#define NGX_HTTP_REFUND_COMMIT_DELAY      100
#define NGX_HTTP_REFUND_COMMIT_DELAY_MAX  3000

/* a renewal that failed is tried again after this, at the latest */
#define NGX_HTTP_REFUND_RENEW_DELAY       500


static ngx_int_t ngx_http_refund_target_claimed(
    ngx_http_refund_target_t *target);
static void ngx_http_refund_target_claim_handler(
    ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_target_headers(
    ngx_http_refund_target_t *target);
static void ngx_http_refund_target_header(ngx_http_refund_target_t *target,
    const char *key, const char *lowcase_key, ngx_str_t *value);
static void ngx_http_refund_target_count(ngx_http_refund_target_t *target,
    ngx_http_refund_outcome_e outcome);
static void ngx_http_refund_target_delivered(
    ngx_http_refund_delivery_t *delivery);
static void ngx_http_refund_target_renew(ngx_http_refund_target_t *target);
static void ngx_http_refund_target_renewed(ngx_http_refund_target_t *target);
static void ngx_http_refund_target_renew_handler(
    ngx_http_refund_store_op_t *op);
static void ngx_http_refund_target_release(ngx_http_refund_target_t *target);
static void ngx_http_refund_target_released(ngx_http_refund_target_t *target);
static void ngx_http_refund_target_release_handler(
    ngx_http_refund_store_op_t *op);
static void ngx_http_refund_target_commit(ngx_http_refund_target_t *target);
static void ngx_http_refund_target_committed(ngx_http_refund_target_t *target);
static void ngx_http_refund_target_commit_handler(
    ngx_http_refund_store_op_t *op);
static void ngx_http_refund_target_timer_handler(ngx_event_t *ev);
static void ngx_http_refund_target_ask(ngx_http_refund_target_t *target,
    ngx_http_refund_store_handler_pt handler);
static void ngx_http_refund_target_told(ngx_http_refund_target_t *target);
static void ngx_http_refund_target_known(ngx_http_refund_target_t *target,
    wechatpay_result_e result, const char *reason);
static void ngx_http_refund_target_settle(ngx_http_refund_target_t *target);
static void ngx_http_refund_target_end(ngx_http_refund_target_t *target);


/* of this worker, waiting for their next try */
static ngx_uint_t   ngx_http_refund_commits;
static ngx_queue_t  ngx_http_refund_commits_waiting;


ngx_int_t
ngx_http_refund_target_claim(ngx_http_refund_target_t *target)
{
    ngx_http_refund_event_t  *event;

    event = target->event;
    event->references++;

    target->state = NGX_HTTP_REFUND_TARGET_CLAIM;

    if (target->uri.len == 0) {
        ngx_http_refund_target_known(target, WECHATPAY_RESULT_UPSTREAM_ERROR,
                                     "refund_notify_pass yields no URI of "
                                     "this server");
        ngx_http_refund_target_settle(target);
        ngx_http_refund_target_end(target);
        return NGX_DONE;
    }

    target->op.store = event->conf->store;
    target->op.lease = event->conf->lease;
    target->op.retain = event->conf->retain;
    target->op.data = target;

    target->timer.handler = ngx_http_refund_target_timer_handler;
    target->timer.data = target;
    target->timer.log = ngx_cycle->log;

    ngx_http_refund_target_ask(target, ngx_http_refund_target_claim_handler);

    if (ngx_http_refund_store_claim(&target->op) == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    return ngx_http_refund_target_claimed(target);
}


static void
ngx_http_refund_target_claim_handler(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_target_t  *target;

    target = op->data;

    if (ngx_http_refund_target_claimed(target) == NGX_OK) {
        ngx_http_refund_target_deliver(target);
    }
}


static ngx_int_t
ngx_http_refund_target_claimed(ngx_http_refund_target_t *target)
{
    ngx_http_refund_target_told(target);

    switch (target->op.result) {

    case NGX_HTTP_REFUND_STORE_OK:
        target->claimed = 1;
        target->leased = 1;
        target->attempt = target->op.attempt;
        return NGX_OK;

    case NGX_HTTP_REFUND_STORE_DONE:
        ngx_http_refund_target_known(target, WECHATPAY_RESULT_DUPLICATE, NULL);
        break;

    case NGX_HTTP_REFUND_STORE_IN_FLIGHT:
        ngx_http_refund_target_known(target, WECHATPAY_RESULT_IN_FLIGHT,
                                     "another delivery of it is under way");
        break;

    default: /* NGX_HTTP_REFUND_STORE_ERROR */

        if (target->event->conf->pass) {
            ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log,
                    "delivered without a claim",
                    "refund notify %V is delivered to \"%V\" without a claim, "
                    "repeats are not kept off: store \"%V\": %s",
                    &target->event->id, &target->conf->name,
                    &target->op.store->name, target->op.reason);

            ngx_refund_count(DELIVERIES_UNCLAIMED);

            target->claimed = 1;
            return NGX_OK;
        }

        ngx_http_refund_target_known(target, WECHATPAY_RESULT_STORE_ERROR,
                                     target->op.reason);
    }

    ngx_http_refund_target_settle(target);
    ngx_http_refund_target_end(target);

    return NGX_DONE;
}


void
ngx_http_refund_target_deliver(ngx_http_refund_target_t *target)
{
    ngx_http_refund_event_t     *event;
    ngx_http_refund_delivery_t  *delivery;

    event = target->event;

    if (event->json.len == 0
        || ngx_http_refund_target_headers(target) != NGX_OK)
    {
        ngx_http_refund_target_known(target, WECHATPAY_RESULT_STORE_ERROR,
                                     "out of memory");
        ngx_http_refund_target_release(target);
        return;
    }

    target->state = NGX_HTTP_REFUND_TARGET_DELIVER;

    delivery = &target->delivery;

    delivery->origin = &event->origin;
    delivery->method = NGX_HTTP_POST;
    ngx_str_set(&delivery->method_name, "POST");
    ngx_str_set(&delivery->content_type, "application/json");
    delivery->uri = target->uri;
    delivery->args = target->args;
    delivery->headers = target->headers;
    delivery->body = event->json;
    delivery->timeout = event->conf->delivery_timeout;
    delivery->pool = event->pool;
    delivery->answer_max = (event->conf->ack == NGX_HTTP_REFUND_ACK_CODE)
                           ? NGX_HTTP_REFUND_ACK_ANSWER_MAX : 0;
    delivery->handler = ngx_http_refund_target_delivered;
    delivery->data = target;

    target->sent_at = ngx_refund_clock();

    ngx_refund_count(DELIVERIES_STARTED);

    /* its handler is an event of its own, even when it ends at once */

    if (ngx_http_refund_delivery_start(delivery) != NGX_OK) {
        ngx_http_refund_target_count(target, NGX_HTTP_REFUND_REFUSED);
        ngx_http_refund_target_known(target, WECHATPAY_RESULT_UPSTREAM_ERROR,
                                     delivery->reason);
        ngx_http_refund_target_release(target);
        return;
    }

    if (ngx_refund_worker) {
        ngx_refund_worker->deliveries++;
    }

    if (target->leased) {
        ngx_add_timer(&target->timer,
                      ngx_max(event->conf->lease / 3, 1));
    }
}


static void
ngx_http_refund_target_count(ngx_http_refund_target_t *target,
    ngx_http_refund_outcome_e outcome)
{
    ngx_refund_count_cell(NGX_REFUND_METRIC_DELIVERIES, outcome);
    ngx_refund_count_time(NGX_REFUND_METRIC_DELIVERY_TIME, target->sent_at);
}


static ngx_int_t
ngx_http_refund_target_headers(ngx_http_refund_target_t *target)
{
    u_char                   *p;
    ngx_str_t                 timestamp, attempt, signature;
    ngx_http_refund_event_t  *event;

    event = target->event;
    target->delivery.nheaders = 0;

    p = ngx_pnalloc(event->pool, NGX_TIME_T_LEN + NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    timestamp.data = p;
    p = ngx_sprintf(p, "%T", ngx_time());
    timestamp.len = p - timestamp.data;

    ngx_http_refund_target_header(target, "webhook-id", "webhook-id",
                                  &event->id);
    ngx_http_refund_target_header(target, "webhook-timestamp",
                                  "webhook-timestamp", &timestamp);

    if (event->conf->signing_keys) {
        if (ngx_http_refund_webhook_sign(event->conf->signing_keys, &event->id,
                                         &timestamp, &event->json, event->pool,
                                         &signature)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_http_refund_target_header(target, "webhook-signature",
                                      "webhook-signature", &signature);
    }

    if (target->attempt) {
        attempt.data = p;
        attempt.len = ngx_sprintf(p, "%ui", target->attempt) - p;

        ngx_http_refund_target_header(target, "Refund-Attempt",
                                      "refund-attempt", &attempt);
    }

    if (event->traceparent.len) {
        ngx_http_refund_target_header(target, "traceparent", "traceparent",
                                      &event->traceparent);
    }

    if (event->request_id.len) {
        ngx_http_refund_target_header(target, "X-Request-Id", "x-request-id",
                                      &event->request_id);
    }

    if (event->tracestate.len) {
        ngx_http_refund_target_header(target, "tracestate", "tracestate",
                                      &event->tracestate);
    }

    return NGX_OK;
}


static void
ngx_http_refund_target_header(ngx_http_refund_target_t *target,
    const char *key, const char *lowcase_key, ngx_str_t *value)
{
    ngx_http_refund_delivery_set_header(
                          &target->headers[target->delivery.nheaders++],
                          key, lowcase_key, value);
}


static void
ngx_http_refund_target_delivered(ngx_http_refund_delivery_t *delivery)
{
    const char                 *reason;
    ngx_http_refund_target_t   *target;
    ngx_http_refund_outcome_e   outcome;

    target = delivery->data;

    if (target->timer.timer_set) {
        ngx_del_timer(&target->timer);
    }

    outcome = ngx_http_refund_acknowledgement(delivery,
                                              target->event->conf->ack,
                                              &reason);

    target->upstream_time = delivery->time;
    target->sent = 1;

    ngx_http_refund_target_count(target, outcome);

    if (ngx_refund_worker) {
        ngx_refund_worker->deliveries--;
    }

    switch (outcome) {

    case NGX_HTTP_REFUND_ACCEPTED:
        ngx_http_refund_target_known(target, WECHATPAY_RESULT_DELIVERED, NULL);
        ngx_http_refund_target_commit(target);
        break;

    case NGX_HTTP_REFUND_REFUSED:
        ngx_http_refund_target_known(target, WECHATPAY_RESULT_UPSTREAM_ERROR,
                                     reason);
        ngx_http_refund_target_release(target);
        break;

    default: /* NGX_HTTP_REFUND_UNKNOWN */

        /*
         * It may have been accepted, or may still be worked on: the lease runs
         * out by itself, and nobody is called twice at once.
         */

        ngx_http_refund_target_known(target, WECHATPAY_RESULT_UPSTREAM_ERROR,
                                     reason);
        ngx_http_refund_target_settle(target);
        ngx_http_refund_target_end(target);
    }
}


static void
ngx_http_refund_target_renew(ngx_http_refund_target_t *target)
{
    ngx_http_refund_store_op_t  *op;

    op = &target->renew;

    op->store = target->op.store;
    op->key = target->op.key;
    op->lease = target->op.lease;
    op->retain = target->op.retain;
    op->attempt = target->op.attempt;
    op->handler = ngx_http_refund_target_renew_handler;
    op->data = target;

    ngx_memcpy(op->owner, target->op.owner, NGX_HTTP_REFUND_STORE_OWNER_LEN);

    target->renewing = 1;

    if (ngx_http_refund_store_renew(op) == NGX_OK) {
        ngx_http_refund_target_renewed(target);
    }
}


static void
ngx_http_refund_target_renew_handler(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_target_renewed(op->data);
}


static void
ngx_http_refund_target_renewed(ngx_http_refund_target_t *target)
{
    ngx_msec_t                lease;
    ngx_http_refund_event_t  *event;

    event = target->event;
    target->renewing = 0;

    if (target->state == NGX_HTTP_REFUND_TARGET_END) {
        ngx_http_refund_event_release(event);
        return;
    }

    if (target->state != NGX_HTTP_REFUND_TARGET_DELIVER) {
        return;
    }

    lease = event->conf->lease;

    switch (target->renew.result) {

    case NGX_HTTP_REFUND_STORE_OK:
        ngx_add_timer(&target->timer, ngx_max(lease / 3, 1));
        break;

    case NGX_HTTP_REFUND_STORE_LOST:

        /* it cannot be called back; its acceptance will count all the same */

        target->leased = 0;

        ngx_refund_count(LEASES_LOST);

        ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, "lease lost",
                "refund notify %V: the lease of its delivery to \"%V\" was "
                "lost, it may be delivered twice at once",
                &event->id, &target->conf->name);
        break;

    default: /* NGX_HTTP_REFUND_STORE_ERROR */
        ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, "renewal failed",
                "refund notify %V: the lease of its delivery to \"%V\" could "
                "not be renewed yet: store \"%V\": %s", &event->id,
                &target->conf->name, &target->renew.store->name,
                target->renew.reason);

        ngx_add_timer(&target->timer,
                      ngx_min(lease / 6 + 1, NGX_HTTP_REFUND_RENEW_DELAY));
    }
}


static void
ngx_http_refund_target_release(ngx_http_refund_target_t *target)
{
    target->state = NGX_HTTP_REFUND_TARGET_RELEASE;

    if (!target->leased) {
        ngx_http_refund_target_settle(target);
        ngx_http_refund_target_end(target);
        return;
    }

    ngx_http_refund_target_ask(target, ngx_http_refund_target_release_handler);

    if (ngx_http_refund_store_release(&target->op) == NGX_OK) {
        ngx_http_refund_target_released(target);
    }
}


static void
ngx_http_refund_target_release_handler(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_target_released(op->data);
}


static void
ngx_http_refund_target_released(ngx_http_refund_target_t *target)
{
    ngx_http_refund_target_told(target);

    if (target->op.result == NGX_HTTP_REFUND_STORE_ERROR) {

        /* the lease runs out: the next delivery is only later */

        ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, "release failed",
                "refund notify %V: the lease of its delivery to \"%V\" could "
                "not be given back: store \"%V\": %s", &target->event->id,
                &target->conf->name, &target->op.store->name,
                target->op.reason);
    }

    ngx_http_refund_target_settle(target);
    ngx_http_refund_target_end(target);
}


static void
ngx_http_refund_target_commit(ngx_http_refund_target_t *target)
{
    if (target->state != NGX_HTTP_REFUND_TARGET_COMMIT) {
        target->state = NGX_HTTP_REFUND_TARGET_COMMIT;
        target->give_up = ngx_current_msec + NGX_HTTP_REFUND_COMMIT_TIME;
    }

    target->tries++;

    ngx_http_refund_target_ask(target, ngx_http_refund_target_commit_handler);

    if (ngx_http_refund_store_commit(&target->op) == NGX_OK) {
        ngx_http_refund_target_committed(target);
    }
}


static void
ngx_http_refund_target_commit_handler(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_target_committed(op->data);
}


/*
 * The business app has accepted, so the answer is SUCCESS whatever the store
 * says; but as long as the store does not know, another nginx, or this one
 * after a restart, would deliver the event again.
 */

static void
ngx_http_refund_target_committed(ngx_http_refund_target_t *target)
{
    ngx_msec_t                delay, last;
    const char               *reason;
    ngx_http_refund_event_t  *event;

    event = target->event;

    ngx_http_refund_target_told(target);

    if (target->op.result == NGX_HTTP_REFUND_STORE_OK) {
        ngx_http_refund_target_settle(target);
        ngx_http_refund_target_end(target);
        return;
    }

    reason = target->op.reason;

    if (ngx_exiting && !target->exiting) {
        target->exiting = 1;

        last = ngx_current_msec + NGX_HTTP_REFUND_COMMIT_TIME_EXIT;

        if ((ngx_msec_int_t) (target->give_up - last) > 0) {
            target->give_up = last;
        }
    }

    /*
     * A worker that is told to quit just now waits for the timers that it has
     * when it begins to; only a process without a master does not.
     */

    if ((ngx_msec_int_t) (target->give_up - ngx_current_msec) <= 0
        || ngx_terminate
        || (ngx_quit && ngx_process == NGX_PROCESS_SINGLE)
        || ngx_http_refund_commits >= NGX_HTTP_REFUND_COMMITS_MAX)
    {
        ngx_refund_count(COMMITS_GIVEN_UP);

        ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, "commit given up",
                "refund notify %V: \"%V\" accepted it, but store \"%V\" could "
                "not be told: %s; a repeat may be delivered again",
                &event->id, &target->conf->name, &target->op.store->name,
                reason);

        ngx_http_refund_target_settle(target);
        ngx_http_refund_target_end(target);
        return;
    }

    ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, "commit failed",
            "refund notify %V: \"%V\" accepted it, store \"%V\" could not be "
            "told yet: %s; trying again", &event->id, &target->conf->name,
            &target->op.store->name, reason);

    delay = NGX_HTTP_REFUND_COMMIT_DELAY << ngx_min(target->tries - 1, 8);
    delay = ngx_min(delay, NGX_HTTP_REFUND_COMMIT_DELAY_MAX);
    delay += (ngx_msec_t) ngx_random() % (delay / 4 + 1);

    if (ngx_http_refund_commits++ == 0) {
        ngx_queue_init(&ngx_http_refund_commits_waiting);
    }

    ngx_queue_insert_tail(&ngx_http_refund_commits_waiting, &target->waiting);

    ngx_add_timer(&target->timer, delay);

    ngx_http_refund_target_settle(target);
}


static void
ngx_http_refund_target_timer_handler(ngx_event_t *ev)
{
    ngx_http_refund_target_t  *target;

    target = ev->data;

    if (target->state == NGX_HTTP_REFUND_TARGET_DELIVER) {
        ngx_http_refund_target_renew(target);
        return;
    }

    /* NGX_HTTP_REFUND_TARGET_COMMIT */

    ngx_http_refund_commits--;

    ngx_refund_count(COMMITS_REPEATED);

    ngx_http_refund_target_commit(target);
}


static void
ngx_http_refund_target_ask(ngx_http_refund_target_t *target,
    ngx_http_refund_store_handler_pt handler)
{
    target->op.handler = handler;
    target->started = ngx_current_msec;
}


static void
ngx_http_refund_target_told(ngx_http_refund_target_t *target)
{
    if (!target->settled) {
        target->store_time += ngx_current_msec - target->started;
        target->asked = 1;
    }
}


static void
ngx_http_refund_target_known(ngx_http_refund_target_t *target,
    wechatpay_result_e result, const char *reason)
{
    target->result = result;
    target->reason = reason;
    target->known = 1;
}


static void
ngx_http_refund_target_settle(ngx_http_refund_target_t *target)
{
    ngx_http_refund_event_t  *event;

    if (target->settled) {
        return;
    }

    target->settled = 1;

    event = target->event;

    if (event->wake) {
        event->wake(event);
        return;
    }

    if (!event->late) {
        return;
    }

    switch (target->result) {

    case WECHATPAY_RESULT_DUPLICATE:
        break;

    case WECHATPAY_RESULT_DELIVERED:
        ngx_refund_log_limited(NGX_LOG_INFO, ngx_cycle->log, "accepted late",
                "refund notify %V, already answered, was accepted by \"%V\", "
                "attempt %ui", &event->id, &target->conf->name,
                target->attempt);
        break;

    case WECHATPAY_RESULT_IN_FLIGHT:
        ngx_refund_log_limited(NGX_LOG_INFO, ngx_cycle->log, target->reason,
                "refund notify %V, already answered, was not delivered to "
                "\"%V\": %s", &event->id, &target->conf->name,
                target->reason);
        break;

    default:
        ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, target->reason,
                "refund notify %V, already answered, was not delivered to "
                "\"%V\": %s, status %ui, attempt %ui", &event->id,
                &target->conf->name, target->reason,
                target->delivery.peer_status, target->attempt);
    }
}


/* The target is done with; target and event may be gone on return. */

static void
ngx_http_refund_target_end(ngx_http_refund_target_t *target)
{
    target->state = NGX_HTTP_REFUND_TARGET_END;

    if (!target->renewing) {
        ngx_http_refund_event_release(target->event);
    }
}


ngx_http_refund_target_t *
ngx_http_refund_target_of(ngx_http_refund_delivery_t *delivery)
{
    return delivery->handler == ngx_http_refund_target_delivered
           ? delivery->data : NULL;
}


void
ngx_http_refund_target_exit_process(void)
{
    ngx_queue_t               *q;
    ngx_http_refund_target_t  *target;

    if (ngx_http_refund_commits == 0) {
        return;
    }

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "the worker exits: %ui accepted refund notifies could "
                  "not be told to their store, repeats of them may be "
                  "delivered again", ngx_http_refund_commits);

    while (ngx_http_refund_commits) {
        ngx_http_refund_commits--;
        ngx_refund_count(COMMITS_GIVEN_UP);

        q = ngx_queue_head(&ngx_http_refund_commits_waiting);
        ngx_queue_remove(q);

        target = ngx_queue_data(q, ngx_http_refund_target_t, waiting);

        ngx_del_timer(&target->timer);
        ngx_http_refund_target_end(target);
    }
}


/*
 * Copyright (C) the refund-notify authors
 *
 * WAIT answers for the writes of its own connection only
 * (https://redis.io/docs/latest/commands/wait/), so the commits are written on
 * that once more, all that wait at the same time in one script, and the WAIT
 * behind them covers them all.  They say what Redis knows already, and SET is
 * as good twice as once.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_store_backend.h"
#include "ngx_http_refund_store_replicas.h"
#include "ngx_refund_counters.h"
#include "ngx_refund_log.h"


#define NGX_HTTP_REFUND_STORE_REPLICAS_BATCH  64        /* commits */


struct ngx_http_refund_store_replicas_s {
    ngx_http_refund_store_t        *store;
    ngx_refund_redis_t             *client;

    ngx_queue_t                     waiting;    /* commits, oldest first */
    ngx_uint_t                      joining;    /* of these without a batch */
    ngx_uint_t                      batches;    /* that were sent */

    ngx_event_t                     posted;     /* sends the next batch */
    ngx_event_t                     timer;      /* of the oldest */
    ngx_msec_t                      wait;       /* WAIT's; never 0, for ever */
};


/* Commits that one WAIT covers; op->batch of each points to it. */

struct ngx_http_refund_store_batch_s {
    ngx_http_refund_store_replicas_t   *replicas;
    ngx_uint_t                          n;      /* that still wait */
};


static void ngx_http_refund_store_replicas_posted_handler(ngx_event_t *ev);
static void ngx_http_refund_store_replicas_next(
    ngx_http_refund_store_replicas_t *replicas, ngx_uint_t max);
static const char *ngx_http_refund_store_replicas_send(
    ngx_http_refund_store_batch_t *batch, ngx_http_refund_store_op_t **ops,
    ngx_uint_t n);
static void ngx_http_refund_store_replicas_handler(void *data,
    redisReply **replies, const char *error);
static void ngx_http_refund_store_replicas_done(
    ngx_http_refund_store_batch_t *batch, const char *error);
static void ngx_http_refund_store_replicas_few(
    ngx_http_refund_store_replicas_t *replicas, ngx_uint_t n,
    const char *reason);
static void ngx_http_refund_store_replicas_take(
    ngx_http_refund_store_replicas_t *replicas,
    ngx_http_refund_store_op_t *op, ngx_queue_t *ended);
static void ngx_http_refund_store_replicas_end(ngx_queue_t *ended);
static void ngx_http_refund_store_replicas_timer_handler(ngx_event_t *ev);
static void ngx_http_refund_store_replicas_watch(
    ngx_http_refund_store_replicas_t *replicas);


static ngx_str_t  ngx_http_refund_store_replicas_script = ngx_string(
    "for i, key in ipairs(KEYS) do\n"
    "  redis.call('SET', key, ARGV[2 * i - 1], 'PX', ARGV[2 * i])\n"
    "end\n"
    "return redis.status_reply('OK')\n"
);


ngx_http_refund_store_replicas_t *
ngx_http_refund_store_replicas_open(ngx_http_refund_store_t *store)
{
    ngx_http_refund_store_redis_t     *redis;
    ngx_http_refund_store_replicas_t  *replicas;

    redis = store->data;

    replicas = ngx_calloc(sizeof(ngx_http_refund_store_replicas_t),
                          ngx_cycle->log);
    if (replicas == NULL) {
        return NULL;
    }

    replicas->client = ngx_refund_redis_open(&redis->conf);

    if (replicas->client == NULL) {
        ngx_free(replicas);
        return NULL;
    }

    replicas->store = store;

    /* its answer is to come before the connection is given up */

    replicas->wait = ngx_max(store->timeout * 3 / 4, 1);

    ngx_queue_init(&replicas->waiting);

    replicas->posted.handler = ngx_http_refund_store_replicas_posted_handler;
    replicas->posted.data = replicas;
    replicas->posted.log = ngx_cycle->log;

    replicas->timer.handler = ngx_http_refund_store_replicas_timer_handler;
    replicas->timer.data = replicas;
    replicas->timer.log = ngx_cycle->log;

    return replicas;
}


void
ngx_http_refund_store_replicas_close(
    ngx_http_refund_store_replicas_t *replicas)
{
    ngx_queue_t                 ended;
    ngx_http_refund_store_op_t  *op;

    /* all batches are done by this */

    ngx_refund_redis_close(replicas->client);

    ngx_queue_init(&ended);

    while (!ngx_queue_empty(&replicas->waiting)) {
        op = ngx_queue_data(ngx_queue_head(&replicas->waiting),
                            ngx_http_refund_store_op_t, queue);
        ngx_http_refund_store_replicas_take(replicas, op, &ended);
    }

    ngx_http_refund_store_replicas_end(&ended);

    if (replicas->posted.posted) {
        ngx_delete_posted_event(&replicas->posted);
    }

    if (replicas->timer.timer_set) {
        ngx_del_timer(&replicas->timer);
    }

    ngx_free(replicas);
}


void
ngx_http_refund_store_replicas_wait(ngx_http_refund_store_replicas_t *replicas,
    ngx_http_refund_store_op_t *op)
{
    op->deadline = ngx_current_msec + replicas->store->timeout;
    op->batch = NULL;

    ngx_queue_insert_tail(&replicas->waiting, &op->queue);
    replicas->joining++;

    /* the commits whose replies came in the same turn go together */

    ngx_post_event(&replicas->posted, &ngx_posted_events);

    ngx_http_refund_store_replicas_watch(replicas);
}


/*
 * One batch after the other, for a WAIT holds up what is behind it; but in a
 * cluster each commit on its own, for its node, and a script's keys have to be
 * of one slot.
 */

static void
ngx_http_refund_store_replicas_posted_handler(ngx_event_t *ev)
{
    ngx_uint_t                         n;
    ngx_http_refund_store_redis_t     *redis;
    ngx_http_refund_store_replicas_t  *replicas;

    replicas = ev->data;
    redis = replicas->store->data;

    if (redis->conf.ops == &ngx_refund_redis_cluster_ops) {

        n = replicas->joining;

        while (n--) {
            ngx_http_refund_store_replicas_next(replicas, 1);
        }

    } else if (replicas->joining && replicas->batches == 0) {
        ngx_http_refund_store_replicas_next(replicas,
                                        NGX_HTTP_REFUND_STORE_REPLICAS_BATCH);
    }
}


static void
ngx_http_refund_store_replicas_next(ngx_http_refund_store_replicas_t *replicas,
    ngx_uint_t max)
{
    ngx_uint_t                      n;
    const char                     *error;
    ngx_queue_t                    *q;
    ngx_http_refund_store_op_t     *op;
    ngx_http_refund_store_op_t     *ops[NGX_HTTP_REFUND_STORE_REPLICAS_BATCH];
    ngx_http_refund_store_batch_t  *batch;

    batch = ngx_alloc(sizeof(ngx_http_refund_store_batch_t), ngx_cycle->log);

    if (batch == NULL) {
        /* the timer ends them, unless the next one that comes takes them */
        return;
    }

    n = 0;

    for (q = ngx_queue_head(&replicas->waiting);
         q != ngx_queue_sentinel(&replicas->waiting) && n < max;
         q = ngx_queue_next(q))
    {
        op = ngx_queue_data(q, ngx_http_refund_store_op_t, queue);

        if (op->batch == NULL) {
            op->batch = batch;
            ops[n++] = op;
        }
    }

    batch->replicas = replicas;
    batch->n = n;

    replicas->joining -= n;
    replicas->batches++;

    error = ngx_http_refund_store_replicas_send(batch, ops, n);

    if (error) {
        ngx_http_refund_store_replicas_done(batch, error);
    }
}


static const char *
ngx_http_refund_store_replicas_send(ngx_http_refund_store_batch_t *batch,
    ngx_http_refund_store_op_t **ops, ngx_uint_t n)
{
    u_char                               count[NGX_INT_T_LEN];
    u_char                               needed[NGX_INT_T_LEN];
    u_char                               time[NGX_INT_T_LEN];
    ngx_str_t                            eval[3 + 3
                                        * NGX_HTTP_REFUND_STORE_REPLICAS_BATCH];
    ngx_str_t                            wait[3];
    ngx_uint_t                           i;
    const char                          *error;
    ngx_refund_redis_command_t           commands[2];
    ngx_http_refund_store_redis_t       *redis;
    ngx_http_refund_store_redis_text_t  *text;

    redis = batch->replicas->store->data;

    text = ngx_alloc(n * sizeof(ngx_http_refund_store_redis_text_t),
                     ngx_cycle->log);
    if (text == NULL) {
        return "out of memory";
    }

    ngx_str_set(&eval[0], "EVAL");
    eval[1] = ngx_http_refund_store_replicas_script;
    eval[2].data = count;
    eval[2].len = ngx_sprintf(count, "%ui", n) - count;

    for (i = 0; i < n; i++) {
        ngx_http_refund_store_redis_text(ops[i], 'D', &text[i]);

        eval[3 + i] = text[i].key;
        eval[3 + n + 2 * i] = text[i].value;
        eval[3 + n + 2 * i + 1] = text[i].retain;
    }

    ngx_str_set(&wait[0], "WAIT");
    wait[1].data = needed;
    wait[1].len = ngx_sprintf(needed, "%ui", redis->min_replicas) - needed;
    wait[2].data = time;
    wait[2].len = ngx_sprintf(time, "%M", batch->replicas->wait) - time;

    commands[0].argc = 3 + 3 * n;
    commands[0].argv = eval;
    commands[1].argc = 3;
    commands[1].argv = wait;

    error = ngx_refund_redis_send(batch->replicas->client, &text[0].key,
                                  commands, 2,
                                  ngx_http_refund_store_replicas_handler,
                                  batch);
    ngx_free(text);

    return error;
}


static void
ngx_http_refund_store_replicas_handler(void *data, redisReply **replies,
    const char *error)
{
    ngx_http_refund_store_batch_t  *batch = data;

    ngx_http_refund_store_redis_t  *redis;

    redis = batch->replicas->store->data;

    if (error == NULL
        && (replies[0]->type != REDIS_REPLY_STATUS
            || replies[1]->type != REDIS_REPLY_INTEGER))
    {
        error = "Redis sent an unexpected reply";
        ngx_refund_redis_distrust(error);
    }

    if (error == NULL
        && replies[1]->integer < (long long) redis->min_replicas)
    {
        error = replies[1]->integer > 0
                ? "some have not acknowledged them in time"
                : "none has acknowledged them in time";
    }

    ngx_http_refund_store_replicas_done(batch, error);
}


static void
ngx_http_refund_store_replicas_done(ngx_http_refund_store_batch_t *batch,
    const char *error)
{
    ngx_queue_t                       *q, *next, ended;
    ngx_http_refund_store_op_t        *op;
    ngx_http_refund_store_replicas_t  *replicas;

    replicas = batch->replicas;

    if (error) {
        ngx_http_refund_store_replicas_few(replicas, batch->n, error);
    }

    ngx_queue_init(&ended);

    for (q = ngx_queue_head(&replicas->waiting); batch->n; q = next) {
        next = ngx_queue_next(q);
        op = ngx_queue_data(q, ngx_http_refund_store_op_t, queue);

        if (op->batch == batch) {
            ngx_http_refund_store_replicas_take(replicas, op, &ended);
        }
    }

    ngx_free(batch);
    replicas->batches--;

    if (replicas->joining) {
        ngx_post_event(&replicas->posted, &ngx_posted_events);
    }

    /* a worker that exits waits for no commit */

    if (ngx_queue_empty(&replicas->waiting) && replicas->timer.timer_set) {
        ngx_del_timer(&replicas->timer);
    }

    ngx_http_refund_store_replicas_end(&ended);
}


static void
ngx_http_refund_store_replicas_few(ngx_http_refund_store_replicas_t *replicas,
    ngx_uint_t n, const char *reason)
{
    ngx_uint_t                      i;
    ngx_http_refund_store_redis_t  *redis;

    if (n == 0) {
        return;
    }

    redis = replicas->store->data;

    for (i = 0; i < n; i++) {
        ngx_refund_count(COMMITS_UNREPLICATED);
    }

    ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, replicas->store,
            "refund_store \"%V\": %ui accepted refund notifies are not known "
            "to be on %ui replicas: %s; they are answered SUCCESS all the same",
            &replicas->store->name, n, redis->min_replicas, reason);
}


static void
ngx_http_refund_store_replicas_take(ngx_http_refund_store_replicas_t *replicas,
    ngx_http_refund_store_op_t *op, ngx_queue_t *ended)
{
    if (op->batch) {
        op->batch->n--;

    } else {
        replicas->joining--;
    }

    ngx_queue_remove(&op->queue);
    ngx_queue_insert_tail(ended, &op->queue);
}


/* What is called may bring new ones. */

static void
ngx_http_refund_store_replicas_end(ngx_queue_t *ended)
{
    ngx_queue_t                 *q;
    ngx_http_refund_store_op_t  *op;

    while (!ngx_queue_empty(ended)) {
        q = ngx_queue_head(ended);
        op = ngx_queue_data(q, ngx_http_refund_store_op_t, queue);

        ngx_queue_remove(q);
        ngx_http_refund_store_end(op);
    }
}


static void
ngx_http_refund_store_replicas_timer_handler(ngx_event_t *ev)
{
    ngx_uint_t                         n;
    ngx_queue_t                        ended;
    ngx_http_refund_store_op_t        *op;
    ngx_http_refund_store_replicas_t  *replicas;

    replicas = ev->data;

    ngx_queue_init(&ended);

    for (n = 0; !ngx_queue_empty(&replicas->waiting); n++) {
        op = ngx_queue_data(ngx_queue_head(&replicas->waiting),
                            ngx_http_refund_store_op_t, queue);

        if ((ngx_msec_int_t) (op->deadline - ngx_current_msec) > 0) {
            break;
        }

        ngx_http_refund_store_replicas_take(replicas, op, &ended);
    }

    ngx_http_refund_store_replicas_few(replicas, n,
                                       "Redis did not answer in time");
    ngx_http_refund_store_replicas_watch(replicas);

    ngx_http_refund_store_replicas_end(&ended);
}


static void
ngx_http_refund_store_replicas_watch(
    ngx_http_refund_store_replicas_t *replicas)
{
    ngx_msec_int_t               left;
    ngx_http_refund_store_op_t  *op;

    if (replicas->timer.timer_set || ngx_queue_empty(&replicas->waiting)) {
        return;
    }

    op = ngx_queue_data(ngx_queue_head(&replicas->waiting),
                        ngx_http_refund_store_op_t, queue);
    left = (ngx_msec_int_t) (op->deadline - ngx_current_msec);

    ngx_add_timer(&replicas->timer, (ngx_msec_t) ngx_max(left, 1));
}

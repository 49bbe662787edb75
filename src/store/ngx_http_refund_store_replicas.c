
/*
 * Copyright (C) the refund-notify authors
 *
 * WAIT answers for the writes of its own connection only
 * (https://redis.io/docs/latest/commands/wait/), so the commits are written on
 * that once more, all that wait at the same time, and the WAIT behind them
 * covers them all: in one script, or, in a cluster, where a script's keys have
 * to be of one slot, in one each.  They say what Redis knows already, and SET
 * is as good twice as once.
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
    ngx_queue_t                     batches;    /* whose WAIT is awaited */

    ngx_event_t                     posted;     /* sends the next batch */
    ngx_event_t                     timer;      /* of the oldest */
    ngx_msec_t                      wait;       /* WAIT's; never 0, for ever */
};


/* Commits that one WAIT covers; op->batch of each points to it. */

typedef struct {
    ngx_http_refund_store_batch_t      *batch;
    ngx_http_refund_store_op_t         *op;     /* NULL: waits no longer */
    const void                         *origin; /* where it was written */
} ngx_http_refund_store_commit_t;


struct ngx_http_refund_store_batch_s {
    ngx_http_refund_store_replicas_t   *replicas;
    ngx_queue_t                         queue;
    ngx_uint_t                          node;
    ngx_uint_t                          requests;   /* under way */
    ngx_uint_t                          n;          /* commits that wait */
    ngx_uint_t                          nelts;      /* commits */
    ngx_http_refund_store_commit_t      commits[
                                        NGX_HTTP_REFUND_STORE_REPLICAS_BATCH];
    unsigned                            apart:1;    /* a request each */
};


static void ngx_http_refund_store_replicas_posted_handler(ngx_event_t *ev);
static ngx_http_refund_store_batch_t *ngx_http_refund_store_replicas_batch(
    ngx_http_refund_store_replicas_t *replicas,
    ngx_http_refund_store_op_t *op);
static void ngx_http_refund_store_replicas_send(
    ngx_http_refund_store_batch_t *batch);
static const char *ngx_http_refund_store_replicas_write(
    ngx_http_refund_store_batch_t *batch, ngx_uint_t first, ngx_uint_t n);
static void ngx_http_refund_store_replicas_written(void *data,
    redisReply **replies, const char *error);
static void ngx_http_refund_store_replicas_handler(void *data,
    redisReply **replies, const char *error);
static void ngx_http_refund_store_replicas_done(
    ngx_http_refund_store_batch_t *batch, const void *origin,
    const char *error);
static void ngx_http_refund_store_replicas_free(
    ngx_http_refund_store_batch_t *batch);
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
    ngx_queue_init(&replicas->batches);

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
 * To a node one batch after the other, for a WAIT holds up what is behind it:
 * two of them would be more than the connection waits for.
 */

static void
ngx_http_refund_store_replicas_posted_handler(ngx_event_t *ev)
{
    ngx_queue_t                       *q, *next;
    ngx_http_refund_store_op_t        *op;
    ngx_http_refund_store_batch_t     *batch;
    ngx_http_refund_store_redis_t     *redis;
    ngx_http_refund_store_replicas_t  *replicas;

    replicas = ev->data;
    redis = replicas->store->data;

    if (replicas->joining == 0
        || (redis->conf.ops->node == NULL
            && !ngx_queue_empty(&replicas->batches)))
    {
        return;
    }

    for (q = ngx_queue_head(&replicas->waiting);
         q != ngx_queue_sentinel(&replicas->waiting);
         q = ngx_queue_next(q))
    {
        op = ngx_queue_data(q, ngx_http_refund_store_op_t, queue);

        if (op->batch) {
            continue;
        }

        batch = ngx_http_refund_store_replicas_batch(replicas, op);

        if (batch) {
            op->batch = batch;
            batch->commits[batch->nelts].batch = batch;
            batch->commits[batch->nelts++].op = op;
            batch->n++;
            replicas->joining--;

        } else if (redis->conf.ops->node == NULL) {
            break;
        }
    }

    for (q = ngx_queue_head(&replicas->batches);
         q != ngx_queue_sentinel(&replicas->batches);
         q = next)
    {
        next = ngx_queue_next(q);
        batch = ngx_queue_data(q, ngx_http_refund_store_batch_t, queue);

        if (batch->requests == 0) {
            ngx_http_refund_store_replicas_send(batch);
        }
    }
}


/*
 * The one of the commit's node that is being collected.  NULL: another is under
 * way, and its end posts the event again; or there is no memory, and the timer
 * ends the commit, unless the next one that comes takes it along.
 */

static ngx_http_refund_store_batch_t *
ngx_http_refund_store_replicas_batch(
    ngx_http_refund_store_replicas_t *replicas, ngx_http_refund_store_op_t *op)
{
    ngx_uint_t                           node;
    ngx_queue_t                         *q;
    ngx_http_refund_store_redis_t       *redis;
    ngx_http_refund_store_batch_t       *batch;
    ngx_http_refund_store_redis_text_t   text;

    redis = replicas->store->data;
    node = 0;

    if (redis->conf.ops->node) {
        ngx_http_refund_store_redis_text(op, 'D', &text);
        node = ngx_refund_redis_node(replicas->client, &text.key);
    }

    for (q = ngx_queue_head(&replicas->batches);
         q != ngx_queue_sentinel(&replicas->batches);
         q = ngx_queue_next(q))
    {
        batch = ngx_queue_data(q, ngx_http_refund_store_batch_t, queue);

        if (batch->node == node) {
            return (batch->requests == 0
                    && batch->nelts < NGX_HTTP_REFUND_STORE_REPLICAS_BATCH)
                   ? batch : NULL;
        }
    }

    batch = ngx_calloc(sizeof(ngx_http_refund_store_batch_t), ngx_cycle->log);
    if (batch == NULL) {
        return NULL;
    }

    batch->replicas = replicas;
    batch->node = node;
    batch->apart = (redis->conf.ops->node != NULL);

    ngx_queue_insert_tail(&replicas->batches, &batch->queue);

    return batch;
}


/* The last one has the WAIT behind it. */

static void
ngx_http_refund_store_replicas_send(ngx_http_refund_store_batch_t *batch)
{
    ngx_uint_t   i, n;
    const char  *error;

    n = batch->apart ? 1 : batch->nelts;
    error = NULL;

    for (i = 0; i < batch->nelts && error == NULL; i += n) {
        error = ngx_http_refund_store_replicas_write(batch, i, n);

        if (error == NULL) {
            batch->requests++;
        }
    }

    /* what was written before has no WAIT behind it either */

    if (error) {
        ngx_http_refund_store_replicas_done(batch, NULL, error);
    }
}


static const char *
ngx_http_refund_store_replicas_write(ngx_http_refund_store_batch_t *batch,
    ngx_uint_t first, ngx_uint_t n)
{
    void                                *data;
    u_char                               count[NGX_INT_T_LEN];
    u_char                               needed[NGX_INT_T_LEN];
    u_char                               time[NGX_INT_T_LEN];
    ngx_str_t                            eval[3 + 3
                                        * NGX_HTTP_REFUND_STORE_REPLICAS_BATCH];
    ngx_str_t                            wait[3];
    ngx_uint_t                           i, last;
    const char                          *error;
    ngx_refund_redis_command_t           commands[2];
    ngx_refund_redis_handler_pt          handler;
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
        ngx_http_refund_store_redis_text(batch->commits[first + i].op, 'D',
                                         &text[i]);

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

    last = (first + n == batch->nelts);

    if (last) {
        handler = ngx_http_refund_store_replicas_handler;
        data = batch;

    } else {
        handler = ngx_http_refund_store_replicas_written;
        data = &batch->commits[first];
    }

    error = ngx_refund_redis_send(batch->replicas->client, &text[0].key,
                                  commands, last ? 2 : 1, handler, data);
    ngx_free(text);

    return error;
}


/* One of those that the WAIT is behind. */

static void
ngx_http_refund_store_replicas_written(void *data, redisReply **replies,
    const char *error)
{
    ngx_http_refund_store_commit_t  *commit = data;

    ngx_queue_t                      ended;
    ngx_http_refund_store_batch_t   *batch;

    batch = commit->batch;

    if (error == NULL && replies[0]->type != REDIS_REPLY_STATUS) {
        error = "Redis sent an unexpected reply";
        ngx_refund_redis_distrust(error);
    }

    commit->origin = ngx_refund_redis_origin();
    batch->requests--;

    ngx_queue_init(&ended);

    if (error && commit->op) {
        ngx_http_refund_store_replicas_few(batch->replicas, 1, error);
        ngx_http_refund_store_replicas_take(batch->replicas, commit->op,
                                            &ended);
    }

    ngx_http_refund_store_replicas_free(batch);
    ngx_http_refund_store_replicas_end(&ended);
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

    batch->requests--;
    ngx_http_refund_store_replicas_done(batch, ngx_refund_redis_origin(),
                                        error);
}


/*
 * origin: where the WAIT was answered.  What was written elsewhere, for its
 * slot has moved, or was not written at all, is none that it covers: while its
 * time lasts it goes with the next batch.
 */

static void
ngx_http_refund_store_replicas_done(ngx_http_refund_store_batch_t *batch,
    const void *origin, const char *error)
{
    ngx_uint_t                         i;
    ngx_queue_t                        ended;
    ngx_http_refund_store_commit_t    *commit;
    ngx_http_refund_store_replicas_t  *replicas;

    replicas = batch->replicas;

    if (error) {
        ngx_http_refund_store_replicas_few(replicas, batch->n, error);
    }

    ngx_queue_init(&ended);

    for (i = 0; i < batch->nelts; i++) {
        commit = &batch->commits[i];

        if (commit->op == NULL) {
            continue;
        }

        if (error == NULL && batch->apart && i + 1 < batch->nelts
            && commit->origin != origin)
        {
            commit->op->batch = NULL;
            commit->op = NULL;
            batch->n--;
            replicas->joining++;
            continue;
        }

        ngx_http_refund_store_replicas_take(replicas, commit->op, &ended);
    }

    ngx_queue_remove(&batch->queue);
    batch->queue.next = NULL;
    ngx_http_refund_store_replicas_free(batch);

    if (replicas->joining) {
        ngx_post_event(&replicas->posted, &ngx_posted_events);
    }

    /* a worker that exits waits for no commit */

    if (ngx_queue_empty(&replicas->waiting) && replicas->timer.timer_set) {
        ngx_del_timer(&replicas->timer);
    }

    ngx_http_refund_store_replicas_end(&ended);
}


/* Once its WAIT is over, and no request has a commit of it any more. */

static void
ngx_http_refund_store_replicas_free(ngx_http_refund_store_batch_t *batch)
{
    if (batch->requests == 0 && batch->queue.next == NULL) {
        ngx_free(batch);
    }
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
    ngx_uint_t  i;

    if (op->batch) {
        op->batch->n--;

        for (i = 0; op->batch->commits[i].op != op; i++) { /* void */ }

        op->batch->commits[i].op = NULL;

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


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <openssl/rand.h>

#include "ngx_http_refund_store_backend.h"


/* drawn at once: to OpenSSL 512 bytes are hardly more work than 16 */
#define NGX_HTTP_REFUND_STORE_RANDOM  512


static ngx_int_t ngx_http_refund_store_owner(u_char *owner);
static void ngx_http_refund_store_begin(ngx_http_refund_store_op_t *op,
    ngx_refund_store_operation_e operation);
static ngx_int_t ngx_http_refund_store_ended(ngx_http_refund_store_op_t *op,
    ngx_int_t rc);
static void ngx_http_refund_store_count(ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_store_fail(ngx_http_refund_store_op_t *op,
    const char *reason);
static void ngx_http_refund_store_settle(ngx_http_refund_store_op_t *op);
static void ngx_http_refund_store_remember(ngx_http_refund_store_op_t *op);


ngx_http_refund_store_t *
ngx_http_refund_store_find(ngx_array_t *stores, ngx_str_t *name)
{
    ngx_uint_t                 i;
    ngx_http_refund_store_t  **store;

    store = stores->elts;

    for (i = 0; i < stores->nelts; i++) {
        if (store[i]->name.len == name->len
            && ngx_strncmp(store[i]->name.data, name->data, name->len) == 0)
        {
            return store[i];
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_refund_stores_init_process(ngx_array_t *stores, ngx_cycle_t *cycle)
{
    ngx_uint_t                 i;
    ngx_http_refund_store_t  **store;

    store = stores->elts;

    for (i = 0; i < stores->nelts; i++) {
        if (store[i]->ops->init_process(store[i], cycle) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


void
ngx_http_refund_stores_exit_process(ngx_array_t *stores)
{
    ngx_uint_t                 i;
    ngx_http_refund_store_t  **store;

    store = stores->elts;

    for (i = 0; i < stores->nelts; i++) {
        store[i]->ops->exit_process(store[i]);
    }
}


ngx_int_t
ngx_http_refund_store_claim(ngx_http_refund_store_op_t *op)
{
    ngx_int_t                 rc;
    ngx_http_refund_store_t  *store;

    store = op->store;

    ngx_http_refund_store_begin(op, NGX_REFUND_STORE_CLAIM);

    if (op->key.len == 0 || op->key.len > NGX_HTTP_REFUND_STORE_KEY_MAX) {
        return ngx_http_refund_store_fail(op, "the record's key is too long");
    }

    if (store->cache
        && ngx_http_refund_store_table_done(store->cache->data, &op->key))
    {
        if (store->counters) {
            (void) ngx_atomic_fetch_add(&store->counters->cache_hits, 1);
        }

        op->result = NGX_HTTP_REFUND_STORE_DONE;
        return NGX_OK;
    }

    if (!op->mine && ngx_http_refund_store_owner(op->owner) != NGX_OK) {
        return ngx_http_refund_store_fail(op, "no random numbers to be had");
    }

    rc = store->ops->claim(op);

    if (rc == NGX_OK) {
        ngx_http_refund_store_settle(op);
    }

    return ngx_http_refund_store_ended(op, rc);
}


ngx_int_t
ngx_http_refund_store_renew(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_store_begin(op, NGX_REFUND_STORE_RENEW);

    return ngx_http_refund_store_ended(op, op->store->ops->renew(op));
}


ngx_int_t
ngx_http_refund_store_release(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_store_begin(op, NGX_REFUND_STORE_RELEASE);

    return ngx_http_refund_store_ended(op, op->store->ops->release(op));
}


ngx_int_t
ngx_http_refund_store_commit(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_store_remember(op);

    ngx_http_refund_store_begin(op, NGX_REFUND_STORE_COMMIT);

    return ngx_http_refund_store_ended(op, op->store->ops->commit(op));
}


ngx_int_t
ngx_http_refund_store_keep(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_store_begin(op, NGX_REFUND_STORE_KEEP);

    return ngx_http_refund_store_ended(op, op->store->ops->keep(op));
}


void
ngx_http_refund_store_end(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_store_settle(op);
    ngx_http_refund_store_count(op);

    op->handler(op);
}


/* A process that was forked must not take what its parent has drawn. */

static ngx_int_t
ngx_http_refund_store_owner(u_char *owner)
{
    size_t  n;

    static u_char     random[NGX_HTTP_REFUND_STORE_RANDOM];
    static size_t     left;
    static ngx_pid_t  pid;

    n = NGX_HTTP_REFUND_STORE_OWNER_LEN / 2;

    if (left < n || pid != ngx_pid) {

        if (RAND_bytes(random, sizeof(random)) != 1) {
            return NGX_ERROR;
        }

        left = sizeof(random);
        pid = ngx_pid;
    }

    left -= n;

    (void) ngx_hex_dump(owner, random + left, n);

    return NGX_OK;
}


static void
ngx_http_refund_store_begin(ngx_http_refund_store_op_t *op,
    ngx_refund_store_operation_e operation)
{
    op->operation = operation;
    op->started = ngx_refund_clock();
    op->timeout = ngx_current_msec + op->store->timeout;
}


static ngx_int_t
ngx_http_refund_store_ended(ngx_http_refund_store_op_t *op, ngx_int_t rc)
{
    if (rc == NGX_OK) {
        ngx_http_refund_store_count(op);
    }

    return rc;
}


static void
ngx_http_refund_store_count(ngx_http_refund_store_op_t *op)
{
    ngx_uint_t                    result;
    ngx_refund_store_counters_t  *counters;

    counters = op->store->counters;

    if (counters == NULL) {
        return;
    }

    result = op->result;

    if (result == NGX_HTTP_REFUND_STORE_ERROR && op->store->timeout
        && (ngx_msec_int_t) (ngx_current_msec - op->timeout) >= 0)
    {
        result = NGX_REFUND_STORE_RESULT_TIMEOUT;
    }

    (void) ngx_atomic_fetch_add(&counters->operations[op->operation][result],
                                1);

    ngx_refund_observe(counters->time, op->started);
}


static ngx_int_t
ngx_http_refund_store_fail(ngx_http_refund_store_op_t *op, const char *reason)
{
    op->result = NGX_HTTP_REFUND_STORE_ERROR;
    op->reason = reason;

    return ngx_http_refund_store_ended(op, NGX_OK);
}


/* Only a claim ends as done: what another machine knows is known here now. */

static void
ngx_http_refund_store_settle(ngx_http_refund_store_op_t *op)
{
    if (op->result == NGX_HTTP_REFUND_STORE_DONE) {
        ngx_http_refund_store_remember(op);
    }
}


/* What the cache cannot take, the backend has to be asked for: no harm. */

static void
ngx_http_refund_store_remember(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_store_entry_t  entry;

    if (op->store->cache == NULL) {
        return;
    }

    ngx_memzero(&entry, sizeof(ngx_http_refund_store_entry_t));

    entry.key = op->key;
    entry.retain = op->retain;

    (void) ngx_http_refund_store_table_commit(op->store->cache->data, &entry);
}

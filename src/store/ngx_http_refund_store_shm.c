
/*
 * Copyright (C) the refund-notify authors
 *
 * The embedded store: one machine's shared memory, which a reload keeps and a
 * restart does not.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_store_backend.h"


typedef ngx_http_refund_store_table_result_e (*ngx_http_refund_store_table_pt)(
    ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry);


static ngx_int_t ngx_http_refund_store_shm_init_process(
    ngx_http_refund_store_t *store, ngx_cycle_t *cycle);
static void ngx_http_refund_store_shm_exit_process(
    ngx_http_refund_store_t *store);
static ngx_int_t ngx_http_refund_store_shm_claim(
    ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_store_shm_renew(
    ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_store_shm_release(
    ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_store_shm_commit(
    ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_store_shm_keep(
    ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_store_shm_call(ngx_http_refund_store_op_t *op,
    ngx_http_refund_store_table_pt call);


const ngx_http_refund_store_ops_t  ngx_http_refund_store_shm_ops = {
    ngx_string("shm"),
    ngx_http_refund_store_shm_init_process,
    ngx_http_refund_store_shm_exit_process,
    ngx_http_refund_store_shm_claim,
    ngx_http_refund_store_shm_renew,
    ngx_http_refund_store_shm_release,
    ngx_http_refund_store_shm_commit,
    ngx_http_refund_store_shm_keep,
    NULL
};


static ngx_int_t
ngx_http_refund_store_shm_init_process(ngx_http_refund_store_t *store,
    ngx_cycle_t *cycle)
{
    return NGX_OK;
}


static void
ngx_http_refund_store_shm_exit_process(ngx_http_refund_store_t *store)
{
    /* void */
}


static ngx_int_t
ngx_http_refund_store_shm_claim(ngx_http_refund_store_op_t *op)
{
    return ngx_http_refund_store_shm_call(op,
                                          ngx_http_refund_store_table_claim);
}


static ngx_int_t
ngx_http_refund_store_shm_renew(ngx_http_refund_store_op_t *op)
{
    return ngx_http_refund_store_shm_call(op,
                                          ngx_http_refund_store_table_renew);
}


static ngx_int_t
ngx_http_refund_store_shm_release(ngx_http_refund_store_op_t *op)
{
    return ngx_http_refund_store_shm_call(op,
                                          ngx_http_refund_store_table_release);
}


static ngx_int_t
ngx_http_refund_store_shm_commit(ngx_http_refund_store_op_t *op)
{
    return ngx_http_refund_store_shm_call(op,
                                          ngx_http_refund_store_table_commit);
}


static ngx_int_t
ngx_http_refund_store_shm_keep(ngx_http_refund_store_op_t *op)
{
    return ngx_http_refund_store_shm_call(op,
                                          ngx_http_refund_store_table_keep);
}


static ngx_int_t
ngx_http_refund_store_shm_call(ngx_http_refund_store_op_t *op,
    ngx_http_refund_store_table_pt call)
{
    ngx_http_refund_store_entry_t  entry;

    entry.key = op->key;
    entry.owner = op->owner;
    entry.attempt = op->attempt;
    entry.lease = op->lease;
    entry.retain = op->retain;
    entry.mine = op->mine;
    entry.again = 0;

    switch (call(op->store->data, &entry)) {

    case NGX_HTTP_REFUND_STORE_TABLE_OK:
        op->attempt = entry.attempt;
        op->again = entry.again;
        op->result = NGX_HTTP_REFUND_STORE_OK;
        break;

    case NGX_HTTP_REFUND_STORE_TABLE_DONE:
        op->result = NGX_HTTP_REFUND_STORE_DONE;
        break;

    case NGX_HTTP_REFUND_STORE_TABLE_IN_FLIGHT:
        op->result = NGX_HTTP_REFUND_STORE_IN_FLIGHT;
        break;

    case NGX_HTTP_REFUND_STORE_TABLE_LOST:
        op->result = NGX_HTTP_REFUND_STORE_LOST;
        break;

    case NGX_HTTP_REFUND_STORE_TABLE_FULL:
        op->result = NGX_HTTP_REFUND_STORE_ERROR;
        op->reason = "the shared memory zone is full";
        break;

    default: /* NGX_HTTP_REFUND_STORE_TABLE_ERROR */
        op->result = NGX_HTTP_REFUND_STORE_ERROR;
        op->reason = "SHA-256 failed";
    }

    return NGX_OK;
}

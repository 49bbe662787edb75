
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_refund_counters.h"


/* room for merchants that later configurations name; a power of two */
#define NGX_REFUND_MERCHANTS_MIN  1024

/* changes with all that decides where a counter is */
#define NGX_REFUND_LAYOUT                                                     \
    (sizeof(ngx_refund_counters_t) * 64 + NGX_REFUND_METRIC_COUNT)


static ngx_int_t ngx_refund_counters_init(ngx_shm_zone_t *zone, void *data);
static ngx_refund_merchant_counters_t *ngx_refund_counters_none(
    ngx_refund_merchant_counters_t *merchant);


static const uint64_t  ngx_refund_bounds[] = {
#define X(microseconds, seconds)  microseconds,
    NGX_REFUND_BUCKETS(X)
#undef X
};


ngx_refund_counters_t         *ngx_refund_counters;
ngx_refund_worker_counters_t  *ngx_refund_worker;


ngx_shm_zone_t *
ngx_refund_counters_zone(ngx_conf_t *cf, ngx_uint_t merchants, void *tag)
{
    size_t           size;
    ngx_uint_t       room;
    ngx_shm_zone_t  *zone;

    static ngx_str_t  name = ngx_string("refund_status");

    /* another size is another zone: it must not follow each new merchant */

    for (room = NGX_REFUND_MERCHANTS_MIN; room <= merchants; room *= 2) {
        /* void */
    }

    size = sizeof(ngx_refund_counters_t)
           + room * sizeof(ngx_refund_merchant_counters_t);

    /* and what the slab allocator needs for itself */

    size += size / 64 + 8 * ngx_pagesize;

    zone = ngx_shared_memory_add(cf, &name, ngx_align(size, ngx_pagesize), tag);

    if (zone) {
        zone->init = ngx_refund_counters_init;
        zone->data = (void *) room;
    }

    return zone;
}


static ngx_int_t
ngx_refund_counters_init(ngx_shm_zone_t *zone, void *data)
{
    ngx_uint_t              room;
    ngx_slab_pool_t        *shpool;
    ngx_refund_counters_t  *counters;

    shpool = (ngx_slab_pool_t *) zone->shm.addr;
    room = (ngx_uint_t) (uintptr_t) zone->data;

    if (data || zone->shm.exists) {
        counters = data ? data : shpool->data;

        if (counters->layout != NGX_REFUND_LAYOUT) {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "shared memory zone \"%V\" was laid out by another "
                          "version of the module: restart nginx",
                          &zone->shm.name);
            return NGX_ERROR;
        }

        zone->data = counters;

        return NGX_OK;
    }

    counters = ngx_slab_calloc(shpool, sizeof(ngx_refund_counters_t)
                               + room * sizeof(ngx_refund_merchant_counters_t));
    if (counters == NULL) {
        return NGX_ERROR;
    }

    counters->layout = NGX_REFUND_LAYOUT;
    counters->start = ngx_time();
    counters->merchants_max = room;
    counters->nmerchants = 1;

    shpool->data = counters;
    zone->data = counters;

    return NGX_OK;
}


ngx_refund_merchant_counters_t *
ngx_refund_counters_merchant(ngx_refund_counters_t *counters, ngx_str_t *name)
{
    ngx_uint_t                       i;
    ngx_refund_merchant_counters_t  *merchant;

    for (i = 1; i < counters->nmerchants; i++) {
        merchant = &counters->merchants[i];

        if (merchant->len == name->len
            && ngx_memcmp(merchant->name, name->data, name->len) == 0)
        {
            return merchant;
        }
    }

    if (i == counters->merchants_max || name->len > NGX_REFUND_NAME_MAX) {
        return &counters->merchants[0];
    }

    merchant = &counters->merchants[i];

    ngx_memcpy(merchant->name, name->data, name->len);
    merchant->len = name->len;

    /* the workers that there are read it meanwhile */

    ngx_memory_barrier();
    counters->nmerchants++;

    return merchant;
}


ngx_refund_store_counters_t *
ngx_refund_counters_store(ngx_refund_counters_t *counters, ngx_str_t *name)
{
    ngx_uint_t                    i;
    ngx_refund_store_counters_t  *store;

    for (i = 0; i < counters->nstores; i++) {
        store = &counters->stores[i];

        if (store->len == name->len
            && ngx_memcmp(store->name, name->data, name->len) == 0)
        {
            return store;
        }
    }

    if (i == NGX_REFUND_STORES_MAX || name->len > NGX_REFUND_NAME_MAX) {
        return NULL;
    }

    store = &counters->stores[i];

    ngx_memcpy(store->name, name->data, name->len);
    store->len = name->len;

    ngx_memory_barrier();
    counters->nstores++;

    return store;
}


void
ngx_refund_counters_init_process(ngx_refund_counters_t *counters)
{
    ngx_refund_counters = counters;
    ngx_refund_worker = NULL;

    if (counters == NULL) {
        return;
    }

    /* of all processes that a master has at a time, each has its own number */

    ngx_refund_worker = &counters->workers[ngx_process_slot];

    if (ngx_refund_worker->pid == (ngx_atomic_uint_t) ngx_pid) {
        /* a reload without a master: deliveries go on */
        return;
    }

    ngx_memzero(ngx_refund_worker, sizeof(ngx_refund_worker_counters_t));
    ngx_memory_barrier();

    ngx_refund_worker->pid = ngx_pid;
}


void
ngx_refund_counters_exit_process(void)
{
    if (ngx_refund_worker) {
        ngx_refund_worker->pid = 0;
    }
}


ngx_uint_t
ngx_refund_counters_alive(ngx_refund_worker_counters_t *worker)
{
    ngx_pid_t  pid;

    pid = (ngx_pid_t) worker->pid;

    return pid && (kill(pid, 0) == 0 || ngx_errno == NGX_EPERM);
}


uint64_t
ngx_refund_clock(void)
{
    struct timespec  ts;

    if (ngx_refund_counters == NULL) {
        return 0;
    }

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


void
ngx_refund_observe(ngx_refund_cells_t cells, uint64_t start)
{
    uint64_t    time;
    ngx_uint_t  i;

    time = ngx_refund_clock() - start;

    for (i = 0; i < NGX_REFUND_BUCKET_INF; i++) {
        if (time <= ngx_refund_bounds[i]) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&cells[i], 1);
    (void) ngx_atomic_fetch_add(&cells[NGX_REFUND_BUCKET_SUM], time);
}


static ngx_refund_merchant_counters_t *
ngx_refund_counters_none(ngx_refund_merchant_counters_t *merchant)
{
    return merchant ? merchant : &ngx_refund_counters->merchants[0];
}


void
ngx_refund_count_notify(ngx_refund_merchant_counters_t *merchant,
    wechatpay_version_e version, wechatpay_result_e result, uint64_t start)
{
    if (ngx_refund_counters == NULL) {
        return;
    }

    merchant = ngx_refund_counters_none(merchant);

    (void) ngx_atomic_fetch_add(&merchant->notifies[version][result], 1);

    /* 0: refused before its body was read */

    if (start) {
        ngx_refund_count_time(NGX_REFUND_METRIC_NOTIFY_TIME, start);
    }

    if (result == WECHATPAY_RESULT_DELIVERED
        || result == WECHATPAY_RESULT_DUPLICATE
        || result == WECHATPAY_RESULT_IGNORED)
    {
        ngx_refund_counters->metrics[NGX_REFUND_METRIC_NOTIFY_LAST][0] =
                                                                    ngx_time();
    }
}


void
ngx_refund_count_request(ngx_refund_merchant_counters_t *merchant,
    ngx_uint_t version, ngx_uint_t outcome)
{
    if (ngx_refund_counters == NULL) {
        return;
    }

    merchant = ngx_refund_counters_none(merchant);

    (void) ngx_atomic_fetch_add(&merchant->requests[version][outcome], 1);
}

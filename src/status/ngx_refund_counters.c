
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_refund_counters.h"


/* room for merchants that later configurations name; a power of two */
#define NGX_REFUND_MERCHANTS_MIN  1024

/*
 * Milliseconds after which a worker counts as gone: one that stands still, or
 * a number that another process has by now.
 */
#define NGX_REFUND_SEEN_MAX       15000


static ngx_int_t ngx_refund_counters_init(ngx_shm_zone_t *zone, void *data);
static ngx_uint_t ngx_refund_counters_in_use(ngx_refund_counters_t *counters,
    ngx_refund_store_counters_t *store);
static ngx_uint_t ngx_refund_counters_exists(
    ngx_refund_worker_counters_t *worker);
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

    /* by the same module: another one's tag would have made it another zone */

    if (data || zone->shm.exists) {
        zone->data = data ? data : shpool->data;
        return NGX_OK;
    }

    counters = ngx_slab_calloc(shpool, sizeof(ngx_refund_counters_t)
                               + room * sizeof(ngx_refund_merchant_counters_t));
    if (counters == NULL) {
        return NGX_ERROR;
    }

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
ngx_refund_counters_find_store(ngx_refund_counters_t *counters,
    ngx_str_t *name)
{
    ngx_uint_t                    i;
    ngx_refund_store_counters_t  *store;

    for (i = 0; i < counters->nstores; i++) {
        store = &counters->stores[i];

        if (store->len == name->len
            && ngx_memcmp(store->name, name->data, name->len) == 0)
        {
            store->generation = counters->generation;
            return store;
        }
    }

    return NULL;
}


ngx_refund_store_counters_t *
ngx_refund_counters_add_store(ngx_refund_counters_t *counters,
    ngx_str_t *name)
{
    ngx_uint_t                    i, k;
    ngx_refund_store_counters_t  *store;

    if (name->len > NGX_REFUND_NAME_MAX) {
        return NULL;
    }

    for (i = 0; i < counters->nstores; i++) {
        if (!ngx_refund_counters_in_use(counters, &counters->stores[i])) {
            break;
        }
    }

    if (i == NGX_REFUND_STORES_MAX) {
        return NULL;
    }

    store = &counters->stores[i];

    if (i == counters->nstores) {
        counters->nstores++;
    }

    ngx_memzero(store, sizeof(ngx_refund_store_counters_t));

    for (k = 0; k < NGX_MAX_PROCESSES; k++) {
        counters->workers[k].reach[i] = NGX_REFUND_REACH_UNKNOWN;
        counters->workers[k].connections[i] = 0;
    }

    ngx_memcpy(store->name, name->data, name->len);
    store->len = name->len;
    store->generation = counters->generation;

    return store;
}


/*
 * By this configuration, by the one before, whose workers may not have begun
 * yet, or by a worker that there is still.
 */

static ngx_uint_t
ngx_refund_counters_in_use(ngx_refund_counters_t *counters,
    ngx_refund_store_counters_t *store)
{
    ngx_uint_t                     i;
    ngx_refund_worker_counters_t  *worker;

    if (store->generation + 1 >= counters->generation) {
        return 1;
    }

    for (i = 0; i < NGX_MAX_PROCESSES; i++) {
        worker = &counters->workers[i];

        if (worker->generation <= store->generation
            && ngx_refund_counters_exists(worker))
        {
            return 1;
        }
    }

    return 0;
}


void
ngx_refund_counters_init_process(ngx_refund_counters_t *counters)
{
    if (ngx_refund_worker && ngx_refund_counters == counters) {
        /* a reload without a master: deliveries go on */
        return;
    }

    ngx_refund_counters = counters;
    ngx_refund_worker = NULL;

    if (counters == NULL) {
        return;
    }

    /* of all processes that a master has at a time, each has its own number */

    ngx_refund_worker = &counters->workers[ngx_process_slot];

    ngx_memzero(ngx_refund_worker, sizeof(ngx_refund_worker_counters_t));
    ngx_refund_counters_seen(0);
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


void
ngx_refund_counters_seen(ngx_uint_t generation)
{
    ngx_refund_worker->seen = ngx_current_msec;
    ngx_refund_worker->generation = generation;
}


ngx_uint_t
ngx_refund_counters_alive(ngx_refund_worker_counters_t *worker)
{
    ngx_msec_int_t  age;

    /* its clock is this one's, but is read at another time */

    age = (ngx_msec_int_t) (ngx_current_msec - (ngx_msec_t) worker->seen);

    return age < NGX_REFUND_SEEN_MAX && ngx_refund_counters_exists(worker);
}


static ngx_uint_t
ngx_refund_counters_exists(ngx_refund_worker_counters_t *worker)
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


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_request_rate.h"


#define NGX_HTTP_REFUND_REQUEST_RATE_BUCKETS  2048

/* bursts, each a second's worth: a storm must not outlast its cause by much */
#define NGX_HTTP_REFUND_REQUEST_RATE_MAX      2


extern ngx_module_t  ngx_http_refund_request_module;


/* Merchants whose numbers have one hash share a bucket. */

typedef struct {
    ngx_msec_t    last;
    ngx_uint_t    excess;       /* calls, times 1000 */
} ngx_http_refund_request_bucket_t;


static ngx_int_t ngx_http_refund_request_rate_init(ngx_shm_zone_t *zone,
    void *data);
static ngx_http_refund_request_bucket_t *ngx_http_refund_request_rate_bucket(
    ngx_shm_zone_t *zone, ngx_str_t *mch_id, ngx_uint_t rate);


ngx_shm_zone_t *
ngx_http_refund_request_rate_zone(ngx_conf_t *cf)
{
    ngx_shm_zone_t  *zone;

    static ngx_str_t  name = ngx_string("refund_request_error_rate");

    zone = ngx_shared_memory_add(cf, &name, 16 * ngx_pagesize,
                                 &ngx_http_refund_request_module);
    if (zone == NULL) {
        return NULL;
    }

    zone->init = ngx_http_refund_request_rate_init;

    return zone;
}


static ngx_int_t
ngx_http_refund_request_rate_init(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t  *shpool;

    if (data) {
        zone->data = data;
        return NGX_OK;
    }

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    zone->data = ngx_slab_calloc(shpool, NGX_HTTP_REFUND_REQUEST_RATE_BUCKETS
                                   * sizeof(ngx_http_refund_request_bucket_t));

    return zone->data ? NGX_OK : NGX_ERROR;
}


ngx_uint_t
ngx_http_refund_request_rate_allowed(ngx_shm_zone_t *zone, ngx_str_t *mch_id,
    ngx_uint_t rate)
{
    ngx_uint_t                         allowed;
    ngx_slab_pool_t                   *shpool;
    ngx_http_refund_request_bucket_t  *bucket;

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    ngx_shmtx_lock(&shpool->mutex);

    bucket = ngx_http_refund_request_rate_bucket(zone, mch_id, rate);

    /* a second's worth of failures may come at once */

    allowed = bucket->excess + 1000 <= ngx_max(rate, 1000);

    ngx_shmtx_unlock(&shpool->mutex);

    return allowed;
}


void
ngx_http_refund_request_rate_failed(ngx_shm_zone_t *zone, ngx_str_t *mch_id,
    ngx_uint_t rate)
{
    ngx_slab_pool_t                   *shpool;
    ngx_http_refund_request_bucket_t  *bucket;

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    ngx_shmtx_lock(&shpool->mutex);

    bucket = ngx_http_refund_request_rate_bucket(zone, mch_id, rate);
    bucket->excess = ngx_min(bucket->excess + 1000,
                             NGX_HTTP_REFUND_REQUEST_RATE_MAX
                             * ngx_max(rate, 1000));

    ngx_shmtx_unlock(&shpool->mutex);
}


/* What has leaked since the last time is taken off. */

static ngx_http_refund_request_bucket_t *
ngx_http_refund_request_rate_bucket(ngx_shm_zone_t *zone, ngx_str_t *mch_id,
    ngx_uint_t rate)
{
    uint64_t                           leaked;
    ngx_msec_int_t                     elapsed;
    ngx_http_refund_request_bucket_t  *bucket;

    bucket = zone->data;
    bucket += ngx_crc32_short(mch_id->data, mch_id->len)
              % NGX_HTTP_REFUND_REQUEST_RATE_BUCKETS;

    /* the clock of the worker that was here last may be ahead of ours */

    elapsed = (ngx_msec_int_t) (ngx_current_msec - bucket->last);
    leaked = (uint64_t) ngx_max(elapsed, 0) * rate / 1000;

    if (leaked >= bucket->excess) {
        bucket->excess = 0;
        bucket->last = ngx_current_msec;

    } else if (leaked) {

        /* what is too little to leak now leaks the next time */

        bucket->excess -= (ngx_uint_t) leaked;
        bucket->last += (ngx_msec_t) (leaked * 1000 / rate);
    }

    return bucket;
}


/*
 * Copyright (C) the refund-notify authors
 */


#include <assert.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>

#include "nginx.h"


#define TEST_CLEANUPS  8


static ngx_log_t     test_log = { .log_level = NGX_LOG_DEBUG };
static ngx_cycle_t   test_cycle = { .log = &test_log };

static ngx_shm_zone_t       test_zones[TEST_CLEANUPS];
static ngx_uint_t           test_zone_n;
static ngx_pool_cleanup_t   test_cleanups[TEST_CLEANUPS];
static ngx_uint_t           test_cleanup_n;

volatile ngx_cycle_t  *ngx_cycle = &test_cycle;
volatile ngx_msec_t    ngx_current_msec = 1000000;
ngx_uint_t             ngx_pagesize_shift = 12;
ngx_module_t           ngx_http_refund_notify_module;
ngx_uint_t             test_warnings;


void
test_zone_init(ngx_shm_zone_t *zone)
{
    size_t            head;
    ngx_slab_pool_t  *shpool;

    zone->shm.addr = mmap(NULL, zone->shm.size, PROT_READ|PROT_WRITE,
                          MAP_ANON|MAP_SHARED, -1, 0);
    assert(zone->shm.addr != MAP_FAILED);

    zone->shm.log = &test_log;

    head = (size_t) 1 << ngx_pagesize_shift;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;
    shpool->start = zone->shm.addr + head;
    shpool->pfree = (zone->shm.size - head) >> ngx_pagesize_shift;
    shpool->mutex.lock = &shpool->lock.lock;

    assert(zone->init(zone, NULL) == NGX_OK);
}


void
test_zone_done(ngx_shm_zone_t *zone)
{
    munmap(zone->shm.addr, zone->shm.size);
}


void
test_cleanup(void)
{
    while (test_cleanup_n) {
        test_cleanup_n--;
        test_cleanups[test_cleanup_n].handler(
            test_cleanups[test_cleanup_n].data);
        free(test_cleanups[test_cleanup_n].data);
    }

    test_zone_n = 0;
}


ngx_pool_cleanup_t *
ngx_pool_cleanup_add(ngx_pool_t *pool, size_t size)
{
    ngx_pool_cleanup_t  *cln;

    assert(test_cleanup_n < TEST_CLEANUPS);

    cln = &test_cleanups[test_cleanup_n++];
    cln->data = calloc(1, size);

    return cln;
}


ngx_shm_zone_t *
ngx_shared_memory_add(ngx_conf_t *cf, ngx_str_t *name, size_t size, void *tag)
{
    ngx_shm_zone_t  *zone;

    assert(test_zone_n < TEST_CLEANUPS);

    zone = &test_zones[test_zone_n++];
    ngx_memzero(zone, sizeof(ngx_shm_zone_t));
    zone->shm.name = *name;
    zone->shm.size = size;
    zone->tag = tag;

    return zone;
}


void *
ngx_slab_alloc(ngx_slab_pool_t *pool, size_t size)
{
    assert(size <= pool->pfree << ngx_pagesize_shift);

    return pool->start;
}


void
ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    while (!ngx_atomic_cmp_set(mtx->lock, 0, (ngx_atomic_uint_t) getpid())) {
        sched_yield();
    }
}


void
ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    assert(ngx_atomic_cmp_set(mtx->lock, (ngx_atomic_uint_t) getpid(), 0));
}


void
ngx_conf_log_error(ngx_uint_t level, ngx_conf_t *cf, ngx_err_t err,
    const char *fmt, ...)
{
    test_warnings++;
}


void
ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err,
    const char *fmt, ...)
{
    /* no line may be written under the lock: nothing here takes it */

    if (level <= NGX_LOG_WARN) {
        test_warnings++;
    }
}


/* %ui, %M and %T are all that a record has. */

u_char * ngx_cdecl
ngx_sprintf(u_char *buf, const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);

    for ( /* void */ ; *fmt; fmt++) {

        if (*fmt != '%') {
            *buf++ = (u_char) *fmt;
            continue;
        }

        fmt++;

        switch (*fmt) {

        case 'u':
            assert(*++fmt == 'i');
            buf += sprintf((char *) buf, "%llu",
                           (unsigned long long) va_arg(args, ngx_uint_t));
            break;

        case 'M':
            buf += sprintf((char *) buf, "%llu",
                           (unsigned long long) va_arg(args, ngx_msec_t));
            break;

        default:
            assert(*fmt == 'T');
            buf += sprintf((char *) buf, "%lld",
                           (long long) va_arg(args, time_t));
        }
    }

    va_end(args);

    return buf;
}

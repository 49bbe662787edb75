
/*
 * Copyright (C) the refund-notify authors
 *
 * Linked into the module that is built for make coverage.  A process writes
 * what it reached when it exits, and one that is killed does not: so a worker
 * writes it twice a second, too.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <gcov.h>


#define NGX_REFUND_TEST_COUNTS_INTERVAL  500    /* ms */


ngx_int_t __real_ngx_http_refund_stores_init_process(ngx_array_t *stores,
    ngx_cycle_t *cycle);
ngx_int_t __wrap_ngx_http_refund_stores_init_process(ngx_array_t *stores,
    ngx_cycle_t *cycle);

static void ngx_refund_test_counts_handler(ngx_event_t *ev);


static ngx_event_t  ngx_refund_test_counts_event;


ngx_int_t
__wrap_ngx_http_refund_stores_init_process(ngx_array_t *stores,
    ngx_cycle_t *cycle)
{
    ngx_event_t  *ev = &ngx_refund_test_counts_event;

    if (!ev->timer_set) {
        ev->handler = ngx_refund_test_counts_handler;
        ev->data = ev;
        ev->log = cycle->log;
        ev->cancelable = 1;

        ngx_add_timer(ev, NGX_REFUND_TEST_COUNTS_INTERVAL);
    }

    return __real_ngx_http_refund_stores_init_process(stores, cycle);
}


static void
ngx_refund_test_counts_handler(ngx_event_t *ev)
{
    __gcov_dump();
    __gcov_reset();

    ngx_add_timer(ev, NGX_REFUND_TEST_COUNTS_INTERVAL);
}

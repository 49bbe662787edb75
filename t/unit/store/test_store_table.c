
/*
 * Copyright (C) the refund-notify authors
 */


#include "nginx.h"

#include <stdarg.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "ngx_http_refund_store_table.c"


#define KEYS  4096

#define OWNER_A  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OWNER_B  "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"


static ngx_shm_zone_t                  *zone;
static ngx_http_refund_store_table_t   *table;


static ngx_http_refund_store_fill_t
fill(void)
{
    ngx_http_refund_store_fill_t  f;

    ngx_http_refund_store_table_fill(table, &f);

    return f;
}


static int
setup_size(size_t size, ngx_uint_t forgets)
{
    ngx_conf_t   cf;

    static ngx_str_t  name = ngx_string("refund_store:test");

    ngx_memzero(&cf, sizeof(ngx_conf_t));
    test_warnings = 0;
    zone = ngx_http_refund_store_table_add(&cf, &name, size, forgets);
    test_zone_init(zone);
    table = zone->data;

    return 0;
}


static int
setup(void **state)
{
    return setup_size(64 * 1024, 0);
}


static int
setup_cache(void **state)
{
    return setup_size(64 * 1024, 1);
}


static int
setup_large(void **state)
{
    return setup_size(2 * 1024 * 1024, 0);
}


static int
teardown(void **state)
{
    test_zone_done(zone);
    test_cleanup();

    return 0;
}


/* A record that is no more than a number. */

static ngx_http_refund_store_entry_t *
entry(ngx_uint_t n, const char *owner, ngx_uint_t attempt, ngx_msec_t lease,
    ngx_msec_t retain)
{
    static char                            text[32];
    static ngx_http_refund_store_entry_t   e;

    e.key.len = (size_t) sprintf(text, "{id%u}orders", (unsigned) n);
    e.key.data = (u_char *) text;
    e.owner = (u_char *) owner;
    e.attempt = attempt;
    e.lease = lease;
    e.retain = retain;

    return &e;
}


#define claim(...)    ngx_http_refund_store_table_claim(table,                \
                                                        entry(__VA_ARGS__))
#define renew(...)    ngx_http_refund_store_table_renew(table,                \
                                                        entry(__VA_ARGS__))
#define release(...)  ngx_http_refund_store_table_release(table,              \
                                                          entry(__VA_ARGS__))
#define commit(...)   ngx_http_refund_store_table_commit(table,               \
                                                         entry(__VA_ARGS__))

#define is_ok(call)      assert_int_equal(call,                               \
                                          NGX_HTTP_REFUND_STORE_TABLE_OK)
#define is_done(call)    assert_int_equal(call,                               \
                                          NGX_HTTP_REFUND_STORE_TABLE_DONE)
#define is_busy(call)    assert_int_equal(call,                               \
                                        NGX_HTTP_REFUND_STORE_TABLE_IN_FLIGHT)
#define is_lost(call)    assert_int_equal(call,                               \
                                          NGX_HTTP_REFUND_STORE_TABLE_LOST)
#define is_full(call)    assert_int_equal(call,                               \
                                          NGX_HTTP_REFUND_STORE_TABLE_FULL)


/* Each node is in one place: free, or in its bucket and in its list. */

static void
check_links(void)
{
    uint32_t                         n, i, prev, b;
    uint32_t                         seen, *mark;
    ngx_http_refund_store_node_t    *node;
    ngx_http_refund_store_shared_t  *shared;

    shared = table->shared;
    mark = calloc(shared->nodes + 1, sizeof(uint32_t));
    assert_non_null(mark);

    seen = 0;

    for (n = shared->free; n; n = node->bucket) {
        node = ngx_http_refund_store_node(table, n);
        assert_in_range(n, 1, shared->used);
        assert_int_equal(node->state, NGX_HTTP_REFUND_STORE_NODE_FREE);
        assert_int_equal(mark[n], 0);
        mark[n] = 4;
        seen++;
    }

    assert_int_equal(fill().records, shared->used - seen);
    assert_int_equal(fill().capacity, shared->nodes);

    for (b = 0; b <= shared->mask; b++) {
        for (n = table->buckets[b]; n; n = node->bucket) {
            node = ngx_http_refund_store_node(table, n);
            assert_in_range(n, 1, shared->used);
            assert_int_not_equal(node->state, NGX_HTTP_REFUND_STORE_NODE_FREE);
            assert_ptr_equal(ngx_http_refund_store_table_bucket(table,
                                                                node->key),
                             &table->buckets[b]);
            assert_int_equal(mark[n], 0);
            mark[n] = 1;
            seen++;
        }
    }

    assert_int_equal(seen, shared->used);

    for (i = 0; i < NGX_HTTP_REFUND_STORE_LISTS; i++) {
        prev = 0;

        for (n = shared->lists[i].head; n; n = node->next) {
            node = ngx_http_refund_store_node(table, n);
            assert_ptr_equal(ngx_http_refund_store_list(table, n),
                             &shared->lists[i]);
            assert_int_equal(node->prev, prev);
            assert_int_equal(mark[n], 1);
            mark[n] = 2;
            prev = n;
            seen--;
        }

        assert_int_equal(shared->lists[i].tail, prev);
    }

    for (n = 1; n <= shared->used; n++) {
        seen -= (mark[n] == 4);
    }

    assert_int_equal(seen, 0);
    free(mark);
}


static void
test_life(void **state)
{
    ngx_uint_t                      start;
    ngx_http_refund_store_entry_t  *e;

    start = ngx_current_msec;

    is_ok(claim(1, OWNER_A, 0, 1000, 60000));
    is_busy(claim(1, OWNER_B, 0, 1, 60000));
    is_lost(renew(1, OWNER_B, 1, 1000, 60000));
    is_lost(renew(1, OWNER_A, 2, 1000, 60000));
    is_lost(release(1, OWNER_B, 1, 1000, 60000));

    /* the lease is the record's own, and starts anew when it is renewed */

    ngx_current_msec = start + 900;
    is_ok(renew(1, OWNER_A, 1, 1000, 60000));
    ngx_current_msec = start + 1899;
    is_busy(claim(1, OWNER_B, 0, 1000, 60000));
    ngx_current_msec = start + 1900;

    e = entry(1, OWNER_B, 0, 1000, 60000);
    is_ok(ngx_http_refund_store_table_claim(table, e));
    assert_int_equal(e->attempt, 2);

    is_lost(renew(1, OWNER_A, 1, 1000, 60000));
    is_ok(release(1, OWNER_B, 2, 1000, 60000));
    is_lost(release(1, OWNER_B, 2, 1000, 60000));

    e = entry(1, OWNER_A, 0, 1000, 60000);
    is_ok(ngx_http_refund_store_table_claim(table, e));
    assert_int_equal(e->attempt, 3);

    is_ok(commit(1, OWNER_B, 9, 1000, 60000));
    is_done(claim(1, OWNER_A, 0, 1000, 60000));
    is_lost(renew(1, OWNER_A, 3, 1000, 60000));
    is_lost(release(1, OWNER_A, 3, 1000, 60000));

    /* forgotten to the millisecond */

    ngx_current_msec += 59999;
    is_done(claim(1, OWNER_A, 0, 1000, 60000));
    ngx_current_msec++;

    e = entry(1, OWNER_A, 0, 1000, 60000);
    is_ok(ngx_http_refund_store_table_claim(table, e));
    assert_int_equal(e->attempt, 1);

    /* and then nobody's, though a worker that was stopped still holds it */

    ngx_current_msec += 60000;
    is_lost(renew(1, OWNER_A, 1, 1000, 60000));
    is_lost(release(1, OWNER_A, 1, 1000, 60000));
    assert_int_equal(fill().records, 0);

    check_links();
}


static void
test_full(void **state)
{
    ngx_uint_t  i, room;

    room = table->shared->nodes;

    for (i = 0; i < room; i++) {
        is_ok(claim(i, OWNER_A, 0, 1000, 60000));
    }

    check_links();

    /* what is under way or has failed is never dropped */

    is_full(claim(room, OWNER_A, 0, 1000, 60000));
    is_full(commit(room, OWNER_A, 0, 1000, 60000));
    is_ok(release(0, OWNER_A, 1, 1000, 60000));
    is_full(claim(room, OWNER_A, 0, 1000, 60000));
    assert_int_equal(test_warnings, 0);

    /* the oldest that was accepted is, and one warning a minute says so */

    ngx_current_msec++;
    is_ok(commit(2, OWNER_A, 1, 1000, 60000));
    ngx_current_msec++;
    is_ok(commit(1, OWNER_A, 1, 1000, 60000));

    is_ok(claim(room, OWNER_A, 0, 1000, 60000));
    assert_int_equal(test_warnings, 1);
    is_done(claim(1, OWNER_A, 0, 1000, 60000));
    is_ok(claim(room + 1, OWNER_A, 0, 1000, 60000));
    assert_int_equal(test_warnings, 1);
    assert_int_equal(fill().evicted, 2);
    is_full(claim(1, OWNER_A, 0, 1000, 60000));
    check_links();

    /* all have had their time */

    ngx_current_msec += 60000;

    for (i = 0; i < room; i++) {
        is_ok(claim(10000 + i, OWNER_A, 0, 1000, 60000));
    }

    /* nothing more was evicted; the second of the two is told a minute later */

    assert_int_equal(fill().evicted, 2);
    assert_int_equal(test_warnings, 2);
    check_links();
}


static void
test_cache(void **state)
{
    ngx_uint_t  i, room;

    room = table->shared->nodes;

    for (i = 0; i < 3 * room; i++) {
        is_ok(commit(i, OWNER_A, 0, 1000, 60000));
    }

    for (i = 0; i < 3 * room; i++) {
        assert_int_equal(
            ngx_http_refund_store_table_done(table,
                                             &entry(i, OWNER_A, 0, 0, 0)->key),
            i >= 2 * room);
    }

    assert_int_equal(test_warnings, 0);
    check_links();
}


/* Every way that links can be broken is the same to the next who looks. */

/* A mark: its owner finds it again, it holds nothing up, and it can go. */

static void
test_mark(void **state)
{
    ngx_uint_t                      i;
    ngx_http_refund_store_entry_t  *mark;

    mark = entry(1, OWNER_A, 0, 60000, 60000);
    mark->mine = 1;
    mark->again = 0;

    is_ok(ngx_http_refund_store_table_claim(table, mark));
    assert_int_equal(mark->attempt, 1);
    assert_int_equal(mark->again, 0);

    is_ok(ngx_http_refund_store_table_claim(table, mark));
    assert_int_equal(mark->attempt, 1);
    assert_int_equal(mark->again, 1);

    mark->owner = (u_char *) OWNER_B;
    is_busy(ngx_http_refund_store_table_claim(table, mark));
    is_lost(ngx_http_refund_store_table_release(table, mark));

    mark->owner = (u_char *) OWNER_A;
    mark->attempt = 2;
    is_ok(ngx_http_refund_store_table_keep(table, mark));
    is_ok(ngx_http_refund_store_table_claim(table, mark));
    assert_int_equal(mark->attempt, 2);

    is_ok(ngx_http_refund_store_table_release(table, mark));
    mark->owner = (u_char *) OWNER_B;
    mark->again = 0;
    is_ok(ngx_http_refund_store_table_claim(table, mark));
    assert_int_equal(mark->attempt, 1);
    assert_int_equal(mark->again, 0);
    check_links();

    /* what is under way has room, however many marks there are */

    for (i = 2; i <= table->shared->nodes + 10; i++) {
        mark = entry(i, OWNER_A, 0, 60000, 60000);
        is_ok(ngx_http_refund_store_table_claim(table, mark));
    }

    mark->mine = 0;

    is_ok(claim(100000, OWNER_A, 0, 1000, 60000));
    is_busy(claim(100000, OWNER_B, 0, 1000, 60000));
    check_links();
}


/* A worker was killed in the midst of a change: no link can be relied on. */

static void
break_links(void)
{
    uint32_t  n;

    ngx_memset(table->buckets, 0xff,
               (table->shared->mask + 1) * sizeof(uint32_t));
    ngx_memset(table->shared->lists, 0xff, sizeof(table->shared->lists));

    for (n = 1; n <= table->shared->used; n++) {
        ngx_http_refund_store_node(table, n)->bucket = 0xffffffff;
        ngx_http_refund_store_node(table, n)->next = 0xffffffff;
        ngx_http_refund_store_node(table, n)->prev = 0xffffffff;
    }

    table->shared->free = 0xffffffff;
    table->shared->dirty = 1;
}


static void
test_rebuild(void **state)
{
    ngx_uint_t  i, room;

    room = table->shared->nodes;

    for (i = 0; i < room; i++) {
        ngx_current_msec++;
        is_ok(i % 3 ? commit(i * 7919 % room, OWNER_A, 0, 1000, 60000)
                    : claim(i * 7919 % room, OWNER_A, 0, 1000, 60000));
    }

    break_links();

    is_done(claim(1 * 7919 % room, OWNER_A, 0, 1000, 60000));
    check_links();

    /* the oldest still goes first */

    for (i = 1; i < 10; i++) {
        is_ok(claim(10000 + i, OWNER_A, 0, 1000, 60000));
    }

    check_links();
    assert_int_equal(fill().evicted, 9);

    for (i = 0; i < room; i++) {
        if (i % 3 == 0) {
            is_busy(claim(i * 7919 % room, OWNER_A, 0, 1000, 60000));

        } else if (i > 13) {
            is_done(claim(i * 7919 % room, OWNER_A, 0, 1000, 60000));
        }
    }
}


/* What was free before is free afterwards. */

static void
test_rebuild_free(void **state)
{
    ngx_uint_t                      used;
    ngx_http_refund_store_entry_t  *mark;

    is_ok(claim(1, OWNER_A, 0, 1000, 60000));

    mark = entry(2, OWNER_A, 0, 60000, 60000);
    mark->mine = 1;
    is_ok(ngx_http_refund_store_table_claim(table, mark));
    mark->mine = 0;

    is_ok(claim(3, OWNER_A, 0, 1000, 60000));
    is_ok(commit(1, OWNER_A, 0, 1000, 60000));

    mark = entry(2, OWNER_A, 1, 60000, 60000);
    mark->mine = 1;
    is_ok(ngx_http_refund_store_table_release(table, mark));
    mark->mine = 0;

    used = table->shared->used;
    break_links();

    is_done(claim(1, OWNER_A, 0, 1000, 60000));
    is_busy(claim(3, OWNER_B, 0, 1000, 60000));
    is_ok(claim(4, OWNER_A, 0, 1000, 60000));
    check_links();
    assert_int_equal(table->shared->used, used);
}


/* A reload keeps the records, and refuses those of another version. */

static void
test_reload(void **state)
{
    is_ok(claim(1, OWNER_A, 0, 1000, 60000));

    table->shared->version++;
    assert_int_equal(zone->init(zone, table), NGX_ERROR);

    table->shared->version--;
    assert_int_equal(zone->init(zone, table), NGX_OK);
    is_busy(claim(1, OWNER_B, 0, 1000, 60000));
}


/*
 * Kills a worker at any instruction: what it was told to be accepted stays so,
 * and no attempt is told twice.
 */

typedef struct {
    volatile uint32_t  done[KEYS];
    volatile uint32_t  attempt[KEYS];
} history_t;


static void
worker(history_t *history, unsigned seed)
{
    ngx_uint_t                       n;
    ngx_http_refund_store_entry_t   *e;

    for ( ;; ) {
        n = (ngx_uint_t) rand_r(&seed) % KEYS;

        switch (rand_r(&seed) % 3) {

        case 0:
            e = entry(n, OWNER_A, 0, 1, 600000);

            if (ngx_http_refund_store_table_claim(table, e)
                == NGX_HTTP_REFUND_STORE_TABLE_OK)
            {
                if (e->attempt <= history->attempt[n] || history->done[n]) {
                    _exit(1);
                }

                history->attempt[n] = e->attempt;
            }

            break;

        case 1:
            (void) release(n, OWNER_A, history->attempt[n], 1, 600000);
            break;

        default:

            /* a few only, or all would be done too soon */

            if (n % 64 == 0
                && commit(n, OWNER_A, 0, 1, 600000)
                   == NGX_HTTP_REFUND_STORE_TABLE_OK)
            {
                history->done[n] = 1;
            }
        }

        ngx_current_msec++;
    }
}


static void
test_kill(void **state)
{
    int                status;
    pid_t              pid;
    unsigned           i, n, dirty;
    history_t         *history;
    ngx_slab_pool_t   *shpool;

    history = mmap(NULL, sizeof(history_t), PROT_READ|PROT_WRITE,
                   MAP_ANON|MAP_SHARED, -1, 0);
    assert_ptr_not_equal(history, MAP_FAILED);

    shpool = (ngx_slab_pool_t *) zone->shm.addr;
    dirty = 0;

    for (i = 0; i < 500; i++) {
        pid = fork();

        if (pid == 0) {
            worker(history, i);
        }

        usleep(200 + (i * 7) % 1500);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));

        /* as the master does */

        (void) ngx_atomic_cmp_set(shpool->mutex.lock, (ngx_atomic_uint_t) pid,
                                  0);
        dirty += table->shared->dirty;

        for (n = 0; n < KEYS; n += 64) {
            assert_int_equal(
                ngx_http_refund_store_table_done(table,
                                          &entry(n, OWNER_A, 0, 0, 0)->key)
                >= history->done[n], 1);
        }

        check_links();
    }

    print_message("# killed inside a change: %u of 500\n", dirty);
    assert_true(dirty > 0);

    munmap(history, sizeof(history_t));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_life, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cache, setup_cache, teardown),
        cmocka_unit_test_setup_teardown(test_mark, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rebuild, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rebuild_free, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill, setup_large, teardown)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}


/*
 * Copyright (C) the refund-notify authors
 *
 * Linked into the module that is built for the tests with the sanitizers, with
 * --wrap for the functions below: a worker can touch the records in shared
 * memory only while it holds their lock.  Whatever else tries crashes, and the
 * sanitizer says where.
 *
 * It can also kill a worker in the midst of a change.  REFUND_NOTIFY_TEST_KILL
 * names a file that holds a number of 64 bits: that many instructions of any
 * worker under any of these locks later, SIGKILL.  0: never.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "ngx_http_refund_store.h"


#define NGX_REFUND_TEST_TRAP_FLAG  0x100    /* a SIGTRAP each instruction */


void __real_ngx_shmtx_lock(ngx_shmtx_t *mtx);
void __real_ngx_shmtx_unlock(ngx_shmtx_t *mtx);
ngx_int_t __real_ngx_http_refund_stores_init_process(ngx_array_t *stores,
    ngx_cycle_t *cycle);

void __wrap_ngx_shmtx_lock(ngx_shmtx_t *mtx);
void __wrap_ngx_shmtx_unlock(ngx_shmtx_t *mtx);
ngx_int_t __wrap_ngx_http_refund_stores_init_process(ngx_array_t *stores,
    ngx_cycle_t *cycle);

static void ngx_refund_test_protect(ngx_slab_pool_t *shpool, int protection);
static void ngx_refund_test_kill(void);

#if (__x86_64__)
static void ngx_refund_test_trap(int signo, siginfo_t *info, void *context);
#endif


static const char  *ngx_refund_test_zones[] = {
    "refund_store:",
    "refund_cache:",
    "refund_request_error_rate",
    NULL
};

static volatile uint64_t  *ngx_refund_test_countdown;
static volatile ngx_uint_t  ngx_refund_test_stepping;


/* In a worker: until it takes a lock it has no business in there. */

ngx_int_t
__wrap_ngx_http_refund_stores_init_process(ngx_array_t *stores,
    ngx_cycle_t *cycle)
{
    ngx_uint_t        i;
    const char      **name;
    ngx_list_part_t  *part;
    ngx_shm_zone_t   *zone;

    for (part = &cycle->shared_memory.part; part; part = part->next) {
        zone = part->elts;

        for (i = 0; i < part->nelts; i++) {
            for (name = ngx_refund_test_zones; *name; name++) {

                if (ngx_strncmp(zone[i].shm.name.data, *name,
                                ngx_strlen(*name))
                    == 0)
                {
                    ngx_refund_test_protect((ngx_slab_pool_t *)
                                            zone[i].shm.addr, PROT_NONE);
                }
            }
        }
    }

    ngx_refund_test_kill();

    return __real_ngx_http_refund_stores_init_process(stores, cycle);
}


void
__wrap_ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    ngx_slab_pool_t  *shpool;

    shpool = (ngx_slab_pool_t *) ((u_char *) mtx
                                  - offsetof(ngx_slab_pool_t, mutex));

    __real_ngx_shmtx_lock(mtx);

    ngx_refund_test_protect(shpool, PROT_READ|PROT_WRITE);

#if (__x86_64__)

    if (ngx_refund_test_countdown && *ngx_refund_test_countdown) {
        ngx_refund_test_stepping = 1;

        /* below the red zone, where the compiler may keep what it needs */

        __asm__ volatile ("lea -128(%%rsp), %%rsp\n\t"
                          "pushfq\n\t"
                          "orq %0, (%%rsp)\n\t"
                          "popfq\n\t"
                          "lea 128(%%rsp), %%rsp"
                          : : "i" (NGX_REFUND_TEST_TRAP_FLAG)
                          : "memory", "cc");
    }

#endif
}


void
__wrap_ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    ngx_slab_pool_t  *shpool;

    ngx_refund_test_stepping = 0;

    shpool = (ngx_slab_pool_t *) ((u_char *) mtx
                                  - offsetof(ngx_slab_pool_t, mutex));

    ngx_refund_test_protect(shpool, PROT_NONE);

    __real_ngx_shmtx_unlock(mtx);
}


/* All but the pool's own pages, which nginx uses, and where the lock is. */

static void
ngx_refund_test_protect(ngx_slab_pool_t *shpool, int protection)
{
    size_t  size;

    /* a process that is its own master lays zones out without their lock */

    if (ngx_process == NGX_PROCESS_SINGLE) {
        return;
    }

    size = (size_t) (shpool->end - shpool->start) & ~(ngx_pagesize - 1);

    if (mprotect(shpool->start, size, protection) == -1) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "mprotect() failed");
    }
}


static void
ngx_refund_test_kill(void)
{
#if (__x86_64__)

    int                fd;
    void              *p;
    const char        *file;
    struct sigaction   sa;

    file = getenv("REFUND_NOTIFY_TEST_KILL");

    if (file == NULL || ngx_refund_test_countdown) {
        return;
    }

    fd = open(file, O_RDWR);
    p = mmap(NULL, sizeof(uint64_t), PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "mmap(\"%s\") failed", file);
        return;
    }

    (void) close(fd);

    ngx_memzero(&sa, sizeof(struct sigaction));
    sa.sa_sigaction = ngx_refund_test_trap;
    sa.sa_flags = SA_SIGINFO;

    if (sigaction(SIGTRAP, &sa, NULL) == -1) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, ngx_errno,
                      "sigaction(SIGTRAP) failed");
        return;
    }

    ngx_refund_test_countdown = p;

#endif
}


#if (__x86_64__)

static void
ngx_refund_test_trap(int signo, siginfo_t *info, void *context)
{
    ucontext_t  *uc = context;

    if (ngx_refund_test_stepping && *ngx_refund_test_countdown
        && --*ngx_refund_test_countdown == 0)
    {
        (void) kill(getpid(), SIGKILL);
    }

    if (!ngx_refund_test_stepping || *ngx_refund_test_countdown == 0) {
        uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t) NGX_REFUND_TEST_TRAP_FLAG;
    }
}

#endif

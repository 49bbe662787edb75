
/*
 * Copyright (C) the refund-notify authors
 *
 * What refund_status tells: one list of all metrics, and the counters behind
 * them, in shared memory.  Every change is one atomic addition without a lock,
 * or is written by one worker only: a worker that is killed leaves nothing half
 * done.  Where no location has refund_status there is no zone, and nothing is
 * counted.
 */


#ifndef _NGX_REFUND_COUNTERS_H_INCLUDED_
#define _NGX_REFUND_COUNTERS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "wechatpay.h"


/*
 * X(ID, source, type, name, help), in the order of the output.  The source is
 * the function that knows its samples; SCALAR and HISTOGRAM are cells of
 * ngx_refund_counters_t, by ID.  Help texts have no backslash, quote or line
 * feed.
 */

#define NGX_REFUND_METRICS(X)                                                 \
    X(NOTIFIES, notifies, "counter", "refund_notify_requests_total",          \
      "Notifies answered, by result as in $refund_notify_result")             \
    X(NOTIFY_TIME, histogram, "histogram", "refund_notify_duration_seconds",  \
      "Time from the last byte of a notify to its answer")                    \
    X(NOTIFY_LAST, scalar, "gauge",                                           \
      "refund_notify_last_success_timestamp_seconds",                         \
      "When a notify was last answered SUCCESS, 0 if none was")               \
    X(DELIVERIES_STARTED, scalar, "counter",                                  \
      "refund_deliveries_started_total",                                      \
      "Deliveries to business apps that were attempted")                      \
    X(DELIVERIES, deliveries, "counter", "refund_deliveries_total",           \
      "Deliveries to business apps that ended, by outcome")                   \
    X(DELIVERIES_UNCLAIMED, scalar, "counter",                                \
      "refund_deliveries_unclaimed_total",                                    \
      "Deliveries without a claim, under refund_notify_store_error pass")     \
    X(DELIVERIES_UNDER_WAY, deliveries_under_way, "gauge",                    \
      "refund_deliveries_under_way",                                          \
      "Deliveries to business apps that have not ended yet")                  \
    X(DELIVERY_TIME, histogram, "histogram",                                  \
      "refund_delivery_duration_seconds",                                     \
      "Time of a delivery, from its start to the end of the answer")          \
    X(REQUESTS, requests, "counter", "refund_request_calls_total",            \
      "Calls of business apps answered, by outcome")                          \
    X(REQUEST_TIME, histogram, "histogram",                                   \
      "refund_request_duration_seconds",                                      \
      "Time of a call to WeChat Pay, repeats and the store included")         \
    X(STORE_UP, store_up, "gauge", "refund_store_up",                         \
      "1 if the workers reach the store, 0 if not")                           \
    X(STORE_CONNECTIONS, store_connections, "gauge",                          \
      "refund_store_connections",                                             \
      "Connections of the workers to the store that are ready")               \
    X(STORE_OPERATIONS, store_operations, "counter",                          \
      "refund_store_operations_total",                                        \
      "Operations of the store that ended, by result")                        \
    X(STORE_TIME, store_time, "histogram",                                    \
      "refund_store_operation_duration_seconds",                              \
      "Time of an operation of the store")                                    \
    X(STORE_CACHE_HITS, store_cache_hits, "counter",                          \
      "refund_store_cache_hits_total",                                        \
      "Claims that the cache answered without asking the store")              \
    X(STORE_RECORDS, store_records, "gauge", "refund_store_zone_records",     \
      "Records in a shared memory zone of the store")                         \
    X(STORE_CAPACITY, store_capacity, "gauge",                                \
      "refund_store_zone_capacity_records",                                   \
      "Records for which a shared memory zone of the store has room")         \
    X(STORE_EVICTIONS, store_evictions, "counter",                            \
      "refund_store_zone_evictions_total",                                    \
      "Accepted notifies that a full zone forgot before their time")          \
    X(COMMITS_REPEATED, scalar, "counter",                                    \
      "refund_store_commits_repeated_total",                                  \
      "Times that the store had to be told again of an accepted notify")      \
    X(COMMITS_GIVEN_UP, scalar, "counter",                                    \
      "refund_store_commits_given_up_total",                                  \
      "Accepted notifies of which the store could not be told")               \
    X(COMMITS_UNREPLICATED, scalar, "counter",                                \
      "refund_store_commits_unreplicated_total",                              \
      "Accepted notifies not known to be on min_replicas replicas")           \
    X(LEASES_LOST, scalar, "counter", "refund_store_leases_lost_total",       \
      "Deliveries whose lease was lost while they ran")                       \
    X(LOG_HELD_BACK, scalar, "counter", "refund_log_lines_held_back_total",   \
      "Lines that the error log was spared, for like ones came before")       \
    X(CERTIFICATES, certificates, "gauge",                                    \
      "refund_certificate_expiry_timestamp_seconds",                          \
      "When a configured certificate expires")                                \
    X(WORKERS, workers, "gauge", "refund_workers",                            \
      "Worker processes, those that are shutting down included")              \
    X(START, start, "gauge", "refund_counters_start_timestamp_seconds",       \
      "When the counters began: a reload keeps them, a restart does not")     \
    X(BUILD, build, "gauge", "refund_build_info",                             \
      "1, with the versions of the module and of nginx")

typedef enum {
#define X(id, source, type, name, help)  NGX_REFUND_METRIC_##id,
    NGX_REFUND_METRICS(X)
#undef X
    NGX_REFUND_METRIC_COUNT
} ngx_refund_metric_e;


/* X(microseconds, the same in seconds): the upper bounds of all histograms */

#define NGX_REFUND_BUCKETS(X)                                                 \
    X(100, "0.0001")                                                          \
    X(250, "0.00025")                                                         \
    X(500, "0.0005")                                                          \
    X(1000, "0.001")                                                          \
    X(2500, "0.0025")                                                         \
    X(5000, "0.005")                                                          \
    X(10000, "0.01")                                                          \
    X(25000, "0.025")                                                         \
    X(50000, "0.05")                                                          \
    X(100000, "0.1")                                                          \
    X(250000, "0.25")                                                         \
    X(500000, "0.5")                                                          \
    X(1000000, "1")                                                           \
    X(2500000, "2.5")                                                         \
    X(5000000, "5")                                                           \
    X(10000000, "10")

enum {
#define X(microseconds, seconds)  NGX_REFUND_BUCKET_##microseconds,
    NGX_REFUND_BUCKETS(X)
#undef X
    NGX_REFUND_BUCKET_INF,          /* what exceeds the last bound */
    NGX_REFUND_BUCKET_SUM,          /* microseconds */
    NGX_REFUND_CELLS
};


/* X(ID, label), in the order of ngx_http_refund_store_result_e, and one more */

#define NGX_REFUND_STORE_RESULTS(X)                                           \
    X(OK, "ok")                                                               \
    X(DONE, "done")                                                           \
    X(IN_FLIGHT, "in_flight")                                                 \
    X(LOST, "lost")                                                           \
    X(ERROR, "error")                                                         \
    X(TIMEOUT, "timeout")

enum {
#define X(id, label)  NGX_REFUND_STORE_RESULT_##id,
    NGX_REFUND_STORE_RESULTS(X)
#undef X
    NGX_REFUND_STORE_RESULT_COUNT
};


/* X(ID, label, bits of the results that are shown before they happen) */

#define NGX_REFUND_STORE_OPERATIONS(X)                                        \
    X(CLAIM, "claim", 0x37)                                                   \
    X(RENEW, "renew", 0x39)                                                   \
    X(RELEASE, "release", 0x31)                                               \
    X(COMMIT, "commit", 0x31)                                                 \
    X(KEEP, "keep", 0x31)

typedef enum {
#define X(id, label, results)  NGX_REFUND_STORE_##id,
    NGX_REFUND_STORE_OPERATIONS(X)
#undef X
    NGX_REFUND_STORE_OPERATION_COUNT
} ngx_refund_store_operation_e;


/* outcomes of deliveries, and of calls to WeChat Pay: both have three */

#define NGX_REFUND_OUTCOMES  3
#define NGX_REFUND_VERSIONS  3      /* wechatpay_version_e */

#define NGX_REFUND_NAME_MAX    64
#define NGX_REFUND_STORES_MAX  64

typedef ngx_atomic_t  ngx_refund_cells_t[NGX_REFUND_CELLS];


/*
 * Of a merchant, for as long as the zone lives; of a store, until another name
 * needs its room.
 */

typedef struct {
    ngx_uint_t           len;
    u_char               name[NGX_REFUND_NAME_MAX];
    ngx_uint_t           versions;  /* bits: those that it has keys for */
    ngx_atomic_t         notifies[NGX_REFUND_VERSIONS][WECHATPAY_RESULT_COUNT];
    ngx_atomic_t         requests[NGX_REFUND_VERSIONS][NGX_REFUND_OUTCOMES];
} ngx_refund_merchant_counters_t;

typedef struct {
    ngx_uint_t           len;
    u_char               name[NGX_REFUND_NAME_MAX];
    ngx_uint_t           generation;        /* the last that named it */
    ngx_atomic_t         reach;             /* what was known last */
    ngx_atomic_t         operations[NGX_REFUND_STORE_OPERATION_COUNT]
                                   [NGX_REFUND_STORE_RESULT_COUNT];
    ngx_refund_cells_t   time;
    ngx_atomic_t         cache_hits;
} ngx_refund_store_counters_t;


/*
 * A gauge is the sum over the workers that are alive: what one that was killed
 * had counted goes with it.
 */

typedef struct {
    ngx_atomic_t         pid;               /* 0: no worker */
    ngx_atomic_t         seen;              /* ngx_current_msec of its life */
    ngx_atomic_t         generation;        /* of its configuration */
    ngx_atomic_t         deliveries;
    u_char               reach[NGX_REFUND_STORES_MAX];
    u_char               connections[NGX_REFUND_STORES_MAX];
} ngx_refund_worker_counters_t;

typedef enum {
    NGX_REFUND_REACH_UNKNOWN = 0,           /* not yet, or not any more */
    NGX_REFUND_REACH_DOWN,
    NGX_REFUND_REACH_UP
} ngx_refund_reach_e;


typedef struct {
    time_t                           start;
    ngx_uint_t                       generation;    /* configurations so far */
    ngx_uint_t                       nstores;
    ngx_uint_t                       nmerchants;
    ngx_uint_t                       merchants_max;
    ngx_refund_cells_t               metrics[NGX_REFUND_METRIC_COUNT];
    ngx_refund_store_counters_t      stores[NGX_REFUND_STORES_MAX];
    ngx_refund_worker_counters_t     workers[NGX_MAX_PROCESSES];

    /* the first is of no merchant, or of those for which there was no room */
    ngx_refund_merchant_counters_t   merchants[1];
} ngx_refund_counters_t;


/* Of the worker; NULL: nothing is counted. */

extern ngx_refund_counters_t         *ngx_refund_counters;
extern ngx_refund_worker_counters_t  *ngx_refund_worker;


/*
 * Adds the zone to the configuration, with room for this many merchants, at
 * least; its data are the counters once the configuration is in use.  NULL: an
 * error, which was logged.
 */

ngx_shm_zone_t *ngx_refund_counters_zone(ngx_conf_t *cf, ngx_uint_t merchants,
    void *tag);

/*
 * The counters of that name, in the master, when a configuration comes into
 * use: counters->generation is its number.  Those of a merchant are made if
 * there are none; without room they are those of no merchant.  A store's are
 * found, NULL: not there; or made, in the room of one that no configuration in
 * use names, if need be, NULL: all room is taken.
 */

ngx_refund_merchant_counters_t *ngx_refund_counters_merchant(
    ngx_refund_counters_t *counters, ngx_str_t *name);
ngx_refund_store_counters_t *ngx_refund_counters_find_store(
    ngx_refund_counters_t *counters, ngx_str_t *name);
ngx_refund_store_counters_t *ngx_refund_counters_add_store(
    ngx_refund_counters_t *counters, ngx_str_t *name);

/*
 * In a worker, at its start and at its end; counters may be NULL.  Without a
 * master also at each reload.
 */

void ngx_refund_counters_init_process(ngx_refund_counters_t *counters);
void ngx_refund_counters_exit_process(void);

/*
 * In a worker, each second: it lives.  The number is that of the configuration
 * that it runs.
 */

void ngx_refund_counters_seen(ngx_uint_t generation);

/* Is the worker alive that this was written by, and has it been seen lately? */

ngx_uint_t ngx_refund_counters_alive(ngx_refund_worker_counters_t *worker);


/* Microseconds of a clock that never goes back; 0 where nothing is counted. */

uint64_t ngx_refund_clock(void);

/* Counts the time since start, which ngx_refund_clock() has told. */

void ngx_refund_observe(ngx_refund_cells_t cells, uint64_t start);


static ngx_inline void
ngx_refund_count_cell(ngx_uint_t metric, ngx_uint_t cell)
{
    if (ngx_refund_counters) {
        (void) ngx_atomic_fetch_add(
                              &ngx_refund_counters->metrics[metric][cell], 1);
    }
}

#define ngx_refund_count(id)                                                  \
    ngx_refund_count_cell(NGX_REFUND_METRIC_##id, 0)


static ngx_inline void
ngx_refund_count_time(ngx_uint_t metric, uint64_t start)
{
    if (ngx_refund_counters) {
        ngx_refund_observe(ngx_refund_counters->metrics[metric], start);
    }
}


/* merchant may be NULL: none is known */

void ngx_refund_count_notify(ngx_refund_merchant_counters_t *merchant,
    wechatpay_version_e version, wechatpay_result_e result, uint64_t start);
void ngx_refund_count_request(ngx_refund_merchant_counters_t *merchant,
    ngx_uint_t version, ngx_uint_t outcome);


#endif /* _NGX_REFUND_COUNTERS_H_INCLUDED_ */

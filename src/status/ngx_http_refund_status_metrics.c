
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "wechatpay_reply.h"
#include "ngx_http_refund_store_backend.h"
#include "ngx_http_refund_version.h"
#include "ngx_http_refund_status_metrics.h"


#define NGX_HTTP_REFUND_STATUS_LABELS  4    /* the last of them is none */


typedef struct {
    ngx_http_refund_status_main_conf_t  *conf;
    ngx_refund_counters_t               *counters;
    ngx_http_refund_status_output_t     *out;
    ngx_uint_t                           metric;
    ngx_http_refund_status_label_t       labels[NGX_HTTP_REFUND_STATUS_LABELS];
} ngx_http_refund_status_metrics_t;

typedef void (*ngx_http_refund_status_source_pt)(
    ngx_http_refund_status_metrics_t *m);

typedef struct {
    const char                        *name;
    const char                        *type;
    const char                        *help;
    ngx_http_refund_status_source_pt   source;
} ngx_http_refund_status_metric_t;


/* one for each source in NGX_REFUND_METRICS */

static void ngx_http_refund_status_notifies(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_scalar(ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_histogram(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_deliveries(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_deliveries_under_way(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_requests(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_store_up(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_store_connections(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_store_operations(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_store_time(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_store_cache_hits(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_store_records(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_store_capacity(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_store_evictions(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_certificates(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_workers(
    ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_start(ngx_http_refund_status_metrics_t *m);
static void ngx_http_refund_status_build(ngx_http_refund_status_metrics_t *m);

static void ngx_http_refund_status_tree(ngx_http_refund_status_metrics_t *m,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);
static ngx_uint_t ngx_http_refund_status_next_store(
    ngx_http_refund_status_metrics_t *m, ngx_http_refund_store_t **store);
static void ngx_http_refund_status_zones(ngx_http_refund_status_metrics_t *m,
    size_t offset);
static void ngx_http_refund_status_string(ngx_http_refund_status_metrics_t *m,
    ngx_uint_t n, const char *name, u_char *data, size_t len);
static void ngx_http_refund_status_label(ngx_http_refund_status_metrics_t *m,
    ngx_uint_t n, const char *name, const char *value);
static void ngx_http_refund_status_put(ngx_http_refund_status_metrics_t *m,
    ngx_atomic_uint_t value);


static const ngx_http_refund_status_metric_t
    ngx_http_refund_status_metric_list[] =
{
#define X(id, source, type, name, help)                                       \
    { name, type, help, ngx_http_refund_status_##source },
    NGX_REFUND_METRICS(X)
#undef X
};


static const char  *const ngx_http_refund_status_versions[] = {
    "unknown", "v2", "v3"
};


static const char  *const ngx_http_refund_status_operations[] = {
#define X(id, label, results)  label,
    NGX_REFUND_STORE_OPERATIONS(X)
#undef X
};


/* the results that each can have; a rate wants the first one, too */

static const ngx_uint_t  ngx_http_refund_status_possible[] = {
#define X(id, label, results)  results,
    NGX_REFUND_STORE_OPERATIONS(X)
#undef X
};


static const char  *const ngx_http_refund_status_store_results[] = {
#define X(id, label)  label,
    NGX_REFUND_STORE_RESULTS(X)
#undef X
};


ngx_int_t
ngx_http_refund_status_metrics(ngx_http_refund_status_main_conf_t *smcf,
    ngx_http_refund_status_output_t *out)
{
    const ngx_http_refund_status_metric_t  *metric;
    ngx_http_refund_status_metrics_t        m;

    ngx_memzero(&m, sizeof(ngx_http_refund_status_metrics_t));

    m.conf = smcf;
    m.counters = smcf->zone->data;
    m.out = out;

    ngx_http_refund_status_begin(out);

    for (m.metric = 0; m.metric < NGX_REFUND_METRIC_COUNT; m.metric++) {
        metric = &ngx_http_refund_status_metric_list[m.metric];

        ngx_memzero(m.labels, sizeof(m.labels));

        ngx_http_refund_status_metric(out, metric->name, metric->type,
                                      metric->help);
        metric->source(&m);
    }

    return ngx_http_refund_status_end(out);
}


/*
 * All results of the versions that a merchant has keys for, also those at 0: a
 * rate wants the first one, too.
 */

static void
ngx_http_refund_status_notifies(ngx_http_refund_status_metrics_t *m)
{
    ngx_uint_t                       i, version, result;
    wechatpay_str_t                  word;
    ngx_atomic_uint_t                n;
    ngx_refund_merchant_counters_t  *merchant;

    for (i = 0; i < m->counters->nmerchants; i++) {
        merchant = &m->counters->merchants[i];

        ngx_http_refund_status_string(m, 0, "merchant", merchant->name,
                                      merchant->len);

        for (version = 0; version < NGX_REFUND_VERSIONS; version++) {
            ngx_http_refund_status_label(m, 1, "api_version",
                                     ngx_http_refund_status_versions[version]);

            for (result = 0; result < WECHATPAY_RESULT_COUNT; result++) {
                n = merchant->notifies[version][result];

                if (n == 0 && !(merchant->versions & (1 << version))) {
                    continue;
                }

                word = wechatpay_result_word(result);

                ngx_http_refund_status_string(m, 2, "result",
                                              (u_char *) word.data, word.len);
                ngx_http_refund_status_put(m, n);
            }
        }
    }
}


static void
ngx_http_refund_status_scalar(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_status_put(m, m->counters->metrics[m->metric][0]);
}


static void
ngx_http_refund_status_histogram(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_status_put_histogram(m->out, m->labels,
                                         m->counters->metrics[m->metric]);
}


static void
ngx_http_refund_status_deliveries(ngx_http_refund_status_metrics_t *m)
{
    ngx_uint_t  i;

    /* by ngx_http_refund_outcome_e */

    static const char  *const outcomes[NGX_REFUND_OUTCOMES] = {
        "accepted", "failed", "unknown"
    };

    for (i = 0; i < NGX_REFUND_OUTCOMES; i++) {
        ngx_http_refund_status_label(m, 0, "outcome", outcomes[i]);
        ngx_http_refund_status_put(m, m->counters->metrics[m->metric][i]);
    }
}


static void
ngx_http_refund_status_deliveries_under_way(
    ngx_http_refund_status_metrics_t *m)
{
    ngx_uint_t                     i;
    ngx_atomic_uint_t              n;
    ngx_refund_worker_counters_t  *worker;

    n = 0;

    for (i = 0; i < NGX_MAX_PROCESSES; i++) {
        worker = &m->counters->workers[i];

        if (worker->deliveries && ngx_refund_counters_alive(worker)) {
            n += worker->deliveries;
        }
    }

    ngx_http_refund_status_put(m, n);
}


static void
ngx_http_refund_status_requests(ngx_http_refund_status_metrics_t *m)
{
    ngx_uint_t                       i, version, outcome;
    ngx_atomic_t                    *cells;
    ngx_refund_merchant_counters_t  *merchant;

    /* by wechatpay_outcome_e */

    static const char  *const outcomes[NGX_REFUND_OUTCOMES] = {
        "accepted", "rejected", "unknown"
    };

    for (i = 0; i < m->counters->nmerchants; i++) {
        merchant = &m->counters->merchants[i];

        ngx_http_refund_status_string(m, 0, "merchant", merchant->name,
                                      merchant->len);

        for (version = 0; version < NGX_REFUND_VERSIONS; version++) {
            cells = merchant->requests[version];

            if (cells[0] + cells[1] + cells[2] == 0) {
                continue;
            }

            ngx_http_refund_status_label(m, 1, "api_version",
                                     ngx_http_refund_status_versions[version]);

            for (outcome = 0; outcome < NGX_REFUND_OUTCOMES; outcome++) {
                ngx_http_refund_status_label(m, 2, "outcome",
                                             outcomes[outcome]);
                ngx_http_refund_status_put(m, cells[outcome]);
            }
        }
    }
}


static void
ngx_http_refund_status_store_up(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_store_t        *store;
    ngx_http_refund_store_state_t   state;

    store = NULL;

    while (ngx_http_refund_status_next_store(m, &store)) {
        state = ngx_http_refund_status_store(m->counters, store);

        ngx_http_refund_status_put(m, state.reach == NGX_REFUND_REACH_UP);
    }
}


static void
ngx_http_refund_status_store_connections(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_store_t        *store;
    ngx_http_refund_store_state_t   state;

    store = NULL;

    while (ngx_http_refund_status_next_store(m, &store)) {
        state = ngx_http_refund_status_store(m->counters, store);

        ngx_http_refund_status_put(m, state.connections);
    }
}


static void
ngx_http_refund_status_store_operations(ngx_http_refund_status_metrics_t *m)
{
    ngx_uint_t                i, k;
    ngx_atomic_uint_t         n;
    ngx_http_refund_store_t  *store;

    store = NULL;

    while (ngx_http_refund_status_next_store(m, &store)) {

        for (i = 0; i < NGX_REFUND_STORE_OPERATION_COUNT; i++) {
            ngx_http_refund_status_label(m, 1, "operation",
                                         ngx_http_refund_status_operations[i]);

            for (k = 0; k < NGX_REFUND_STORE_RESULT_COUNT; k++) {
                n = store->counters->operations[i][k];

                if (n == 0
                    && !(ngx_http_refund_status_possible[i] & (1 << k)))
                {
                    continue;
                }

                ngx_http_refund_status_label(m, 2, "result",
                                      ngx_http_refund_status_store_results[k]);
                ngx_http_refund_status_put(m, n);
            }
        }
    }
}


static void
ngx_http_refund_status_store_time(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_store_t  *store;

    store = NULL;

    while (ngx_http_refund_status_next_store(m, &store)) {
        ngx_http_refund_status_put_histogram(m->out, m->labels,
                                             store->counters->time);
    }
}


static void
ngx_http_refund_status_store_cache_hits(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_store_t  *store;

    store = NULL;

    while (ngx_http_refund_status_next_store(m, &store)) {
        if (store->cache) {
            ngx_http_refund_status_put(m, store->counters->cache_hits);
        }
    }
}


static void
ngx_http_refund_status_store_records(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_status_zones(m,
                             offsetof(ngx_http_refund_store_fill_t, records));
}


static void
ngx_http_refund_status_store_capacity(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_status_zones(m,
                             offsetof(ngx_http_refund_store_fill_t, capacity));
}


static void
ngx_http_refund_status_store_evictions(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_status_zones(m,
                             offsetof(ngx_http_refund_store_fill_t, evicted));
}


static void
ngx_http_refund_status_zones(ngx_http_refund_status_metrics_t *m,
    size_t offset)
{
    const char                     *zone;
    ngx_http_refund_store_t        *store;
    ngx_http_refund_store_fill_t    fill;
    ngx_http_refund_store_table_t  *table;

    store = NULL;

    while (ngx_http_refund_status_next_store(m, &store)) {

        if (store->ops == &ngx_http_refund_store_shm_ops) {
            zone = "records";
            table = store->data;

        } else if (store->cache) {
            zone = "cache";
            table = store->cache->data;

        } else {
            continue;
        }

        ngx_http_refund_store_table_fill(table, &fill);

        ngx_http_refund_status_label(m, 1, "zone", zone);
        ngx_http_refund_status_put(m,
                              *(ngx_uint_t *) ((char *) &fill + offset));
    }
}


static void
ngx_http_refund_status_certificates(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_merchants_t  *merchants;

    merchants = &m->conf->notify->merchants;

    ngx_http_refund_status_tree(m, merchants->tree.root, &merchants->sentinel);
}


static void
ngx_http_refund_status_tree(ngx_http_refund_status_metrics_t *m,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel)
{
    ngx_uint_t                               i;
    ngx_http_refund_merchant_t              *merchant;
    ngx_http_refund_merchant_certificate_t  *certificate;

    if (node == sentinel) {
        return;
    }

    ngx_http_refund_status_tree(m, node->left, sentinel);

    merchant = (ngx_http_refund_merchant_t *) node;
    certificate = merchant->certificates.elts;

    ngx_http_refund_status_string(m, 0, "merchant", merchant->sn.str.data,
                                  merchant->sn.str.len);

    for (i = 0; i < merchant->certificates.nelts; i++) {
        ngx_http_refund_status_label(m, 1, "kind",
                                     certificate[i].ours ? "merchant"
                                                         : "wechatpay");
        ngx_http_refund_status_string(m, 2, "file", certificate[i].file.data,
                                      certificate[i].file.len);
        ngx_http_refund_status_put(m, certificate[i].not_after);
    }

    ngx_http_refund_status_tree(m, node->right, sentinel);
}


static void
ngx_http_refund_status_workers(ngx_http_refund_status_metrics_t *m)
{
    ngx_uint_t  i, n;

    n = 0;

    for (i = 0; i < NGX_MAX_PROCESSES; i++) {
        n += ngx_refund_counters_alive(&m->counters->workers[i]);
    }

    ngx_http_refund_status_put(m, n);
}


static void
ngx_http_refund_status_start(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_status_put(m, m->counters->start);
}


static void
ngx_http_refund_status_build(ngx_http_refund_status_metrics_t *m)
{
    ngx_http_refund_status_label(m, 0, "version", NGX_HTTP_REFUND_VERSION);
    ngx_http_refund_status_label(m, 1, "nginx", NGINX_VERSION);
    ngx_http_refund_status_put(m, 1);
}


/* The one in use after *store, or the first after NULL, with its label. */

static ngx_uint_t
ngx_http_refund_status_next_store(ngx_http_refund_status_metrics_t *m,
    ngx_http_refund_store_t **store)
{
    ngx_uint_t                 i;
    ngx_array_t               *stores;
    ngx_http_refund_store_t  **s;

    stores = &m->conf->notify->stores;
    s = stores->elts;
    i = 0;

    if (*store) {
        while (s[i++] != *store) {
            /* void */
        }
    }

    for ( /* void */ ; i < stores->nelts; i++) {

        if (s[i]->counters == NULL || !s[i]->used) {
            continue;
        }

        *store = s[i];

        ngx_http_refund_status_string(m, 0, "store", s[i]->name.data,
                                      s[i]->name.len);
        return 1;
    }

    return 0;
}


static void
ngx_http_refund_status_string(ngx_http_refund_status_metrics_t *m,
    ngx_uint_t n, const char *name, u_char *data, size_t len)
{
    m->labels[n].name = name;
    m->labels[n].value.data = data;
    m->labels[n].value.len = len;
}


static void
ngx_http_refund_status_label(ngx_http_refund_status_metrics_t *m,
    ngx_uint_t n, const char *name, const char *value)
{
    ngx_http_refund_status_string(m, n, name, (u_char *) value,
                                  ngx_strlen(value));
}


static void
ngx_http_refund_status_put(ngx_http_refund_status_metrics_t *m,
    ngx_atomic_uint_t value)
{
    ngx_http_refund_status_put_sample(m->out, m->labels, value);
}

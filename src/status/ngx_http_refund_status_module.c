
/*
 * Copyright (C) the refund-notify authors
 *
 * refund_status: the directive, the zone of the counters, and what each worker
 * adds to it by itself.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_status.h"


/* milliseconds between two looks at the stores */
#define NGX_HTTP_REFUND_STATUS_INTERVAL  1000


static void *ngx_http_refund_status_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_refund_status(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_refund_status_init(ngx_conf_t *cf);
static ngx_uint_t ngx_http_refund_status_count(ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel);
static ngx_int_t ngx_http_refund_status_init_module(ngx_cycle_t *cycle);
static ngx_http_refund_merchant_t *ngx_http_refund_status_name_merchants(
    ngx_refund_counters_t *counters, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel);
static void ngx_http_refund_status_name_stores(
    ngx_refund_counters_t *counters, ngx_array_t *stores, ngx_log_t *log);
static ngx_int_t ngx_http_refund_status_init_process(ngx_cycle_t *cycle);
static void ngx_http_refund_status_exit_process(ngx_cycle_t *cycle);
static void ngx_http_refund_status_timer_handler(ngx_event_t *ev);
static void ngx_http_refund_status_state(ngx_http_refund_store_t *store,
    ngx_http_refund_store_state_t *state);


static ngx_event_t  ngx_http_refund_status_timer;


static ngx_command_t  ngx_http_refund_status_commands[] = {

    { ngx_string("refund_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_refund_status,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_refund_status_module_ctx = {
    NULL,                                   /* preconfiguration */
    ngx_http_refund_status_init,            /* postconfiguration */

    ngx_http_refund_status_create_main_conf, /* create main configuration */
    NULL,                                   /* init main configuration */

    NULL,                                   /* create server configuration */
    NULL,                                   /* merge server configuration */

    NULL,                                   /* create location configuration */
    NULL                                    /* merge location configuration */
};


ngx_module_t  ngx_http_refund_status_module = {
    NGX_MODULE_V1,
    &ngx_http_refund_status_module_ctx,     /* module context */
    ngx_http_refund_status_commands,        /* module directives */
    NGX_HTTP_MODULE,                        /* module type */
    NULL,                                   /* init master */
    ngx_http_refund_status_init_module,     /* init module */
    ngx_http_refund_status_init_process,    /* init process */
    NULL,                                   /* init thread */
    NULL,                                   /* exit thread */
    ngx_http_refund_status_exit_process,    /* exit process */
    NULL,                                   /* exit master */
    NGX_MODULE_V1_PADDING
};


static void *
ngx_http_refund_status_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_refund_status_main_conf_t  *smcf;

    smcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_refund_status_main_conf_t));

    if (smcf == NULL
        || ngx_array_init(&smcf->locations, cf->pool, 1,
                          sizeof(ngx_http_refund_status_location_t))
           != NGX_OK)
    {
        return NULL;
    }

    return smcf;
}


static char *
ngx_http_refund_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_refund_status_main_conf_t *smcf = conf;

    ngx_http_core_loc_conf_t           *clcf;
    ngx_http_refund_status_location_t  *location;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler == ngx_http_refund_status_handler) {
        return "is duplicate";
    }

    if (clcf->handler) {
        return "conflicts with a directive before it in this location: give "
               "it a location of its own";
    }

    location = ngx_array_push(&smcf->locations);
    if (location == NULL) {
        return NGX_CONF_ERROR;
    }

    location->location = clcf;
    ngx_http_refund_conf_place(cf, &location->place);

    clcf->handler = ngx_http_refund_status_handler;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_refund_status_init(ngx_conf_t *cf)
{
    ngx_uint_t                           i, merchants;
    ngx_http_refund_merchants_t         *tree;
    ngx_http_refund_status_location_t   *location;
    ngx_http_refund_status_main_conf_t  *smcf;

    smcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_refund_status_module);

    if (smcf->locations.nelts == 0) {
        return NGX_OK;
    }

    location = smcf->locations.elts;

    for (i = 0; i < smcf->locations.nelts; i++) {
        if (location[i].location->handler != ngx_http_refund_status_handler) {
            ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &location[i].place,
                                       "\"refund_status\" conflicts with a "
                                       "directive after it in this location: "
                                       "give it a location of its own");
            return NGX_ERROR;
        }
    }

    smcf->notify = ngx_http_conf_get_module_main_conf(cf,
                                                ngx_http_refund_notify_module);

    if (smcf->notify->stores.nelts > NGX_REFUND_STORES_MAX) {
        ngx_http_refund_conf_error(NGX_LOG_WARN, cf, &location[0].place,
                                   "\"refund_status\" tells of %d stores only",
                                   NGX_REFUND_STORES_MAX);
    }

    tree = &smcf->notify->merchants;
    merchants = ngx_http_refund_status_count(tree->tree.root, &tree->sentinel);

    smcf->zone = ngx_refund_counters_zone(cf, merchants,
                                          &ngx_http_refund_status_module);
    if (smcf->zone == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_refund_status_page_policy(cf->pool, &smcf->policy);
}


static ngx_uint_t
ngx_http_refund_status_count(ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel)
{
    if (node == sentinel) {
        return 0;
    }

    return 1 + ngx_http_refund_status_count(node->left, sentinel)
           + ngx_http_refund_status_count(node->right, sentinel);
}


/* In the master: the zones are there, and the workers are not yet. */

static ngx_int_t
ngx_http_refund_status_init_module(ngx_cycle_t *cycle)
{
    ngx_refund_counters_t               *counters;
    ngx_http_refund_merchant_t          *nameless;
    ngx_http_refund_merchants_t         *merchants;
    ngx_http_refund_status_main_conf_t  *smcf;

    smcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_refund_status_module);

    counters = (smcf && smcf->zone) ? smcf->zone->data : NULL;

    if (ngx_refund_worker) {
        /* without a master the old zone goes, and no process begins */
        ngx_refund_counters_init_process(counters);
    }

    if (counters == NULL) {
        return NGX_OK;
    }

    smcf->generation = ++counters->generation;

    merchants = &smcf->notify->merchants;

    nameless = ngx_http_refund_status_name_merchants(counters,
                                                     merchants->tree.root,
                                                     &merchants->sentinel);

    if (nameless) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "\"refund_status\" has no room for merchant \"%V\" and "
                      "perhaps others, which it counts without a name: "
                      "restart nginx", &nameless->sn.str);
    }

    ngx_http_refund_status_name_stores(counters, &smcf->notify->stores,
                                       cycle->log);

    return NGX_OK;
}


/* NULL: all have counters; else the last that has none of its own. */

static ngx_http_refund_merchant_t *
ngx_http_refund_status_name_merchants(ngx_refund_counters_t *counters,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel)
{
    ngx_http_refund_merchant_t  *merchant, *nameless, *other;

    if (node == sentinel) {
        return NULL;
    }

    nameless = ngx_http_refund_status_name_merchants(counters, node->left,
                                                     sentinel);

    merchant = (ngx_http_refund_merchant_t *) node;
    merchant->counters = ngx_refund_counters_merchant(counters,
                                                      &merchant->sn.str);

    if (merchant->counters == &counters->merchants[0]) {
        nameless = merchant;

    } else {
        merchant->counters->versions =
            wechatpay_merchant_accepts(merchant->wechatpay, WECHATPAY_V2)
                << WECHATPAY_V2
            | wechatpay_merchant_accepts(merchant->wechatpay, WECHATPAY_V3)
                << WECHATPAY_V3;
    }

    other = ngx_http_refund_status_name_merchants(counters, node->right,
                                                  sentinel);

    return other ? other : nameless;
}


/* Those that have counters keep them: only then is room made for others. */

static void
ngx_http_refund_status_name_stores(ngx_refund_counters_t *counters,
    ngx_array_t *stores, ngx_log_t *log)
{
    ngx_uint_t                 i;
    ngx_http_refund_store_t  **store;

    store = stores->elts;

    for (i = 0; i < stores->nelts; i++) {
        store[i]->counters = ngx_refund_counters_find_store(counters,
                                                            &store[i]->name);
    }

    for (i = 0; i < stores->nelts; i++) {

        if (store[i]->counters || !store[i]->used) {
            continue;
        }

        store[i]->counters = ngx_refund_counters_add_store(counters,
                                                           &store[i]->name);

        if (store[i]->counters == NULL) {
            ngx_log_error(NGX_LOG_WARN, log, 0,
                          "\"refund_status\" has no room for store \"%V\", of "
                          "which \"?ready\" alone tells: reload when the old "
                          "workers are gone", &store[i]->name);
        }
    }
}


static ngx_int_t
ngx_http_refund_status_init_process(ngx_cycle_t *cycle)
{
    ngx_event_t                         *ev;
    ngx_http_refund_status_main_conf_t  *smcf;

    static ngx_connection_t  connection = { .fd = (ngx_socket_t) -1 };

    if (ngx_process != NGX_PROCESS_WORKER
        && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    smcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_refund_status_module);

    if (smcf == NULL || smcf->zone == NULL) {
        ngx_refund_counters_init_process(NULL);
        return NGX_OK;
    }

    ngx_refund_counters_init_process(smcf->zone->data);

    ev = &ngx_http_refund_status_timer;

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }

    ngx_memzero(ev, sizeof(ngx_event_t));

    ev->handler = ngx_http_refund_status_timer_handler;
    ev->data = &connection;             /* the log of a timer wants its fd */
    ev->log = cycle->log;
    ev->cancelable = 1;

    ngx_add_timer(ev, 1);

    return NGX_OK;
}


static void
ngx_http_refund_status_exit_process(ngx_cycle_t *cycle)
{
    /* the timer goes with this module's file, and other timers hang on it */

    if (ngx_http_refund_status_timer.timer_set) {
        ngx_del_timer(&ngx_http_refund_status_timer);
    }

    ngx_refund_counters_exit_process();
}


static void
ngx_http_refund_status_timer_handler(ngx_event_t *ev)
{
    ngx_http_refund_status_main_conf_t  *smcf;

    /* without a master it may be another one by now */

    smcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_refund_status_module);

    if (smcf == NULL || smcf->zone == NULL) {
        return;
    }

    ngx_http_refund_status_publish(smcf);

    /* also while the worker exits, which does not wait for it */

    ngx_add_timer(ev, NGX_HTTP_REFUND_STATUS_INTERVAL);
}


void
ngx_http_refund_status_publish(ngx_http_refund_status_main_conf_t *smcf)
{
    ngx_uint_t                       i, n;
    ngx_refund_counters_t           *counters;
    ngx_http_refund_store_t        **store;
    ngx_http_refund_store_state_t    state;

    counters = smcf->zone->data;
    store = smcf->notify->stores.elts;

    ngx_refund_counters_seen(smcf->generation);

    for (i = 0; i < smcf->notify->stores.nelts; i++) {

        if (store[i]->counters == NULL) {
            continue;
        }

        n = store[i]->counters - counters->stores;

        /*
         * A worker that exits lets its connections go; what it knew stands
         * until others know.
         */

        if (ngx_exiting) {
            ngx_refund_worker->connections[n] = 0;
            continue;
        }

        ngx_http_refund_status_state(store[i], &state);

        ngx_refund_worker->reach[n] = (u_char) state.reach;
        ngx_refund_worker->connections[n] =
                                   (u_char) ngx_min(state.connections, 255);

        if (state.reach != NGX_REFUND_REACH_UNKNOWN) {
            store[i]->counters->reach = state.reach;
        }
    }
}


static void
ngx_http_refund_status_state(ngx_http_refund_store_t *store,
    ngx_http_refund_store_state_t *state)
{
    ngx_memzero(state, sizeof(ngx_http_refund_store_state_t));

    if (store->ops->state) {
        store->ops->state(store, state);

    } else {
        state->reach = NGX_REFUND_REACH_UP;
    }
}


ngx_http_refund_store_state_t
ngx_http_refund_status_store(ngx_refund_counters_t *counters,
    ngx_http_refund_store_t *store)
{
    ngx_uint_t                      i, n, reach, generation;
    ngx_refund_worker_counters_t   *worker;
    ngx_http_refund_store_state_t   state;

    if (store->counters == NULL) {
        ngx_http_refund_status_state(store, &state);
        return state;
    }

    n = store->counters - counters->stores;

    state.reach = NGX_REFUND_REACH_UNKNOWN;
    state.connections = 0;
    generation = 0;

    for (i = 0; i < NGX_MAX_PROCESSES; i++) {
        worker = &counters->workers[i];
        reach = worker->reach[n];

        if (reach == NGX_REFUND_REACH_UNKNOWN
            || !ngx_refund_counters_alive(worker))
        {
            continue;
        }

        state.connections += worker->connections[n];

        /*
         * Those of the newest configuration know best; and one that is cut off
         * fails its share of the notifies.
         */

        if (worker->generation > generation
            || (worker->generation == generation
                && state.reach != NGX_REFUND_REACH_DOWN))
        {
            state.reach = reach;
            generation = worker->generation;
        }
    }

    if (state.reach == NGX_REFUND_REACH_UNKNOWN) {
        state.reach = store->counters->reach;
    }

    return state;
}

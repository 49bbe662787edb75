
/*
 * Copyright (C) the refund-notify authors
 *
 * The inbound half: its directives, their checks, and its registration.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_notify.h"
#include "ngx_http_refund_target.h"
#include "ngx_http_refund_webhook.h"


/* WeChat Pay waits 5 s, repeats after 15 s, the last time after 24 h 4 min */
#define NGX_HTTP_REFUND_NOTIFY_DEADLINE_WARN  4500
#define NGX_HTTP_REFUND_NOTIFY_LEASE_WARN     15000
#define NGX_HTTP_REFUND_NOTIFY_RETAIN_WARN    (25 * 60 * 60 * 1000)

#define NGX_HTTP_REFUND_NOTIFY_BODY_MAX  (1024 * 1024)

/* a lease has to outlast a few operations of the store that renew it */
#define NGX_HTTP_REFUND_NOTIFY_LEASE_TIMEOUTS  5
#define NGX_HTTP_REFUND_NOTIFY_LEASE_MIN      1000

/* what a record can hold; a year is more than enough */
#define NGX_HTTP_REFUND_NOTIFY_RETAIN_MAX                                     \
    ((ngx_msec_t) 365 * 24 * 60 * 60 * 1000)

/* a window any wider would take replays of a day for fresh, seconds */
#define NGX_HTTP_REFUND_NOTIFY_SKEW_MAX       3600


static void *ngx_http_refund_notify_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_refund_notify_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_refund_notify_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_http_refund_notify_check(ngx_conf_t *cf,
    ngx_http_refund_notify_loc_conf_t *conf);
static char *ngx_http_refund_notify_check_merchant(ngx_conf_t *cf,
    ngx_http_refund_notify_loc_conf_t *conf);
static char *ngx_http_refund_notify_check_store(ngx_conf_t *cf,
    ngx_http_refund_notify_loc_conf_t *conf);
static char *ngx_http_refund_notify_check_times(ngx_conf_t *cf,
    ngx_http_refund_notify_loc_conf_t *conf);
static void ngx_http_refund_notify_check_servers(ngx_conf_t *cf,
    ngx_http_refund_notify_main_conf_t *nmcf);
static ngx_uint_t ngx_http_refund_notify_same_targets(ngx_conf_t *cf,
    ngx_http_refund_notify_loc_conf_t *conf,
    ngx_http_refund_notify_loc_conf_t *other);
static ngx_int_t ngx_http_refund_notify_request_id(ngx_conf_t *cf);
static ngx_int_t ngx_http_refund_notify_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_refund_notify_start(ngx_cycle_t *cycle);
static void ngx_http_refund_notify_stop(ngx_cycle_t *cycle);

static char *ngx_http_refund_notify_store_block(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_refund_notify(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_refund_notify_pass(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_refund_notify_store(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_refund_notify_placed(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/* a directive that stands nowhere is told by the place of "refund_notify" */

#define ngx_http_refund_notify_error(level, cf, conf, directive, ...)         \
    ngx_http_refund_conf_error(level, cf,                                     \
        (conf)->places[NGX_HTTP_REFUND_NOTIFY_##directive].file.len           \
        ? &(conf)->places[NGX_HTTP_REFUND_NOTIFY_##directive]                 \
        : &(conf)->merchant.place, __VA_ARGS__)


static ngx_conf_bitmask_t  ngx_http_refund_notify_accept_values[] = {
    { ngx_string("v2"), NGX_HTTP_REFUND_NOTIFY_V2 },
    { ngx_string("v3"), NGX_HTTP_REFUND_NOTIFY_V3 },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_refund_notify_store_error_values[] = {
    { ngx_string("fail"), 0 },
    { ngx_string("pass"), 1 },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_refund_notify_ack_values[] = {
    { ngx_string("status"), NGX_HTTP_REFUND_ACK_STATUS },
    { ngx_string("code"), NGX_HTTP_REFUND_ACK_CODE },
    { ngx_null_string, 0 }
};


static ngx_conf_num_bounds_t  ngx_http_refund_notify_body_bounds = {
    ngx_conf_check_num_bounds, 1024, NGX_HTTP_REFUND_NOTIFY_BODY_MAX
};


static ngx_command_t  ngx_http_refund_notify_commands[] = {

    { ngx_string("refund_merchant"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_refund_merchant_block,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_refund_notify_main_conf_t, merchants),
      NULL },

    { ngx_string("refund_store"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_refund_notify_store_block,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("refund_notify"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_notify,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("refund_notify_pass"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_refund_notify_pass,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("refund_notify_store"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_notify_store,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("refund_notify_accept"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_refund_notify_placed,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_notify_loc_conf_t, accept),
      &ngx_http_refund_notify_accept_values },

    { ngx_string("refund_notify_deadline"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_notify_placed,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_notify_loc_conf_t, deadline),
      NULL },

    { ngx_string("refund_notify_delivery_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_notify_placed,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_notify_loc_conf_t, event.delivery_timeout),
      NULL },

    { ngx_string("refund_notify_lease"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_notify_placed,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_notify_loc_conf_t, event.lease),
      NULL },

    { ngx_string("refund_notify_retain"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_notify_placed,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_notify_loc_conf_t, event.retain),
      NULL },

    { ngx_string("refund_notify_store_error"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_notify_loc_conf_t, event.pass),
      &ngx_http_refund_notify_store_error_values },

    { ngx_string("refund_notify_clock_skew"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_notify_placed,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_notify_loc_conf_t, clock_skew),
      NULL },

    { ngx_string("refund_notify_max_body_size"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_notify_loc_conf_t, max_body_size),
      &ngx_http_refund_notify_body_bounds },

    { ngx_string("refund_notify_signing_key_file"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_webhook_key_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_notify_loc_conf_t, event.signing_keys),
      NULL },

    { ngx_string("refund_notify_ack"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_notify_loc_conf_t, event.ack),
      &ngx_http_refund_notify_ack_values },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_refund_notify_module_ctx = {
    ngx_http_refund_notify_add_variables,   /* preconfiguration */
    ngx_http_refund_notify_init,            /* postconfiguration */

    ngx_http_refund_notify_create_main_conf, /* create main configuration */
    NULL,                                   /* init main configuration */

    NULL,                                   /* create server configuration */
    NULL,                                   /* merge server configuration */

    ngx_http_refund_notify_create_loc_conf, /* create location configuration */
    ngx_http_refund_notify_merge_loc_conf   /* merge location configuration */
};


ngx_module_t  ngx_http_refund_notify_module = {
    NGX_MODULE_V1,
    &ngx_http_refund_notify_module_ctx,     /* module context */
    ngx_http_refund_notify_commands,        /* module directives */
    NGX_HTTP_MODULE,                        /* module type */
    NULL,                                   /* init master */
    ngx_http_refund_stores_init_module,     /* init module */
    ngx_http_refund_notify_start,           /* init process */
    NULL,                                   /* init thread */
    NULL,                                   /* exit thread */
    ngx_http_refund_notify_stop,            /* exit process */
    NULL,                                   /* exit master */
    NGX_MODULE_V1_PADDING
};


static void *
ngx_http_refund_notify_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_refund_notify_main_conf_t  *nmcf;

    nmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_refund_notify_main_conf_t));
    if (nmcf == NULL) {
        return NULL;
    }

    ngx_http_refund_merchants_init(&nmcf->merchants);

    if (ngx_array_init(&nmcf->stores, cf->pool, 2,
                       sizeof(ngx_http_refund_store_t *))
        != NGX_OK)
    {
        return NULL;
    }

    if (ngx_array_init(&nmcf->locations, cf->pool, 4,
                       sizeof(ngx_http_refund_notify_loc_conf_t *))
        != NGX_OK)
    {
        return NULL;
    }

    return nmcf;
}


static void *
ngx_http_refund_notify_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_refund_notify_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_refund_notify_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->merchant = { 0 };
     *     conf->store_name = { 0, NULL };
     *     conf->accept = 0;
     *     conf->event.targets = NULL;
     *     conf->event.store = NULL;
     */

    conf->deadline = NGX_CONF_UNSET_MSEC;
    conf->clock_skew = NGX_CONF_UNSET;
    conf->max_body_size = NGX_CONF_UNSET_SIZE;

    conf->event.signing_keys = NGX_CONF_UNSET_PTR;
    conf->event.delivery_timeout = NGX_CONF_UNSET_MSEC;
    conf->event.lease = NGX_CONF_UNSET_MSEC;
    conf->event.retain = NGX_CONF_UNSET_MSEC;
    conf->event.ack = NGX_CONF_UNSET_UINT;
    conf->event.pass = NGX_CONF_UNSET_UINT;

    return conf;
}


static char *
ngx_http_refund_notify_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_refund_notify_loc_conf_t *prev = parent;
    ngx_http_refund_notify_loc_conf_t *conf = child;

    ngx_uint_t                      i;
    ngx_http_core_loc_conf_t       *clcf;
    ngx_http_refund_target_conf_t  *target;

    if (conf->store_name.len == 0) {
        conf->store_name = prev->store_name;
        conf->store_place = prev->store_place;
    }

    for (i = 0; i < NGX_HTTP_REFUND_NOTIFY_PLACES; i++) {
        if (conf->places[i].file.len == 0) {
            conf->places[i] = prev->places[i];
        }
    }

    ngx_conf_merge_bitmask_value(conf->accept, prev->accept, 0);
    ngx_conf_merge_msec_value(conf->deadline, prev->deadline, 4000);
    ngx_conf_merge_sec_value(conf->clock_skew, prev->clock_skew, 300);
    ngx_conf_merge_size_value(conf->max_body_size, prev->max_body_size,
                              64 * 1024);

    ngx_conf_merge_ptr_value(conf->event.signing_keys,
                             prev->event.signing_keys, NULL);
    ngx_conf_merge_msec_value(conf->event.delivery_timeout,
                              prev->event.delivery_timeout, 60000);
    ngx_conf_merge_msec_value(conf->event.lease, prev->event.lease, 10000);
    ngx_conf_merge_msec_value(conf->event.retain, prev->event.retain,
                              72 * 60 * 60 * 1000);
    ngx_conf_merge_uint_value(conf->event.ack, prev->event.ack,
                              NGX_HTTP_REFUND_ACK_STATUS);
    ngx_conf_merge_uint_value(conf->event.pass, prev->event.pass, 0);

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if ((conf->merchant.text.len || (clcf->noname && prev->merchant.text.len))
        && (clcf->client_max_body_size == 0
            || clcf->client_max_body_size > NGX_HTTP_REFUND_NOTIFY_BODY_MAX))
    {
        /* of a chunked body only nginx itself sees the size while reading */
        clcf->client_max_body_size = NGX_HTTP_REFUND_NOTIFY_BODY_MAX;
    }

    if (conf->merchant.text.len == 0) {

        if (conf->event.targets) {
            target = conf->event.targets->elts;

            ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &target->place,
                                       "\"refund_notify_pass\" without "
                                       "\"refund_notify\" in its location: "
                                       "name the merchant there");
            return NGX_CONF_ERROR;
        }

        /* limit_except and if within the location */

        if (clcf->noname && prev->merchant.text.len && clcf->handler == NULL) {
            clcf->handler = ngx_http_refund_notify_handler;

            conf->merchant = prev->merchant;
            conf->event.targets = prev->event.targets;
            conf->event.store = prev->event.store;
        }

        return NGX_CONF_OK;
    }

    return ngx_http_refund_notify_check(cf, conf);
}


static char *
ngx_http_refund_notify_check(ngx_conf_t *cf,
    ngx_http_refund_notify_loc_conf_t *conf)
{
    ngx_http_refund_notify_main_conf_t   *nmcf;
    ngx_http_refund_notify_loc_conf_t   **location;

    if (conf->event.targets == NULL) {
        ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->merchant.place,
                                   "\"refund_notify\" without "
                                   "\"refund_notify_pass\": name the location "
                                   "that leads to the business app");
        return NGX_CONF_ERROR;
    }

    if (ngx_http_refund_notify_check_merchant(cf, conf) != NGX_CONF_OK
        || ngx_http_refund_notify_check_store(cf, conf) != NGX_CONF_OK
        || ngx_http_refund_notify_check_times(cf, conf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    conf->event.store->used = 1;
    conf->server = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);

    nmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_refund_notify_module);

    location = ngx_array_push(&nmcf->locations);
    if (location == NULL) {
        return NGX_CONF_ERROR;
    }

    *location = conf;
    nmcf->used = 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_notify_check_merchant(ngx_conf_t *cf,
    ngx_http_refund_notify_loc_conf_t *conf)
{
    ngx_uint_t                           v2, v3;
    wechatpay_merchant_t                *merchant;
    ngx_http_refund_notify_main_conf_t  *nmcf;

    nmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_refund_notify_module);

    if (ngx_http_refund_merchant_name_check(cf, &nmcf->merchants,
                                            &conf->merchant, "refund_notify",
                                            ngx_http_refund_notify_handler)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (conf->merchant.merchant == NULL) {
        return NGX_CONF_OK;
    }

    merchant = conf->merchant.merchant->wechatpay;

    v2 = wechatpay_merchant_accepts(merchant, WECHATPAY_V2);
    v3 = wechatpay_merchant_accepts(merchant, WECHATPAY_V3);

    if (!v2 && (conf->accept & NGX_HTTP_REFUND_NOTIFY_V2)) {
        ngx_http_refund_notify_error(NGX_LOG_EMERG, cf, conf, ACCEPT,
                                     "\"refund_notify_accept v2\", but "
                                     "merchant \"%V\" has no "
                                     "\"api_v2_key_file\": add it, or take "
                                     "\"v2\" away",
                                     &conf->merchant.text);
        return NGX_CONF_ERROR;
    }

    if (!v3 && (conf->accept & NGX_HTTP_REFUND_NOTIFY_V3)) {
        ngx_http_refund_notify_error(NGX_LOG_EMERG, cf, conf, ACCEPT,
                                     "\"refund_notify_accept v3\", but "
                                     "merchant \"%V\" lacks an "
                                     "\"api_v3_key_file\", or a "
                                     "\"wechatpay_public_key\" or "
                                     "\"wechatpay_certificate\": add it, or "
                                     "take \"v3\" away",
                                     &conf->merchant.text);
        return NGX_CONF_ERROR;
    }

    if (!v2 && !v3) {
        ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->merchant.place,
                                   "merchant \"%V\" of \"refund_notify\" has "
                                   "no keys: add an \"api_v2_key_file\", or an "
                                   "\"api_v3_key_file\" and a "
                                   "\"wechatpay_public_key\"",
                                   &conf->merchant.text);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_notify_check_store(ngx_conf_t *cf,
    ngx_http_refund_notify_loc_conf_t *conf)
{
    ngx_http_refund_notify_main_conf_t  *nmcf;

    nmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_refund_notify_module);

    if (conf->store_name.len == 0) {
        conf->event.store = ngx_http_refund_store_default(cf, &nmcf->stores);

        return conf->event.store ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    conf->event.store = ngx_http_refund_store_find(&nmcf->stores,
                                                   &conf->store_name);

    if (conf->event.store == NULL) {
        ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->store_place,
                                   "unknown store \"%V\" in "
                                   "\"refund_notify_store\": add a "
                                   "\"refund_store %V ...\" to http",
                                   &conf->store_name, &conf->store_name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_notify_check_times(ngx_conf_t *cf,
    ngx_http_refund_notify_loc_conf_t *conf)
{
    ngx_msec_t                     least;
    ngx_http_refund_event_conf_t  *event;

    event = &conf->event;

    if (conf->deadline == 0) {
        ngx_http_refund_notify_error(NGX_LOG_EMERG, cf, conf, DEADLINE,
                                     "\"refund_notify_deadline\" must be more "
                                     "than 0");
        return NGX_CONF_ERROR;
    }

    if (event->delivery_timeout == 0) {
        ngx_http_refund_notify_error(NGX_LOG_EMERG, cf, conf, TIMEOUT,
                                     "\"refund_notify_delivery_timeout\" must "
                                     "be more than 0");
        return NGX_CONF_ERROR;
    }

    if (conf->clock_skew == 0
        || conf->clock_skew > NGX_HTTP_REFUND_NOTIFY_SKEW_MAX)
    {
        ngx_http_refund_notify_error(NGX_LOG_EMERG, cf, conf, SKEW,
                                     "\"refund_notify_clock_skew\" must be "
                                     "between 1s and 1h, WeChat Pay says 300s");
        return NGX_CONF_ERROR;
    }

    if (event->lease < NGX_HTTP_REFUND_NOTIFY_LEASE_MIN) {
        ngx_http_refund_notify_error(NGX_LOG_EMERG, cf, conf, LEASE,
                                     "\"refund_notify_lease\" (%Mms) must be "
                                     "at least 1s", event->lease);
        return NGX_CONF_ERROR;
    }

    least = NGX_HTTP_REFUND_NOTIFY_LEASE_TIMEOUTS * event->store->timeout;

    if (event->lease < least) {
        ngx_http_refund_notify_error(NGX_LOG_EMERG, cf, conf, LEASE,
                                     "\"refund_notify_lease\" (%Mms) must be "
                                     "at least %d times the timeout of store "
                                     "\"%V\" (%Mms)", event->lease,
                                     NGX_HTTP_REFUND_NOTIFY_LEASE_TIMEOUTS,
                                     &event->store->name,
                                     event->store->timeout);
        return NGX_CONF_ERROR;
    }

    if (event->retain <= event->lease) {
        ngx_http_refund_notify_error(NGX_LOG_EMERG, cf, conf, RETAIN,
                                     "\"refund_notify_retain\" (%Mms) must be "
                                     "longer than \"refund_notify_lease\" "
                                     "(%Mms)", event->retain, event->lease);
        return NGX_CONF_ERROR;
    }

    if (event->retain > NGX_HTTP_REFUND_NOTIFY_RETAIN_MAX) {
        ngx_http_refund_notify_error(NGX_LOG_EMERG, cf, conf, RETAIN,
                                     "\"refund_notify_retain\" (%Mms) must be "
                                     "at most 365d", event->retain);
        return NGX_CONF_ERROR;
    }

    if (conf->deadline > NGX_HTTP_REFUND_NOTIFY_DEADLINE_WARN) {
        ngx_http_refund_notify_error(NGX_LOG_WARN, cf, conf, DEADLINE,
                                     "\"refund_notify_deadline\" (%Mms) is "
                                     "more than 4.5s: WeChat Pay waits 5s, the "
                                     "answer may come too late",
                                     conf->deadline);
    }

    if (event->lease > NGX_HTTP_REFUND_NOTIFY_LEASE_WARN) {
        ngx_http_refund_notify_error(NGX_LOG_WARN, cf, conf, LEASE,
                                     "\"refund_notify_lease\" (%Mms) is more "
                                     "than 15s: after a crash WeChat Pay's "
                                     "first repeats will be refused",
                                     event->lease);
    }

    if (event->retain < NGX_HTTP_REFUND_NOTIFY_RETAIN_WARN) {
        ngx_http_refund_notify_error(NGX_LOG_WARN, cf, conf, RETAIN,
                                     "\"refund_notify_retain\" (%Mms) is less "
                                     "than 25h: WeChat Pay repeats for 24h 4m, "
                                     "a late repeat would be delivered again",
                                     event->retain);
    }

    return NGX_CONF_OK;
}


/*
 * Two servers of one store and target name share the records: what one has
 * delivered the other takes for a duplicate.
 */

static void
ngx_http_refund_notify_check_servers(ngx_conf_t *cf,
    ngx_http_refund_notify_main_conf_t *nmcf)
{
    ngx_uint_t                           i, j;
    ngx_http_refund_notify_loc_conf_t  **location;

    location = nmcf->locations.elts;

    for (i = 1; i < nmcf->locations.nelts; i++) {
        for (j = 0; j < i; j++) {

            if (location[i]->server != location[j]->server
                && location[i]->event.store == location[j]->event.store
                && ngx_http_refund_notify_same_targets(cf, location[i],
                                                       location[j]))
            {
                /* one warning a location is enough */
                break;
            }
        }
    }
}


static ngx_uint_t
ngx_http_refund_notify_same_targets(ngx_conf_t *cf,
    ngx_http_refund_notify_loc_conf_t *conf,
    ngx_http_refund_notify_loc_conf_t *other)
{
    ngx_uint_t                      i, j;
    ngx_http_refund_target_conf_t  *a, *b;

    a = conf->event.targets->elts;
    b = other->event.targets->elts;

    for (i = 0; i < conf->event.targets->nelts; i++) {
        for (j = 0; j < other->event.targets->nelts; j++) {

            if (a[i].name.len != b[j].name.len
                || ngx_memcmp(a[i].name.data, b[j].name.data, a[i].name.len)
                   != 0)
            {
                continue;
            }

            ngx_http_refund_conf_error(NGX_LOG_WARN, cf, &a[i].place,
                                       "target \"%V\" of store \"%V\" stands "
                                       "in another server too, in %V:%ui: what "
                                       "one has delivered is a duplicate to "
                                       "the other; give them names of their "
                                       "own (name=) if that is not meant",
                                       &a[i].name, &conf->event.store->name,
                                       &b[j].place.file, b[j].place.line);
            return 1;
        }
    }

    return 0;
}


/* The index that log_format, or another directive, has made, or -1. */

static ngx_int_t
ngx_http_refund_notify_request_id(ngx_conf_t *cf)
{
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    v = cmcf->variables.elts;

    for (i = 0; i < cmcf->variables.nelts; i++) {
        if (v[i].name.len == sizeof("request_id") - 1
            && ngx_strncmp(v[i].name.data, "request_id", v[i].name.len) == 0)
        {
            return i;
        }
    }

    return -1;
}


static ngx_int_t
ngx_http_refund_notify_init(ngx_conf_t *cf)
{
    ngx_http_refund_notify_main_conf_t  *nmcf;

    nmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_refund_notify_module);

    if (ngx_http_refund_stores_init_names(cf, &nmcf->stores) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_refund_notify_check_servers(cf, nmcf);

    nmcf->request_id = ngx_http_refund_notify_request_id(cf);

    return ngx_http_refund_delivery_init(cf);
}


static ngx_int_t
ngx_http_refund_notify_start(ngx_cycle_t *cycle)
{
    ngx_http_refund_notify_main_conf_t  *nmcf;

    nmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_refund_notify_module);

    /* not in the cache manager and the like */

    if (nmcf == NULL || !nmcf->used
        || (ngx_process != NGX_PROCESS_WORKER
            && ngx_process != NGX_PROCESS_SINGLE))
    {
        return NGX_OK;
    }

    return ngx_http_refund_stores_init_process(&nmcf->stores, cycle);
}


static void
ngx_http_refund_notify_stop(ngx_cycle_t *cycle)
{
    ngx_http_refund_notify_main_conf_t  *nmcf;

    nmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_refund_notify_module);

    if (nmcf == NULL || !nmcf->used
        || (ngx_process != NGX_PROCESS_WORKER
            && ngx_process != NGX_PROCESS_SINGLE))
    {
        return;
    }

    /* what is cut still wants to tell its store */

    ngx_http_refund_delivery_exit_process();

    ngx_http_refund_stores_exit_process(&nmcf->stores);

    ngx_http_refund_target_exit_process();

    ngx_http_refund_notify_exit_process();
}


static char *
ngx_http_refund_notify_store_block(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_refund_notify_main_conf_t *nmcf = conf;

    return ngx_http_refund_store_directive(cf, cmd, &nmcf->stores);
}


static char *
ngx_http_refund_notify(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_refund_notify_loc_conf_t *nlcf = conf;

    return ngx_http_refund_merchant_name(cf, &nlcf->merchant,
                                         ngx_http_refund_notify_handler);
}


static char *
ngx_http_refund_notify_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_refund_notify_loc_conf_t *nlcf = conf;

    u_char                            *p;
    ngx_str_t                         *value, uri, name;
    ngx_uint_t                         i;
    ngx_http_refund_target_conf_t     *target, *t;
    ngx_http_compile_complex_value_t   ccv;

    value = cf->args->elts;
    uri = value[1];
    name = uri;

    if (cf->args->nelts == 3) {

        if (ngx_strncmp(value[2].data, "name=", 5) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of "
                               "\"refund_notify_pass\", only \"name=\" is "
                               "known", &value[2]);
            return NGX_CONF_ERROR;
        }

        name.data = value[2].data + 5;
        name.len = value[2].len - 5;
    }

    if (uri.len == 0
        || (uri.data[0] != '/' && ngx_http_script_variables_count(&uri) == 0))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid URI \"%V\" in \"refund_notify_pass\": it "
                           "must begin with \"/\"; a named location cannot "
                           "take deliveries", &uri);
        return NGX_CONF_ERROR;
    }

    /* it is a part of the record's key, and of log lines */

    for (p = name.data; p < name.data + name.len; p++) {
        if (*p <= 0x20 || *p == 0x7f) {
            break;
        }
    }

    if (name.len == 0 || name.len > 255 || p != name.data + name.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" in \"refund_notify_pass\": "
                           "use 1 to 255 characters without white space",
                           &name);
        return NGX_CONF_ERROR;
    }

    if (nlcf->event.targets == NULL) {
        nlcf->event.targets = ngx_array_create(cf->pool, 2,
                                        sizeof(ngx_http_refund_target_conf_t));
        if (nlcf->event.targets == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    t = nlcf->event.targets->elts;

    for (i = 0; i < nlcf->event.targets->nelts; i++) {
        if ((t[i].name.len == name.len
             && ngx_memcmp(t[i].name.data, name.data, name.len) == 0)
            || (t[i].source.len == uri.len
                && ngx_memcmp(t[i].source.data, uri.data, uri.len) == 0))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate target \"%V\" in "
                               "\"refund_notify_pass\": each needs a URI and a "
                               "name of its own", &name);
            return NGX_CONF_ERROR;
        }
    }

    target = ngx_array_push(nlcf->event.targets);
    if (target == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(target, sizeof(ngx_http_refund_target_conf_t));

    target->name = name;
    target->source = uri;
    ngx_http_refund_conf_place(cf, &target->place);

    if (ngx_http_script_variables_count(&uri) == 0) {
        p = ngx_strlchr(uri.data, uri.data + uri.len, '?');

        target->uri = uri;

        if (p) {
            target->uri.len = p - uri.data;
            target->args.data = p + 1;
            target->args.len = uri.data + uri.len - (p + 1);
        }

        return NGX_CONF_OK;
    }

    target->value = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (target->value == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &uri;
    ccv.complex_value = target->value;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_notify_store(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_refund_notify_loc_conf_t *nlcf = conf;

    ngx_str_t  *value;

    if (nlcf->store_name.len) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "has an empty store's name: name a refund_store";
    }

    nlcf->store_name = value[1];
    ngx_http_refund_conf_place(cf, &nlcf->store_place);

    return NGX_CONF_OK;
}


/*
 * A directive whose value is judged when all others are known, and then has to
 * be named by its place, wherever it was inherited from.
 */

static char *
ngx_http_refund_notify_placed(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_refund_notify_loc_conf_t *nlcf = conf;

    char        *rv;
    ngx_uint_t   i;

    static struct {
        ngx_uint_t    offset;
        char       *(*set)(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
    } directives[NGX_HTTP_REFUND_NOTIFY_PLACES] = {
        { offsetof(ngx_http_refund_notify_loc_conf_t, accept),
          ngx_conf_set_bitmask_slot },
        { offsetof(ngx_http_refund_notify_loc_conf_t, deadline),
          ngx_conf_set_msec_slot },
        { offsetof(ngx_http_refund_notify_loc_conf_t, event.delivery_timeout),
          ngx_conf_set_msec_slot },
        { offsetof(ngx_http_refund_notify_loc_conf_t, event.lease),
          ngx_conf_set_msec_slot },
        { offsetof(ngx_http_refund_notify_loc_conf_t, event.retain),
          ngx_conf_set_msec_slot },
        { offsetof(ngx_http_refund_notify_loc_conf_t, clock_skew),
          ngx_conf_set_sec_slot }
    };

    for (i = 0; directives[i].offset != cmd->offset; i++) {
        /* void */
    }

    rv = directives[i].set(cf, cmd, conf);

    ngx_http_refund_conf_place(cf, &nlcf->places[i]);

    return rv;
}

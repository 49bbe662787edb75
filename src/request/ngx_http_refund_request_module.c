
/*
 * Copyright (C) the refund-notify authors
 *
 * The outbound half: its directives, their checks, and its registration.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_notify.h"
#include "ngx_http_refund_request.h"
#include "ngx_http_refund_request_call.h"
#include "ngx_http_refund_request_rate.h"
#include "ngx_http_refund_span.h"


static void *ngx_http_refund_request_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_refund_request_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_refund_request_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_http_refund_request_check(ngx_conf_t *cf,
    ngx_http_refund_request_loc_conf_t *conf);
static char *ngx_http_refund_request_check_merchant(ngx_conf_t *cf,
    ngx_http_refund_request_loc_conf_t *conf);
static char *ngx_http_refund_request_add(ngx_conf_t *cf,
    ngx_http_refund_request_loc_conf_t *conf);
static ngx_int_t ngx_http_refund_request_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_refund_request_init_event(ngx_conf_t *cf,
    ngx_http_refund_request_loc_conf_t *conf);
static ngx_uint_t ngx_http_refund_request_same_target(
    ngx_http_refund_request_loc_conf_t *conf,
    ngx_http_refund_notify_loc_conf_t *location);
static void ngx_http_refund_request_stop(ngx_cycle_t *cycle);

static char *ngx_http_refund_request(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_refund_request_pass(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_refund_request_rate(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_refund_request_store(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_refund_request_event(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_refund_request_threads(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);


static ngx_conf_enum_t  ngx_http_refund_request_api_values[] = {
    { ngx_string("v2"), WECHATPAY_V2 },
    { ngx_string("v3"), WECHATPAY_V3 },
    { ngx_null_string, 0 }
};


static ngx_command_t  ngx_http_refund_request_commands[] = {

    { ngx_string("refund_request"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_request,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("refund_request_api"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_request_loc_conf_t, api),
      &ngx_http_refund_request_api_values },

    { ngx_string("refund_request_pass"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_request_pass,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("refund_request_notify_url"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_request_loc_conf_t, notify_url),
      NULL },

    { ngx_string("refund_request_deadline"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refund_request_loc_conf_t, deadline),
      NULL },

    { ngx_string("refund_request_error_rate"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_request_rate,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("refund_request_store"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_request_store,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("refund_request_pass_event"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_refund_request_event,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("refund_request_threads"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_refund_request_threads,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_refund_request_module_ctx = {
    NULL,                                   /* preconfiguration */
    ngx_http_refund_request_init,           /* postconfiguration */

    ngx_http_refund_request_create_main_conf, /* create main configuration */
    NULL,                                   /* init main configuration */

    NULL,                                   /* create server configuration */
    NULL,                                   /* merge server configuration */

    ngx_http_refund_request_create_loc_conf, /* create location configuration */
    ngx_http_refund_request_merge_loc_conf  /* merge location configuration */
};


ngx_module_t  ngx_http_refund_request_module = {
    NGX_MODULE_V1,
    &ngx_http_refund_request_module_ctx,    /* module context */
    ngx_http_refund_request_commands,       /* module directives */
    NGX_HTTP_MODULE,                        /* module type */
    NULL,                                   /* init master */
    NULL,                                   /* init module */
    NULL,                                   /* init process */
    NULL,                                   /* init thread */
    NULL,                                   /* exit thread */
    ngx_http_refund_request_stop,           /* exit process */
    NULL,                                   /* exit master */
    NGX_MODULE_V1_PADDING
};


static void *
ngx_http_refund_request_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_refund_request_main_conf_t  *rmcf;

    rmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_refund_request_main_conf_t));
    if (rmcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&rmcf->locations, cf->pool, 4,
                       sizeof(ngx_http_refund_request_loc_conf_t *))
        != NGX_OK)
    {
        return NULL;
    }

    return rmcf;
}


static void *
ngx_http_refund_request_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_refund_request_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_refund_request_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->merchant = { 0 };
     *     conf->pass = { 0, NULL };
     *     conf->notify_url = { 0, NULL };
     *     conf->errors = NULL;
     *     conf->store_name = { 0, NULL };
     *     conf->store = NULL;
     *     conf->event_uri = { 0, NULL };
     *     conf->event_name = { 0, NULL };
     *     conf->event = NULL;
     *     conf->thread_pool = NULL;
     */

    conf->api = NGX_CONF_UNSET_UINT;
    conf->deadline = NGX_CONF_UNSET_MSEC;
    conf->error_rate = NGX_CONF_UNSET_UINT;
    conf->threads = NGX_CONF_UNSET_UINT;

    return conf;
}


static char *
ngx_http_refund_request_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_refund_request_loc_conf_t *prev = parent;
    ngx_http_refund_request_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    ngx_conf_merge_uint_value(conf->api, prev->api, WECHATPAY_V3);
    ngx_conf_merge_str_value(conf->pass, prev->pass, "");
    ngx_conf_merge_str_value(conf->notify_url, prev->notify_url, "");
    ngx_conf_merge_msec_value(conf->deadline, prev->deadline, 15000);
    ngx_conf_merge_uint_value(conf->error_rate, prev->error_rate, 6000);

    if (conf->store_name.len == 0) {
        conf->store_name = prev->store_name;
        conf->store_place = prev->store_place;
    }

    if (conf->threads == NGX_CONF_UNSET_UINT) {
        conf->threads = (prev->threads == NGX_CONF_UNSET_UINT)
                        ? 0 : prev->threads;
#if (NGX_THREADS)
        conf->thread_pool = prev->thread_pool;
#endif
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (conf->merchant.text.len == 0) {

        if (conf->event_uri.len) {
            ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->event_place,
                                       "\"refund_request_pass_event\" without "
                                       "\"refund_request\" in its location: "
                                       "name the merchant there");
            return NGX_CONF_ERROR;
        }

        /* limit_except and if within the location */

        if (clcf->noname && prev->merchant.text.len && clcf->handler == NULL) {
            clcf->handler = ngx_http_refund_request_handler;

            conf->merchant = prev->merchant;
            conf->prefix = prev->prefix;
            conf->store = prev->store;
            conf->errors = prev->errors;
            conf->event_uri = prev->event_uri;
            conf->event_name = prev->event_name;
            conf->event_place = prev->event_place;

            return ngx_http_refund_request_add(cf, conf);
        }

        return NGX_CONF_OK;
    }

    conf->prefix = clcf->name.len;

    if (clcf->name.len && clcf->name.data[clcf->name.len - 1] == '/') {
        conf->prefix--;
    }

#if (NGX_PCRE)
    if (clcf->regex) {
        ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->merchant.place,
                                   "\"refund_request\" cannot stand in a "
                                   "location of a regular expression: what "
                                   "follows the location's name names the "
                                   "refund");
        return NGX_CONF_ERROR;
    }
#endif

    return ngx_http_refund_request_check(cf, conf);
}


static char *
ngx_http_refund_request_check(ngx_conf_t *cf,
    ngx_http_refund_request_loc_conf_t *conf)
{
    const char                          *error;
    ngx_http_refund_notify_main_conf_t  *nmcf;

    if (conf->pass.len == 0) {
        ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->merchant.place,
                                   "\"refund_request\" without "
                                   "\"refund_request_pass\": name the location "
                                   "that leads to WeChat Pay");
        return NGX_CONF_ERROR;
    }

    if (conf->deadline == 0) {
        ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->merchant.place,
                                   "\"refund_request_deadline\" must be more "
                                   "than 0");
        return NGX_CONF_ERROR;
    }

    if (ngx_http_refund_request_check_merchant(cf, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (conf->notify_url.len) {
        error = wechatpay_request_notify_url(
                                      ngx_http_refund_span(&conf->notify_url));
        if (error) {
            ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->merchant.place,
                                       "\"refund_request_notify_url %V\": %s",
                                       &conf->notify_url, error);
            return NGX_CONF_ERROR;
        }
    }

    nmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_refund_notify_module);

    if (conf->store_name.len) {
        conf->store = ngx_http_refund_store_find(&nmcf->stores,
                                                 &conf->store_name);

        if (conf->store == NULL) {
            ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->store_place,
                                       "unknown store \"%V\" in "
                                       "\"refund_request_store\": add a "
                                       "\"refund_store %V ...\" to http",
                                       &conf->store_name, &conf->store_name);
            return NGX_CONF_ERROR;
        }

        conf->store->used = 1;
    }

    conf->errors = ngx_http_refund_request_rate_zone(cf);
    if (conf->errors == NULL) {
        return NGX_CONF_ERROR;
    }

    nmcf->used = 1;

    return ngx_http_refund_request_add(cf, conf);
}


/* For what can be known only after all locations were read. */

static char *
ngx_http_refund_request_add(ngx_conf_t *cf,
    ngx_http_refund_request_loc_conf_t *conf)
{
    ngx_http_refund_request_main_conf_t   *rmcf;
    ngx_http_refund_request_loc_conf_t   **location;

    rmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_refund_request_module);

    location = ngx_array_push(&rmcf->locations);
    if (location == NULL) {
        return NGX_CONF_ERROR;
    }

    *location = conf;

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_request_check_merchant(ngx_conf_t *cf,
    ngx_http_refund_request_loc_conf_t *conf)
{
    const char                          *lacks;
    ngx_http_refund_notify_main_conf_t  *nmcf;

    nmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_refund_notify_module);

    if (ngx_http_refund_merchant_name_check(cf, &nmcf->merchants,
                                            &conf->merchant, "refund_request",
                                            ngx_http_refund_request_handler)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (conf->merchant.merchant == NULL) {
        return NGX_CONF_OK;
    }

    lacks = wechatpay_merchant_check_calls(conf->merchant.merchant->wechatpay,
                                           conf->api);
    if (lacks) {
        ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->merchant.place,
                                   "merchant \"%V\" of \"refund_request\" %s",
                                   &conf->merchant.text, lacks);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_refund_request_init(ngx_conf_t *cf)
{
    ngx_uint_t                            i;
    ngx_http_refund_request_main_conf_t  *rmcf;
    ngx_http_refund_request_loc_conf_t  **location;

    rmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_refund_request_module);

    location = rmcf->locations.elts;

    for (i = 0; i < rmcf->locations.nelts; i++) {
        if (ngx_http_refund_request_init_event(cf, location[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * The event is handed on as a notify location of the same store and target
 * would do it: the notify that follows must find its record.
 */

static ngx_int_t
ngx_http_refund_request_init_event(ngx_conf_t *cf,
    ngx_http_refund_request_loc_conf_t *conf)
{
    ngx_uint_t                            i;
    ngx_http_refund_event_conf_t         *event;
    ngx_http_refund_target_conf_t        *target;
    ngx_http_refund_notify_main_conf_t   *nmcf;
    ngx_http_refund_notify_loc_conf_t   **location;

    if (conf->event_uri.len == 0) {
        return NGX_OK;
    }

    nmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_refund_notify_module);

    event = NULL;
    location = nmcf->locations.elts;

    for (i = 0; i < nmcf->locations.nelts; i++) {

        if (!ngx_http_refund_request_same_target(conf, location[i])) {
            continue;
        }

        if (event && event->store != location[i]->event.store) {
            ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->event_place,
                                       "target \"%V\" of this "
                                       "\"refund_request_pass_event\" has "
                                       "records in more than one store: say "
                                       "which with \"refund_request_store\"",
                                       &conf->event_name);
            return NGX_ERROR;
        }

        if (event == NULL) {
            event = &location[i]->event;
        }
    }

    if (event == NULL) {
        ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &conf->event_place,
                                   "no \"refund_notify_pass\" has the name "
                                   "\"%V\" and the store of this "
                                   "\"refund_request_pass_event\": the notify "
                                   "that follows would be delivered again",
                                   &conf->event_name);
        return NGX_ERROR;
    }

    conf->event = ngx_palloc(cf->pool, sizeof(ngx_http_refund_event_conf_t));
    if (conf->event == NULL) {
        return NGX_ERROR;
    }

    *conf->event = *event;

    conf->event->targets = ngx_array_create(cf->pool, 1,
                                        sizeof(ngx_http_refund_target_conf_t));
    if (conf->event->targets == NULL) {
        return NGX_ERROR;
    }

    target = ngx_array_push(conf->event->targets);
    if (target == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(target, sizeof(ngx_http_refund_target_conf_t));

    target->name = conf->event_name;
    target->source = conf->event_uri;
    target->uri = conf->event_uri;
    target->place = conf->event_place;

    return NGX_OK;
}


/* Where both name their merchant, it has to be one. */

static ngx_uint_t
ngx_http_refund_request_same_target(ngx_http_refund_request_loc_conf_t *conf,
    ngx_http_refund_notify_loc_conf_t *location)
{
    ngx_uint_t                      i;
    ngx_http_refund_event_conf_t   *event;
    ngx_http_refund_target_conf_t  *target;

    event = &location->event;

    if ((conf->store && event->store != conf->store)
        || (conf->merchant.merchant && location->merchant.merchant
            && conf->merchant.merchant != location->merchant.merchant))
    {
        return 0;
    }

    target = event->targets->elts;

    for (i = 0; i < event->targets->nelts; i++) {
        if (target[i].name.len == conf->event_name.len
            && ngx_memcmp(target[i].name.data, conf->event_name.data,
                          conf->event_name.len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* The notify module has cut all calls before: it is the first of the two. */

static void
ngx_http_refund_request_stop(ngx_cycle_t *cycle)
{
    ngx_http_refund_request_call_exit_process();
}


static char *
ngx_http_refund_request(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_refund_request_loc_conf_t *rlcf = conf;

    return ngx_http_refund_merchant_name(cf, &rlcf->merchant,
                                         ngx_http_refund_request_handler);
}


static char *
ngx_http_refund_request_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_refund_request_loc_conf_t *rlcf = conf;

    ngx_str_t  *value;

    if (rlcf->pass.len) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len < 2 || value[1].data[0] != '/'
        || ngx_strlchr(value[1].data, value[1].data + value[1].len, '?')
        || ngx_strlchr(value[1].data, value[1].data + value[1].len, '$'))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid URI \"%V\" in \"refund_request_pass\": it "
                           "must be the plain path of a location, e.g. "
                           "/internal/wechatpay", &value[1]);
        return NGX_CONF_ERROR;
    }

    rlcf->pass = value[1];

    /* the paths of WeChat Pay's calls begin with one */

    if (rlcf->pass.data[rlcf->pass.len - 1] == '/') {
        rlcf->pass.len--;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_request_rate(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_refund_request_loc_conf_t *rlcf = conf;

    ngx_int_t   rate, scale;
    ngx_str_t  *value;

    if (rlcf->error_rate != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;
    rate = NGX_ERROR;
    scale = 1;

    if (value[1].len > 3) {

        if (ngx_strncmp(value[1].data + value[1].len - 3, "r/s", 3) == 0) {
            rate = ngx_atoi(value[1].data, value[1].len - 3);

        } else if (ngx_strncmp(value[1].data + value[1].len - 3, "r/m", 3)
                   == 0)
        {
            rate = ngx_atoi(value[1].data, value[1].len - 3);
            scale = 60;
        }
    }

    if (rate <= 0 || rate > 1000000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid rate \"%V\" in "
                           "\"refund_request_error_rate\": say e.g. 6r/s",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    rlcf->error_rate = rate * 1000 / scale;

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_request_store(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_refund_request_loc_conf_t *rlcf = conf;

    ngx_str_t  *value;

    if (rlcf->store_name.len) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "has an empty store's name: name a refund_store";
    }

    rlcf->store_name = value[1];
    ngx_http_refund_conf_place(cf, &rlcf->store_place);

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_request_event(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_refund_request_loc_conf_t *rlcf = conf;

    ngx_str_t  *value;

    if (rlcf->event_uri.len) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0 || value[1].data[0] != '/'
        || ngx_strlchr(value[1].data, value[1].data + value[1].len, '?')
        || ngx_strlchr(value[1].data, value[1].data + value[1].len, '$'))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid URI \"%V\" in "
                           "\"refund_request_pass_event\": it must be the "
                           "plain path of a delivery location", &value[1]);
        return NGX_CONF_ERROR;
    }

    rlcf->event_uri = value[1];
    rlcf->event_name = value[1];
    ngx_http_refund_conf_place(cf, &rlcf->event_place);

    if (cf->args->nelts == 3) {

        if (ngx_strncmp(value[2].data, "name=", 5) != 0 || value[2].len == 5) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of "
                               "\"refund_request_pass_event\", only \"name=\" "
                               "is known", &value[2]);
            return NGX_CONF_ERROR;
        }

        rlcf->event_name.data = value[2].data + 5;
        rlcf->event_name.len = value[2].len - 5;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_request_threads(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_refund_request_loc_conf_t *rlcf = conf;

    ngx_str_t  *value;

    if (rlcf->threads != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        rlcf->threads = 0;
        return NGX_CONF_OK;
    }

#if (NGX_THREADS)

    rlcf->threads = 1;
    rlcf->thread_pool = ngx_thread_pool_add(cf,
                            ngx_strcmp(value[1].data, "on") == 0 ? NULL
                                                                 : &value[1]);

    return rlcf->thread_pool ? NGX_CONF_OK : NGX_CONF_ERROR;

#else

    return "needs an nginx that was built with threads";

#endif
}


/*
 * Copyright (C) the refund-notify authors
 *
 * What refund_store says of a Redis, beside its URL.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_secret_file.h"
#include "ngx_http_refund_store_conf.h"


#define NGX_HTTP_REFUND_STORE_TIMEOUT         200           /* milliseconds */
#define NGX_HTTP_REFUND_STORE_TIMEOUT_MAX     10000


static ngx_int_t ngx_http_refund_store_login(
    ngx_http_refund_store_conf_t *conf, ngx_http_refund_store_param_e user,
    ngx_http_refund_store_param_e file, ngx_refund_redis_server_t *server);
static ngx_int_t ngx_http_refund_store_sentinel(
    ngx_http_refund_store_conf_t *conf, ngx_refund_redis_conf_t *redis);
static ngx_int_t ngx_http_refund_store_prefix(
    ngx_http_refund_store_conf_t *conf, ngx_str_t *prefix);
static ngx_int_t ngx_http_refund_store_min_replicas(
    ngx_http_refund_store_conf_t *conf, ngx_uint_t *min_replicas);
static ngx_int_t ngx_http_refund_store_timeout(
    ngx_http_refund_store_conf_t *conf);


ngx_int_t
ngx_http_refund_store_redis(ngx_http_refund_store_conf_t *conf)
{
    u_char                         *p;
    ngx_refund_redis_server_t      *server;
    ngx_http_refund_store_redis_t  *redis;

    redis = ngx_pcalloc(conf->cf->pool, sizeof(ngx_http_refund_store_redis_t));
    if (redis == NULL) {
        return NGX_ERROR;
    }

    server = &redis->conf.server;

    server->label.len = sizeof("refund_store \"\"") - 1
                              + conf->store->name.len;

    p = ngx_pnalloc(conf->cf->pool, server->label.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    server->label.data = p;
    (void) ngx_sprintf(p, "refund_store \"%V\"", &conf->store->name);

    if (ngx_http_refund_store_url(conf, &redis->conf) != NGX_OK
        || ngx_http_refund_store_tls(conf, &redis->conf) != NGX_OK
        || ngx_http_refund_store_login(conf, NGX_HTTP_REFUND_STORE_USER,
                                       NGX_HTTP_REFUND_STORE_PASSWORD_FILE,
                                       server)
           != NGX_OK
        || ngx_http_refund_store_prefix(conf, &redis->prefix) != NGX_OK
        || ngx_http_refund_store_min_replicas(conf, &redis->min_replicas)
           != NGX_OK
        || ngx_http_refund_store_timeout(conf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    server->timeout = conf->store->timeout;

    if (ngx_http_refund_store_sentinel(conf, &redis->conf) != NGX_OK) {
        return NGX_ERROR;
    }

    conf->store->ops = &ngx_http_refund_store_redis_ops;
    conf->store->data = redis;

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_store_login(ngx_http_refund_store_conf_t *conf,
    ngx_http_refund_store_param_e user, ngx_http_refund_store_param_e file,
    ngx_refund_redis_server_t *server)
{
    if (conf->values[file].data == NULL) {

        if (conf->values[user].data) {
            ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                               "\"%V\" in refund_store \"%V\" needs \"%V\"",
                               &ngx_http_refund_store_param_names[user],
                               &conf->store->name,
                               &ngx_http_refund_store_param_names[file]);
            return NGX_ERROR;
        }

        return NGX_OK;
    }

    server->user = conf->values[user];

    return ngx_http_refund_secret_file_read(conf->cf, &conf->values[file],
                                            &server->password);
}


/* The sentinels have users of their own, but TLS as the servers have it. */

static ngx_int_t
ngx_http_refund_store_sentinel(ngx_http_refund_store_conf_t *conf,
    ngx_refund_redis_conf_t *redis)
{
    if (conf->kind != NGX_HTTP_REFUND_STORE_SENTINEL) {
        return ngx_http_refund_store_without(conf,
                                 NGX_HTTP_REFUND_STORE_SENTINEL_USER,
                                 NGX_HTTP_REFUND_STORE_SENTINEL_PASSWORD_FILE,
                                 "this URL");
    }

    redis->sentinel.label = redis->server.label;
    redis->sentinel.timeout = redis->server.timeout;
    redis->sentinel.tls = redis->server.tls;

    return ngx_http_refund_store_login(conf,
                                 NGX_HTTP_REFUND_STORE_SENTINEL_USER,
                                 NGX_HTTP_REFUND_STORE_SENTINEL_PASSWORD_FILE,
                                 &redis->sentinel);
}


static ngx_int_t
ngx_http_refund_store_prefix(ngx_http_refund_store_conf_t *conf,
    ngx_str_t *prefix)
{
    u_char      c;
    ngx_uint_t  i;

    if (conf->values[NGX_HTTP_REFUND_STORE_PREFIX].data == NULL) {
        ngx_str_set(prefix, "");
        return NGX_OK;
    }

    *prefix = conf->values[NGX_HTTP_REFUND_STORE_PREFIX];

    for (i = 0; i < prefix->len; i++) {
        c = prefix->data[i];

        /* a brace would part the targets of an id in a Redis Cluster */

        if (c <= ' ' || c >= 0x7f || c == '{' || c == '}') {
            break;
        }
    }

    if (i < prefix->len || prefix->len > NGX_HTTP_REFUND_STORE_PREFIX_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "\"prefix=%V\" in refund_store \"%V\": must be at "
                           "most %d printable ASCII characters other than "
                           "space, \"{\" and \"}\"",
                           prefix, &conf->store->name,
                           NGX_HTTP_REFUND_STORE_PREFIX_MAX);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_store_min_replicas(ngx_http_refund_store_conf_t *conf,
    ngx_uint_t *min_replicas)
{
    ngx_int_t   n;
    ngx_str_t  *value;

    value = &conf->values[NGX_HTTP_REFUND_STORE_MIN_REPLICAS];

    if (value->data == NULL) {
        return NGX_OK;
    }

    n = ngx_atoi(value->data, value->len);

    if (n == NGX_ERROR || n < 1 || n > NGX_HTTP_REFUND_STORE_REPLICAS_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "\"min_replicas=%V\" in refund_store \"%V\": must "
                           "be between 1 and %d",
                           value, &conf->store->name,
                           NGX_HTTP_REFUND_STORE_REPLICAS_MAX);
        return NGX_ERROR;
    }

    *min_replicas = (ngx_uint_t) n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_store_timeout(ngx_http_refund_store_conf_t *conf)
{
    ngx_int_t   timeout;
    ngx_str_t  *value;

    value = &conf->values[NGX_HTTP_REFUND_STORE_PARAM_TIMEOUT];

    if (value->data == NULL) {
        conf->store->timeout = NGX_HTTP_REFUND_STORE_TIMEOUT;
        return NGX_OK;
    }

    timeout = ngx_parse_time(value, 0);

    if (timeout == NGX_ERROR
        || timeout == 0
        || timeout > NGX_HTTP_REFUND_STORE_TIMEOUT_MAX)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "\"timeout=%V\" in refund_store \"%V\": must be "
                           "between 1ms and 10s",
                           value, &conf->store->name);
        return NGX_ERROR;
    }

    conf->store->timeout = (ngx_msec_t) timeout;

    return NGX_OK;
}

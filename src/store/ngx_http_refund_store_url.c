
/*
 * Copyright (C) the refund-notify authors
 *
 * The URL of a Redis: where it is.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_store_conf.h"


#define NGX_HTTP_REFUND_STORE_DATABASE_MAX    65535
#define NGX_HTTP_REFUND_STORE_PORT            6379


static ngx_int_t ngx_http_refund_store_database(
    ngx_http_refund_store_conf_t *conf, ngx_str_t *path,
    ngx_refund_redis_conf_t *redis);
static ngx_int_t ngx_http_refund_store_resolve(
    ngx_http_refund_store_conf_t *conf, ngx_str_t *url,
    ngx_refund_redis_address_t *address);


/* host[:port][/database], [v6]..., or unix:/path[:database] */

ngx_int_t
ngx_http_refund_store_url(ngx_http_refund_store_conf_t *conf,
    ngx_refund_redis_conf_t *redis)
{
    u_char     *p, *last;
    ngx_str_t   address, path;

    address = conf->url;
    last = address.data + address.len;

    ngx_str_null(&path);

    if (address.len >= 5 && ngx_strncmp(address.data, "unix:", 5) == 0) {
        p = ngx_strlchr(address.data + 5, last, ':');

    } else {

        if (ngx_strlchr(address.data, last, '@')) {
            ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                               "the URL of refund_store \"%V\" holds a user "
                               "or password: put the user into \"user=\", "
                               "and the password into a file that "
                               "\"password_file=\" names",
                               &conf->store->name);
            return NGX_ERROR;
        }

        p = ngx_strlchr(address.data, last, '/');
    }

    if (p) {
        address.len = p - address.data;
        path.data = p + 1;
        path.len = last - path.data;
    }

    if (ngx_http_refund_store_database(conf, &path, redis) != NGX_OK) {
        return NGX_ERROR;
    }

    redis->addresses = ngx_pcalloc(conf->cf->pool,
                                   sizeof(ngx_refund_redis_address_t));
    if (redis->addresses == NULL) {
        return NGX_ERROR;
    }

    redis->ops = &ngx_refund_redis_single_ops;
    redis->n = 1;

    return ngx_http_refund_store_resolve(conf, &address, redis->addresses);
}


static ngx_int_t
ngx_http_refund_store_database(ngx_http_refund_store_conf_t *conf,
    ngx_str_t *path, ngx_refund_redis_conf_t *redis)
{
    ngx_int_t   n;
    ngx_str_t  *param;

    param = &conf->values[NGX_HTTP_REFUND_STORE_DATABASE];

    if (path->len && param->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "refund_store \"%V\" has a database in its URL and "
                           "in \"database=\": remove one",
                           &conf->store->name);
        return NGX_ERROR;
    }

    if (path->len == 0 && param->data == NULL) {
        return NGX_OK;
    }

    if (path->len) {
        param = path;
    }

    n = ngx_atoi(param->data, param->len);

    if (n == NGX_ERROR || n > NGX_HTTP_REFUND_STORE_DATABASE_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "invalid database \"%V\" in refund_store \"%V\": "
                           "must be a number between 0 and %d",
                           param, &conf->store->name,
                           NGX_HTTP_REFUND_STORE_DATABASE_MAX);
        return NGX_ERROR;
    }

    redis->server.database = (ngx_uint_t) n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_store_resolve(ngx_http_refund_store_conf_t *conf,
    ngx_str_t *url, ngx_refund_redis_address_t *address)
{
    u_char      *p;
    ngx_str_t   *numeric;
    ngx_url_t    u;
    ngx_uint_t   i;

    /* names are told while the configuration is read: a worker never waits */

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = *url;
    u.default_port = NGX_HTTP_REFUND_STORE_PORT;

    if (ngx_parse_url(conf->cf->pool, &u) != NGX_OK || u.naddrs == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "%s in the URL of refund_store \"%V\"",
                           u.err ? u.err : "invalid host", &conf->store->name);
        return NGX_ERROR;
    }

    address->host.data = ngx_pcalloc(conf->cf->pool, u.host.len + 1);
    if (address->host.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(address->host.data, u.host.data, u.host.len);
    address->host.len = u.host.len;

    if (u.family == AF_UNIX) {
        return NGX_OK;
    }

    address->port = u.port;

    numeric = ngx_palloc(conf->cf->pool, u.naddrs * sizeof(ngx_str_t));
    if (numeric == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < u.naddrs; i++) {
        p = ngx_pcalloc(conf->cf->pool, NGX_SOCKADDR_STRLEN + 1);
        if (p == NULL) {
            return NGX_ERROR;
        }

        numeric[i].data = p;
        numeric[i].len = ngx_sock_ntop(u.addrs[i].sockaddr,
                                       u.addrs[i].socklen, p,
                                       NGX_SOCKADDR_STRLEN, 0);
    }

    address->numeric = numeric;
    address->n = u.naddrs;

    return NGX_OK;
}

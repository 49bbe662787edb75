
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
static ngx_int_t ngx_http_refund_store_numeric(
    ngx_http_refund_store_conf_t *conf, ngx_addr_t *addr, ngx_str_t *numeric);
static ngx_int_t ngx_http_refund_store_text(ngx_http_refund_store_conf_t *conf,
    const ngx_str_t *from, ngx_str_t *to);


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
    ngx_url_t    u;
    ngx_str_t   *numeric;
    ngx_uint_t   i;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = *url;
    u.default_port = NGX_HTTP_REFUND_STORE_PORT;
    u.no_resolve = 1;

    if (ngx_parse_url(conf->cf->pool, &u) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "%s in the URL of refund_store \"%V\"",
                           u.err ? u.err : "invalid host", &conf->store->name);
        return NGX_ERROR;
    }

    address->port = (u.family == AF_UNIX) ? 0 : u.port;

    if (u.family == AF_UNIX) {
        return ngx_http_refund_store_text(conf, &u.host, &address->host);
    }

    if (u.naddrs) {
        return ngx_http_refund_store_numeric(conf, &u.addrs[0],
                                             &address->host);
    }

    if (ngx_http_refund_store_text(conf, &u.host, &address->host) != NGX_OK) {
        return NGX_ERROR;
    }

    /* no addresses: see ngx_http_refund_stores_init_names() */

    if (ngx_inet_resolve_host(conf->cf->pool, &u) != NGX_OK) {
        return NGX_OK;
    }

    numeric = ngx_palloc(conf->cf->pool, u.naddrs * sizeof(ngx_str_t));
    if (numeric == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < u.naddrs; i++) {
        if (ngx_http_refund_store_numeric(conf, &u.addrs[i], &numeric[i])
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    address->numeric = numeric;
    address->n = u.naddrs;

    return NGX_OK;
}


/* These end it with a NUL. */

static ngx_int_t
ngx_http_refund_store_numeric(ngx_http_refund_store_conf_t *conf,
    ngx_addr_t *addr, ngx_str_t *numeric)
{
    u_char     text[NGX_SOCKADDR_STRLEN];
    ngx_str_t  s;

    s.data = text;
    s.len = ngx_sock_ntop(addr->sockaddr, addr->socklen, text,
                          NGX_SOCKADDR_STRLEN, 0);

    return ngx_http_refund_store_text(conf, &s, numeric);
}


static ngx_int_t
ngx_http_refund_store_text(ngx_http_refund_store_conf_t *conf,
    const ngx_str_t *from, ngx_str_t *to)
{
    to->len = from->len;

    to->data = ngx_pcalloc(conf->cf->pool, from->len + 1);
    if (to->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(to->data, from->data, from->len);

    return NGX_OK;
}

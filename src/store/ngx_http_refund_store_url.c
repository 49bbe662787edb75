
/*
 * Copyright (C) the refund-notify authors
 *
 * The URL of a Redis: where it is.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_store_conf.h"


#define NGX_HTTP_REFUND_STORE_DATABASE_MAX    65535
#define NGX_HTTP_REFUND_STORE_MASTER_MAX      255
#define NGX_HTTP_REFUND_STORE_HOSTS_MAX       16

#define NGX_HTTP_REFUND_STORE_PORT            6379
#define NGX_HTTP_REFUND_STORE_SENTINEL_PORT   26379


static ngx_int_t ngx_http_refund_store_master(
    ngx_http_refund_store_conf_t *conf, ngx_str_t *path, ngx_str_t *master);
static ngx_int_t ngx_http_refund_store_database(
    ngx_http_refund_store_conf_t *conf, ngx_str_t *path,
    ngx_refund_redis_conf_t *redis);
static ngx_int_t ngx_http_refund_store_hosts(
    ngx_http_refund_store_conf_t *conf, ngx_str_t *hosts,
    ngx_refund_redis_conf_t *redis);
static ngx_int_t ngx_http_refund_store_resolve(
    ngx_http_refund_store_conf_t *conf, ngx_str_t *url,
    ngx_refund_redis_address_t *address);
static ngx_int_t ngx_http_refund_store_numeric(
    ngx_http_refund_store_conf_t *conf, ngx_addr_t *addr, ngx_str_t *numeric);
static ngx_int_t ngx_http_refund_store_text(ngx_http_refund_store_conf_t *conf,
    const ngx_str_t *from, ngx_str_t *to);


/*
 * host[:port][/database], [v6]..., or unix:/path[:database]; of sentinels
 * host[:port],.../master[/database]; of a cluster host[:port],...
 */

ngx_int_t
ngx_http_refund_store_url(ngx_http_refund_store_conf_t *conf,
    ngx_refund_redis_conf_t *redis)
{
    u_char     *p, *last;
    ngx_str_t   hosts, path;

    hosts = conf->url;
    last = hosts.data + hosts.len;

    ngx_str_null(&path);

    if (hosts.len >= 5 && ngx_strncmp(hosts.data, "unix:", 5) == 0) {

        if (conf->kind != NGX_HTTP_REFUND_STORE_REDIS) {
            ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                               "the URL of refund_store \"%V\" names a Unix "
                               "socket, which other machines cannot reach: "
                               "name hosts and ports", &conf->store->name);
            return NGX_ERROR;
        }

        p = ngx_strlchr(hosts.data + 5, last, ':');

    } else {

        if (ngx_strlchr(hosts.data, last, '@')) {
            ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                               "the URL of refund_store \"%V\" holds a user "
                               "or password: put the user into \"user=\", "
                               "and the password into a file that "
                               "\"password_file=\" names",
                               &conf->store->name);
            return NGX_ERROR;
        }

        p = ngx_strlchr(hosts.data, last, '/');
    }

    if (p) {
        hosts.len = p - hosts.data;
        path.data = p + 1;
        path.len = last - path.data;
    }

    redis->ops = &ngx_refund_redis_single_ops;

    if (conf->kind == NGX_HTTP_REFUND_STORE_SENTINEL) {
        redis->ops = &ngx_refund_redis_sentinel_ops;

        if (ngx_http_refund_store_master(conf, &path, &redis->master)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (ngx_http_refund_store_database(conf, &path, redis) != NGX_OK) {
        return NGX_ERROR;
    }

    if (conf->kind == NGX_HTTP_REFUND_STORE_CLUSTER) {
        redis->ops = &ngx_refund_redis_cluster_ops;

        if (redis->server.database) {
            ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                               "refund_store \"%V\" names a database, but a "
                               "Redis Cluster has only one: remove it",
                               &conf->store->name);
            return NGX_ERROR;
        }
    }

    return ngx_http_refund_store_hosts(conf, &hosts, redis);
}


/* Takes the master's name off the path. */

static ngx_int_t
ngx_http_refund_store_master(ngx_http_refund_store_conf_t *conf,
    ngx_str_t *path, ngx_str_t *master)
{
    u_char      c, *p, *last;
    ngx_uint_t  i;

    last = path->data + path->len;
    p = path->len ? ngx_strlchr(path->data, last, '/') : NULL;

    *master = *path;
    ngx_str_null(path);

    if (p) {
        master->len = p - master->data;
        path->data = p + 1;
        path->len = last - path->data;
    }

    if (master->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "the URL of refund_store \"%V\" names no master: "
                           "it must be "
                           "\"redis+sentinel://HOST:PORT,.../MASTER\"",
                           &conf->store->name);
        return NGX_ERROR;
    }

    for (i = 0; i < master->len; i++) {
        c = master->data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
              || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.'))
        {
            break;
        }
    }

    if (i < master->len || master->len > NGX_HTTP_REFUND_STORE_MASTER_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "invalid name \"%V\" of the master in the URL of "
                           "refund_store \"%V\": it must be 1 to %d letters, "
                           "digits, \"_\", \"-\" or \".\"",
                           master, &conf->store->name,
                           NGX_HTTP_REFUND_STORE_MASTER_MAX);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_store_hosts(ngx_http_refund_store_conf_t *conf,
    ngx_str_t *hosts, ngx_refund_redis_conf_t *redis)
{
    u_char                      *p, *last;
    ngx_str_t                    host;
    ngx_uint_t                   i, max;
    ngx_refund_redis_address_t  *addresses;

    /* a path may hold commas */

    max = (conf->kind == NGX_HTTP_REFUND_STORE_REDIS)
          ? 1 : NGX_HTTP_REFUND_STORE_HOSTS_MAX;

    addresses = ngx_pcalloc(conf->cf->pool,
                            max * sizeof(ngx_refund_redis_address_t));
    if (addresses == NULL) {
        return NGX_ERROR;
    }

    redis->addresses = addresses;

    if (max == 1) {
        redis->n = 1;
        return ngx_http_refund_store_resolve(conf, hosts, addresses);
    }

    p = hosts->data;
    last = hosts->data + hosts->len;

    for ( ;; ) {
        host.data = p;

        p = ngx_strlchr(p, last, ',');
        host.len = (p ? p : last) - host.data;

        if (host.len == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                               "a host is missing in the URL of refund_store "
                               "\"%V\"", &conf->store->name);
            return NGX_ERROR;
        }

        if (redis->n == max) {
            ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                               "the URL of refund_store \"%V\" has more than "
                               "%ui hosts: some are enough to find the others",
                               &conf->store->name, max);
            return NGX_ERROR;
        }

        if (ngx_http_refund_store_resolve(conf, &host, &addresses[redis->n])
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        for (i = 0; i < redis->n; i++) {
            if (addresses[i].port == addresses[redis->n].port
                && addresses[i].host.len == addresses[redis->n].host.len
                && ngx_strncmp(addresses[i].host.data,
                               addresses[redis->n].host.data,
                               addresses[i].host.len)
                   == 0)
            {
                ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                                   "\"%V\" stands twice in the URL of "
                                   "refund_store \"%V\"",
                                   &host, &conf->store->name);
                return NGX_ERROR;
            }
        }

        redis->n++;

        if (p == NULL) {
            return NGX_OK;
        }

        p++;
    }
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
    u.default_port = (conf->kind == NGX_HTTP_REFUND_STORE_SENTINEL)
                     ? NGX_HTTP_REFUND_STORE_SENTINEL_PORT
                     : NGX_HTTP_REFUND_STORE_PORT;
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

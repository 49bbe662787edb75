
/*
 * Copyright (C) the refund-notify authors
 *
 * The directive refund_store.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_store_conf.h"


#define NGX_HTTP_REFUND_STORE_NAME_MAX        64
#define NGX_HTTP_REFUND_STORE_CACHE           (1024 * 1024)

#define NGX_HTTP_REFUND_STORE_ZONE            "refund_store:"
#define NGX_HTTP_REFUND_STORE_CACHE_ZONE      "refund_cache:"

/* no name that the configuration can give */

#define NGX_HTTP_REFUND_STORE_DEFAULT_NAME    "(default)"
#define NGX_HTTP_REFUND_STORE_DEFAULT_SIZE    (10 * 1024 * 1024)


typedef struct {
    ngx_str_t                       prefix;
    ngx_uint_t                      strip;  /* bytes of it */
    ngx_http_refund_store_kind_e    kind;
    ngx_uint_t                      tls;
} ngx_http_refund_store_scheme_t;


static ngx_http_refund_store_t *ngx_http_refund_store_add(ngx_conf_t *cf,
    ngx_array_t *stores, ngx_str_t *name);
static ngx_int_t ngx_http_refund_store_check_name(ngx_str_t *name);
static const ngx_http_refund_store_scheme_t *ngx_http_refund_store_scheme(
    ngx_http_refund_store_conf_t *conf);
static ngx_int_t ngx_http_refund_store_params(
    ngx_http_refund_store_conf_t *conf);

static ngx_int_t ngx_http_refund_store_shm(ngx_http_refund_store_conf_t *conf);
static ngx_shm_zone_t *ngx_http_refund_store_zone(ngx_conf_t *cf,
    char *prefix, ngx_str_t *store, size_t size, ngx_uint_t forgets);

static ngx_int_t ngx_http_refund_store_cache(
    ngx_http_refund_store_conf_t *conf);

static ngx_shm_zone_t *ngx_http_refund_store_same_zone(ngx_cycle_t *cycle,
    ngx_shm_zone_t *zone);
static ngx_uint_t ngx_http_refund_store_is_ours(ngx_shm_zone_t *zone);


extern ngx_module_t  ngx_http_refund_notify_module;


static const ngx_http_refund_store_scheme_t  ngx_http_refund_store_schemes[] =
{
    { ngx_string("shm:"), sizeof("shm:") - 1, NGX_HTTP_REFUND_STORE_SHM, 0 },
    { ngx_string("redis://"), sizeof("redis://") - 1,
      NGX_HTTP_REFUND_STORE_REDIS, 0 },
    { ngx_string("rediss://"), sizeof("rediss://") - 1,
      NGX_HTTP_REFUND_STORE_REDIS, 1 },
    { ngx_string("unix:"), 0, NGX_HTTP_REFUND_STORE_REDIS, 0 },
    { ngx_string("redis+sentinel://"), sizeof("redis+sentinel://") - 1,
      NGX_HTTP_REFUND_STORE_SENTINEL, 0 },
    { ngx_string("rediss+sentinel://"), sizeof("rediss+sentinel://") - 1,
      NGX_HTTP_REFUND_STORE_SENTINEL, 1 },
    { ngx_string("redis+cluster://"), sizeof("redis+cluster://") - 1,
      NGX_HTTP_REFUND_STORE_CLUSTER, 0 },
    { ngx_string("rediss+cluster://"), sizeof("rediss+cluster://") - 1,
      NGX_HTTP_REFUND_STORE_CLUSTER, 1 },
    { ngx_null_string, 0, NGX_HTTP_REFUND_STORE_SHM, 0 }
};


const ngx_str_t  ngx_http_refund_store_param_names[] = {
    ngx_string("user="),
    ngx_string("password_file="),
    ngx_string("prefix="),
    ngx_string("timeout="),
    ngx_string("cache="),
    ngx_string("database="),
    ngx_string("ca="),
    ngx_string("cert="),
    ngx_string("key="),
    ngx_string("server_name="),
    ngx_string("min_replicas="),
    ngx_string("sentinel_user="),
    ngx_string("sentinel_password_file=")
};


char *
ngx_http_refund_store_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_array_t  *stores = conf;

    ngx_str_t                             *value;
    ngx_http_refund_store_conf_t           sc;
    const ngx_http_refund_store_scheme_t  *scheme;

    value = cf->args->elts;

    if (ngx_http_refund_store_check_name(&value[1]) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" of refund_store: it must be "
                           "1 to %d letters, digits, \"_\", \"-\" or \".\"",
                           &value[1], NGX_HTTP_REFUND_STORE_NAME_MAX);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_refund_store_find(stores, &value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate refund_store \"%V\": rename or remove "
                           "one of the two", &value[1]);
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&sc, sizeof(ngx_http_refund_store_conf_t));

    sc.cf = cf;
    sc.url = value[2];

    sc.store = ngx_http_refund_store_add(cf, stores, &value[1]);
    if (sc.store == NULL) {
        return NGX_CONF_ERROR;
    }

    scheme = ngx_http_refund_store_scheme(&sc);
    if (scheme == NULL) {
        return NGX_CONF_ERROR;
    }

    sc.store->url = value[2];

    if (ngx_http_refund_store_params(&sc) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (scheme->kind == NGX_HTTP_REFUND_STORE_SHM) {
        return (ngx_http_refund_store_shm(&sc) == NGX_OK) ? NGX_CONF_OK
                                                          : NGX_CONF_ERROR;
    }

    return (ngx_http_refund_store_redis(&sc) == NGX_OK
            && ngx_http_refund_store_cache(&sc) == NGX_OK)
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


ngx_http_refund_store_t *
ngx_http_refund_store_default(ngx_conf_t *cf, ngx_array_t *stores)
{
    ngx_shm_zone_t           *zone;
    ngx_http_refund_store_t  *store;

    static ngx_str_t          name =
                              ngx_string(NGX_HTTP_REFUND_STORE_DEFAULT_NAME);

    store = ngx_http_refund_store_find(stores, &name);
    if (store) {
        return store;
    }

    zone = ngx_http_refund_store_zone(cf, NGX_HTTP_REFUND_STORE_ZONE, &name,
                                      NGX_HTTP_REFUND_STORE_DEFAULT_SIZE, 0);
    if (zone == NULL) {
        return NULL;
    }

    store = ngx_http_refund_store_add(cf, stores, &name);
    if (store == NULL) {
        return NULL;
    }

    ngx_str_set(&store->url, "shm:10m");
    store->ops = &ngx_http_refund_store_shm_ops;
    store->data = zone->data;

    return store;
}


static ngx_http_refund_store_t *
ngx_http_refund_store_add(ngx_conf_t *cf, ngx_array_t *stores, ngx_str_t *name)
{
    ngx_http_refund_store_t  *store, **p;

    store = ngx_pcalloc(cf->pool, sizeof(ngx_http_refund_store_t));
    if (store == NULL) {
        return NULL;
    }

    p = ngx_array_push(stores);
    if (p == NULL) {
        return NULL;
    }

    *p = store;

    store->name = *name;
    store->file = cf->conf_file->file.name;
    store->line = cf->conf_file->line;

    return store;
}


static ngx_int_t
ngx_http_refund_store_check_name(ngx_str_t *name)
{
    u_char      c;
    ngx_uint_t  i;

    if (name->len == 0 || name->len > NGX_HTTP_REFUND_STORE_NAME_MAX) {
        return NGX_ERROR;
    }

    for (i = 0; i < name->len; i++) {
        c = name->data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
              || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.'))
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static const ngx_http_refund_store_scheme_t *
ngx_http_refund_store_scheme(ngx_http_refund_store_conf_t *conf)
{
    const ngx_http_refund_store_scheme_t  *scheme;

    for (scheme = ngx_http_refund_store_schemes;
         scheme->prefix.len;
         scheme++)
    {
        if (conf->url.len < scheme->prefix.len
            || ngx_strncmp(conf->url.data, scheme->prefix.data,
                           scheme->prefix.len)
               != 0)
        {
            continue;
        }

        conf->kind = scheme->kind;
        conf->tls = scheme->tls;
        conf->url.data += scheme->strip;
        conf->url.len -= scheme->strip;

        return scheme;
    }

    /* the URL is not shown here or below: it may hold a password */

    ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                       "unknown scheme in the URL of refund_store \"%V\": it "
                       "must be \"shm:SIZE\", \"redis://HOST:PORT\", "
                       "\"redis://unix:/PATH\", \"redis+sentinel://\" or "
                       "\"redis+cluster://\", with \"rediss\" for TLS",
                       &conf->store->name);

    return NULL;
}


static ngx_int_t
ngx_http_refund_store_params(ngx_http_refund_store_conf_t *conf)
{
    u_char      *equals;
    ngx_str_t   *value, *param, name;
    ngx_uint_t   i, k;

    value = conf->cf->args->elts;

    for (i = 3; i < conf->cf->args->nelts; i++) {

        equals = ngx_strlchr(value[i].data, value[i].data + value[i].len, '=');

        name.data = value[i].data;
        name.len = equals ? (size_t) (equals + 1 - value[i].data)
                          : value[i].len;

        for (k = 0; k < NGX_HTTP_REFUND_STORE_PARAMS; k++) {
            if (name.len == ngx_http_refund_store_param_names[k].len
                && ngx_strncmp(name.data,
                               ngx_http_refund_store_param_names[k].data,
                               name.len)
                   == 0)
            {
                break;
            }
        }

        if (k == NGX_HTTP_REFUND_STORE_PARAMS) {

            /* its value may be a password that was meant for a file */

            ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                               "unknown parameter \"%V\" in refund_store "
                               "\"%V\": remove it or mend its name; a "
                               "password is in a \"password_file=\"",
                               &name, &conf->store->name);
            return NGX_ERROR;
        }

        param = &conf->values[k];

        if (param->data) {
            ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                               "\"%V\" is given twice in refund_store \"%V\": "
                               "remove one of the two",
                               &name, &conf->store->name);
            return NGX_ERROR;
        }

        param->data = name.data + name.len;
        param->len = value[i].len - name.len;

        if (param->len == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                               "\"%V\" in refund_store \"%V\" has no value: "
                               "remove it or give it one",
                               &name, &conf->store->name);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_refund_store_without(ngx_http_refund_store_conf_t *conf,
    ngx_http_refund_store_param_e first, ngx_http_refund_store_param_e last,
    const char *what)
{
    ngx_uint_t  i;

    for (i = first; i <= (ngx_uint_t) last; i++) {
        if (conf->values[i].data) {
            ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                               "\"%V\" in refund_store \"%V\" does not apply "
                               "to %s: remove it",
                               &ngx_http_refund_store_param_names[i],
                               &conf->store->name, what);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_store_shm(ngx_http_refund_store_conf_t *conf)
{
    ssize_t          size;
    ngx_shm_zone_t  *zone;

    if (ngx_http_refund_store_without(conf, 0,
                                      NGX_HTTP_REFUND_STORE_PARAMS - 1,
                                      "\"shm:\"")
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    size = ngx_parse_size(&conf->url);

    if (size == NGX_ERROR || size < NGX_HTTP_REFUND_STORE_TABLE_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "\"%V\" in refund_store \"%V\": the size must be at "
                           "least 64k, e.g. \"shm:10m\"",
                           &conf->store->url, &conf->store->name);
        return NGX_ERROR;
    }

    zone = ngx_http_refund_store_zone(conf->cf, NGX_HTTP_REFUND_STORE_ZONE,
                                      &conf->store->name, (size_t) size, 0);
    if (zone == NULL) {
        return NGX_ERROR;
    }

    conf->store->ops = &ngx_http_refund_store_shm_ops;
    conf->store->data = zone->data;

    return NGX_OK;
}


static ngx_shm_zone_t *
ngx_http_refund_store_zone(ngx_conf_t *cf, char *prefix, ngx_str_t *store,
    size_t size, ngx_uint_t forgets)
{
    u_char     *p;
    ngx_str_t   name;

    name.len = ngx_strlen(prefix) + store->len;

    name.data = ngx_pnalloc(cf->pool, name.len);
    if (name.data == NULL) {
        return NULL;
    }

    p = ngx_cpymem(name.data, prefix, ngx_strlen(prefix));
    ngx_memcpy(p, store->data, store->len);

    return ngx_http_refund_store_table_add(cf, &name, size, forgets);
}


static ngx_int_t
ngx_http_refund_store_cache(ngx_http_refund_store_conf_t *conf)
{
    ssize_t     size;
    ngx_str_t  *value;

    value = &conf->values[NGX_HTTP_REFUND_STORE_PARAM_CACHE];

    if (value->data == NULL) {
        size = NGX_HTTP_REFUND_STORE_CACHE;

    } else if (value->len == 3 && ngx_strncmp(value->data, "off", 3) == 0) {
        return NGX_OK;

    } else {
        size = ngx_parse_size(value);
    }

    if (size == NGX_ERROR || size < NGX_HTTP_REFUND_STORE_TABLE_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "\"cache=%V\" in refund_store \"%V\": must be "
                           "\"off\" or a size of at least 64k",
                           value, &conf->store->name);
        return NGX_ERROR;
    }

    /* a reload is how ops have an event delivered again: it forgets */

    conf->store->cache = ngx_http_refund_store_zone(conf->cf,
                                             NGX_HTTP_REFUND_STORE_CACHE_ZONE,
                                             &conf->store->name,
                                             (size_t) size, 1);

    return conf->store->cache ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_refund_stores_init_module(ngx_cycle_t *cycle)
{
    ngx_uint_t        i;
    ngx_shm_zone_t   *zone, *now;
    ngx_list_part_t  *part;

    /* at the first start no cycle was before, unless in another binary */

    if (ngx_is_init_cycle(ngx_cycle)) {
        part = ngx_inherited ? &cycle->shared_memory.part : NULL;

    } else {
        part = (ngx_list_part_t *) &ngx_cycle->shared_memory.part;
    }

    for ( /* void */ ; part; part = part->next) {
        zone = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (!ngx_http_refund_store_is_ours(&zone[i])) {
                continue;
            }

            now = ngx_http_refund_store_same_zone(cycle, &zone[i]);

            if (now && now->shm.addr == zone[i].shm.addr
                && !ngx_is_init_cycle(ngx_cycle))
            {
                continue;
            }

            ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                          "shared memory zone \"%V\" %s: what it knew of "
                          "delivered notifies is forgotten",
                          &zone[i].shm.name,
                          ngx_is_init_cycle(ngx_cycle)
                          ? "is new to this binary"
                          : now == NULL ? "is gone"
                          : now->shm.size != zone[i].shm.size
                          ? "is new, with another size"
                          : "is new, for the module is");
        }
    }

    return NGX_OK;
}


static ngx_shm_zone_t *
ngx_http_refund_store_same_zone(ngx_cycle_t *cycle, ngx_shm_zone_t *zone)
{
    ngx_uint_t        i;
    ngx_shm_zone_t   *z;
    ngx_list_part_t  *part;

    for (part = &cycle->shared_memory.part; part; part = part->next) {
        z = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (z[i].shm.name.len == zone->shm.name.len
                && ngx_strncmp(z[i].shm.name.data, zone->shm.name.data,
                               zone->shm.name.len)
                   == 0)
            {
                return &z[i];
            }
        }
    }

    return NULL;
}


/* By its name, for the tag of a module that was upgraded is another. */

static ngx_uint_t
ngx_http_refund_store_is_ours(ngx_shm_zone_t *zone)
{
    return zone->shm.name.len > sizeof(NGX_HTTP_REFUND_STORE_ZONE) - 1
           && ngx_strncmp(zone->shm.name.data, NGX_HTTP_REFUND_STORE_ZONE,
                          sizeof(NGX_HTTP_REFUND_STORE_ZONE) - 1)
              == 0;
}

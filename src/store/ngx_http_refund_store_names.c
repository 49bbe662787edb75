
/*
 * Copyright (C) the refund-notify authors
 *
 * Host names in the URLs of refund_store: they are looked up when the
 * configuration is read, as those of an upstream are; and, where http has a
 * "resolver", again by each worker whenever it connects.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_refund_conf.h"
#include "ngx_http_refund_store_backend.h"
#include "ngx_refund_redis_lookup.h"
#include "ngx_refund_redis_numeric.h"


static ngx_int_t ngx_http_refund_store_name(ngx_conf_t *cf,
    ngx_http_refund_store_t *store, ngx_refund_redis_address_t *address);


ngx_int_t
ngx_http_refund_stores_init_names(ngx_conf_t *cf, ngx_array_t *stores)
{
    ngx_uint_t                      i, k;
    ngx_resolver_t                 *resolver;
    ngx_http_refund_store_t       **store;
    ngx_http_core_loc_conf_t       *clcf;
    ngx_http_refund_store_redis_t  *redis;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* without the directive there is one that has no servers */

    resolver = clcf->resolver;

    if (resolver && resolver->connections.nelts == 0) {
        resolver = NULL;
    }

    store = stores->elts;

    for (i = 0; i < stores->nelts; i++) {

        if (store[i]->ops != &ngx_http_refund_store_redis_ops) {
            continue;
        }

        redis = store[i]->data;
        redis->conf.server.resolver = resolver;
        redis->conf.sentinel.resolver = resolver;

        for (k = 0; k < redis->conf.n && resolver == NULL; k++) {
            if (ngx_http_refund_store_name(cf, store[i],
                                           &redis->conf.addresses[k])
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


/* One that there is no resolver for. */

static ngx_int_t
ngx_http_refund_store_name(ngx_conf_t *cf, ngx_http_refund_store_t *store,
    ngx_refund_redis_address_t *address)
{
    ngx_http_refund_conf_place_t  place;

    if (address->port == 0 || ngx_refund_redis_numeric(&address->host)) {
        return NGX_OK;
    }

    place.file = store->file;
    place.line = store->line;

    if (address->n == 0) {
        ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &place,
                                   "host \"%V\" of refund_store \"%V\" is not "
                                   "found: mend the name, or add a "
                                   "\"resolver\" to http, which will ask "
                                   "again", &address->host, &store->name);
        return NGX_ERROR;
    }

    if (!ngx_refund_redis_lookup_is_localhost(&address->host)) {
        ngx_http_refund_conf_error(NGX_LOG_NOTICE, cf, &place,
                                   "host \"%V\" of refund_store \"%V\" is "
                                   "looked up only now, for http has no "
                                   "\"resolver\": a change of its addresses "
                                   "needs a reload",
                                   &address->host, &store->name);
    }

    return NGX_OK;
}

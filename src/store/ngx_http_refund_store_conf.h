
/*
 * Copyright (C) the refund-notify authors
 *
 * What the files share that read refund_store: one directive being read.
 */


#ifndef _NGX_HTTP_REFUND_STORE_CONF_H_INCLUDED_
#define _NGX_HTTP_REFUND_STORE_CONF_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_store_backend.h"


typedef enum {
    NGX_HTTP_REFUND_STORE_SHM = 0,
    NGX_HTTP_REFUND_STORE_REDIS,
    NGX_HTTP_REFUND_STORE_SENTINEL,
    NGX_HTTP_REFUND_STORE_CLUSTER
} ngx_http_refund_store_kind_e;


typedef enum {
    NGX_HTTP_REFUND_STORE_USER = 0,
    NGX_HTTP_REFUND_STORE_PASSWORD_FILE,
    NGX_HTTP_REFUND_STORE_PREFIX,
    NGX_HTTP_REFUND_STORE_PARAM_TIMEOUT,
    NGX_HTTP_REFUND_STORE_PARAM_CACHE,
    NGX_HTTP_REFUND_STORE_DATABASE,
    NGX_HTTP_REFUND_STORE_CA,
    NGX_HTTP_REFUND_STORE_CERT,
    NGX_HTTP_REFUND_STORE_KEY,
    NGX_HTTP_REFUND_STORE_SERVER_NAME,
    NGX_HTTP_REFUND_STORE_MIN_REPLICAS,
    NGX_HTTP_REFUND_STORE_SENTINEL_USER,
    NGX_HTTP_REFUND_STORE_SENTINEL_PASSWORD_FILE,
    NGX_HTTP_REFUND_STORE_PARAMS
} ngx_http_refund_store_param_e;


/* One refund_store being read; value.data NULL: the parameter is not there. */

typedef struct {
    ngx_conf_t                      *cf;
    ngx_http_refund_store_t         *store;
    ngx_http_refund_store_kind_e     kind;      /* the scheme's */
    ngx_str_t                        url;       /* without the scheme */
    ngx_uint_t                       tls;       /* the scheme asks for it */
    ngx_str_t                        values[NGX_HTTP_REFUND_STORE_PARAMS];
} ngx_http_refund_store_conf_t;


extern const ngx_str_t  ngx_http_refund_store_param_names[];


/*
 * Each returns NGX_OK, or NGX_ERROR after a message that names the store: all
 * of a Redis but its cache; where it is, as its URL says; and the TLS to it, if
 * the URL asks for that.
 */

ngx_int_t ngx_http_refund_store_redis(ngx_http_refund_store_conf_t *conf);
ngx_int_t ngx_http_refund_store_url(ngx_http_refund_store_conf_t *conf,
    ngx_refund_redis_conf_t *redis);
ngx_int_t ngx_http_refund_store_tls(ngx_http_refund_store_conf_t *conf,
    ngx_refund_redis_conf_t *redis);


/*
 * NGX_ERROR, after a message that names the store and what, if any of the
 * parameters from first to last is there, which do not apply to that.
 */

ngx_int_t ngx_http_refund_store_without(ngx_http_refund_store_conf_t *conf,
    ngx_http_refund_store_param_e first, ngx_http_refund_store_param_e last,
    const char *what);


#endif /* _NGX_HTTP_REFUND_STORE_CONF_H_INCLUDED_ */

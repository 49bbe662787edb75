
/*
 * Copyright (C) the refund-notify authors
 *
 * What the files of the store share, and the handlers do not see.
 */


#ifndef _NGX_HTTP_REFUND_STORE_BACKEND_H_INCLUDED_
#define _NGX_HTTP_REFUND_STORE_BACKEND_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_store.h"
#include "ngx_http_refund_store_replicas.h"
#include "ngx_http_refund_store_table.h"
#include "ngx_refund_redis.h"


/* store->data: a ngx_http_refund_store_table_t */

extern const ngx_http_refund_store_ops_t  ngx_http_refund_store_shm_ops;


#define NGX_HTTP_REFUND_STORE_KEY_MAX     1024      /* op->key.len */
#define NGX_HTTP_REFUND_STORE_PREFIX_MAX  64


/* store->data of Redis */

typedef struct {
    ngx_refund_redis_conf_t   conf;
    ngx_str_t                 prefix;
    ngx_refund_redis_t       *client;       /* the worker's */
    ngx_uint_t                min_replicas; /* 0: nobody waits for them */
    ngx_http_refund_store_replicas_t  *replicas;    /* the worker's */
} ngx_http_refund_store_redis_t;


/* The text of what a command is made of, beside its own words. */

typedef struct {
    ngx_str_t   key;
    ngx_str_t   value;
    ngx_str_t   lease;
    ngx_str_t   retain;

    u_char      key_text[NGX_HTTP_REFUND_STORE_PREFIX_MAX
                         + NGX_HTTP_REFUND_STORE_KEY_MAX];
    u_char      value_text[NGX_HTTP_REFUND_STORE_RECORD_MAX];
    u_char      lease_text[NGX_INT64_LEN];
    u_char      retain_text[NGX_INT64_LEN];
} ngx_http_refund_store_redis_text_t;


/* state is that of the record; text must not be copied. */

void ngx_http_refund_store_redis_text(ngx_http_refund_store_op_t *op,
    u_char state, ngx_http_refund_store_redis_text_t *text);


extern const ngx_http_refund_store_ops_t  ngx_http_refund_store_redis_ops;


/* For a backend that returned NGX_AGAIN and has set op->result: the handler. */

void ngx_http_refund_store_end(ngx_http_refund_store_op_t *op);


#endif /* _NGX_HTTP_REFUND_STORE_BACKEND_H_INCLUDED_ */

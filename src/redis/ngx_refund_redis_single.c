
/*
 * Copyright (C) the refund-notify authors
 *
 * One server, by one connection.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis_connection.h"


typedef struct {
    ngx_refund_redis_t               redis;
    ngx_refund_redis_connection_t   *connection;
} ngx_refund_redis_single_t;


static ngx_refund_redis_t *ngx_refund_redis_single_open(
    const ngx_refund_redis_conf_t *conf);
static void ngx_refund_redis_single_close(ngx_refund_redis_t *redis);
static const char *ngx_refund_redis_single_send(ngx_refund_redis_t *redis,
    const ngx_str_t *key, const ngx_refund_redis_command_t *commands,
    ngx_uint_t n, ngx_refund_redis_handler_pt handler, void *data);
static ngx_int_t ngx_refund_redis_single_state(ngx_refund_redis_t *redis,
    ngx_uint_t *connections);


const ngx_refund_redis_ops_t  ngx_refund_redis_single_ops = {
    ngx_refund_redis_single_open,
    ngx_refund_redis_single_close,
    ngx_refund_redis_single_send,
    ngx_refund_redis_single_state,
    NULL
};


static ngx_refund_redis_t *
ngx_refund_redis_single_open(const ngx_refund_redis_conf_t *conf)
{
    ngx_refund_redis_single_t  *single;

    single = ngx_calloc(sizeof(ngx_refund_redis_single_t), ngx_cycle->log);
    if (single == NULL) {
        return NULL;
    }

    single->connection = ngx_refund_redis_connection_open(&conf->server,
                                                          conf->addresses,
                                                          NULL);
    if (single->connection == NULL) {
        ngx_free(single);
        return NULL;
    }

    return &single->redis;
}


static void
ngx_refund_redis_single_close(ngx_refund_redis_t *redis)
{
    ngx_refund_redis_single_t  *single = (ngx_refund_redis_single_t *) redis;

    ngx_refund_redis_connection_close(single->connection);
    ngx_free(single);
}


static const char *
ngx_refund_redis_single_send(ngx_refund_redis_t *redis, const ngx_str_t *key,
    const ngx_refund_redis_command_t *commands, ngx_uint_t n,
    ngx_refund_redis_handler_pt handler, void *data)
{
    const char                  *error;
    ngx_refund_redis_single_t   *single = (ngx_refund_redis_single_t *) redis;
    ngx_refund_redis_request_t  *request;

    request = ngx_refund_redis_request_create(commands, n);
    if (request == NULL) {
        return "out of memory";
    }

    request->done = ngx_refund_redis_request_finish;
    request->handler = handler;
    request->data = data;

    error = ngx_refund_redis_connection_send(single->connection, request);

    if (error) {
        ngx_refund_redis_request_free(request);
    }

    return error;
}


static ngx_int_t
ngx_refund_redis_single_state(ngx_refund_redis_t *redis,
    ngx_uint_t *connections)
{
    ngx_refund_redis_single_t  *single = (ngx_refund_redis_single_t *) redis;

    *connections = ngx_refund_redis_connection_is_up(single->connection);

    if (*connections) {
        return NGX_OK;
    }

    return ngx_refund_redis_connection_is_down(single->connection)
           ? NGX_ERROR : NGX_AGAIN;
}

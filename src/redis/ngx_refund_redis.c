
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis.h"


ngx_refund_redis_t *
ngx_refund_redis_open(const ngx_refund_redis_conf_t *conf)
{
    ngx_refund_redis_t  *redis;

    redis = conf->ops->open(conf);

    if (redis) {
        redis->conf = conf;
    }

    return redis;
}


void
ngx_refund_redis_close(ngx_refund_redis_t *redis)
{
    redis->conf->ops->close(redis);
}


const char *
ngx_refund_redis_send(ngx_refund_redis_t *redis, const ngx_str_t *key,
    const ngx_refund_redis_command_t *commands, ngx_uint_t n,
    ngx_refund_redis_handler_pt handler, void *data)
{
    return redis->conf->ops->send(redis, key, commands, n, handler, data);
}


ngx_int_t
ngx_refund_redis_state(ngx_refund_redis_t *redis, ngx_uint_t *connections)
{
    return redis->conf->ops->state(redis, connections);
}


ngx_uint_t
ngx_refund_redis_node(ngx_refund_redis_t *redis, const ngx_str_t *key)
{
    return redis->conf->ops->node(redis, key);
}

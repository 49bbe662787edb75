
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis_error.h"


#define ngx_refund_redis_entry(prefix, phrase, action, again)                 \
    { prefix, sizeof(prefix) - 1, phrase, NGX_REFUND_REDIS_##action,          \
      NGX_REFUND_REDIS_##again }


static const ngx_refund_redis_error_t  ngx_refund_redis_errors[] = {

    ngx_refund_redis_entry("NOPERM",
                           "the Redis user lacks a permission", KEEP, NOWHERE),
    ngx_refund_redis_entry("NOAUTH",
                           "Redis asks for a password", REFUSED, NOWHERE),
    ngx_refund_redis_entry("WRONGPASS",
                           "Redis refused the user name or password",
                           REFUSED, NOWHERE),
    ngx_refund_redis_entry("LOADING",
                           "Redis is loading its data", KEEP, ELSEWHERE),
    ngx_refund_redis_entry("READONLY",
                           "Redis is a read-only replica",
                           RECONNECT, ELSEWHERE),
    ngx_refund_redis_entry("MASTERDOWN",
                           "the Redis replica has lost its master",
                           RECONNECT, ELSEWHERE),
    ngx_refund_redis_entry("OOM",
                           "Redis is out of memory", KEEP, NOWHERE),
    ngx_refund_redis_entry("MISCONF",
                           "Redis cannot write to its disk", KEEP, NOWHERE),
    ngx_refund_redis_entry("NOREPLICAS",
                           "Redis has too few replicas", KEEP, NOWHERE),
    ngx_refund_redis_entry("BUSY",
                           "Redis is busy with a script", KEEP, NOWHERE),
    ngx_refund_redis_entry("NOSCRIPT",
                           "Redis does not know the script", KEEP, NOWHERE),
    ngx_refund_redis_entry("EXECABORT",
                           "Redis aborted the transaction", KEEP, NOWHERE),
    ngx_refund_redis_entry("WRONGTYPE",
                           "the key in Redis is of another type",
                           KEEP, NOWHERE),
    ngx_refund_redis_entry("MOVED",
                           "the key is on another node of the Redis Cluster",
                           KEEP, MOVED),
    ngx_refund_redis_entry("ASK",
                           "the key is moving to another node of the Redis "
                           "Cluster", KEEP, ASK),
    ngx_refund_redis_entry("TRYAGAIN",
                           "the Redis Cluster is moving the keys",
                           KEEP, LATER),
    ngx_refund_redis_entry("CLUSTERDOWN",
                           "the Redis Cluster is down", KEEP, ELSEWHERE),
    ngx_refund_redis_entry("ERR max number of clients",
                           "Redis has too many clients", RECONNECT, NOWHERE),
    ngx_refund_redis_entry("ERR This instance has cluster support disabled",
                           "Redis is no cluster", REFUSED, NOWHERE)
};


static const ngx_refund_redis_error_t  ngx_refund_redis_error_other =
    ngx_refund_redis_entry("", "Redis answered with an error", KEEP, NOWHERE);


#undef ngx_refund_redis_entry


const ngx_refund_redis_error_t *
ngx_refund_redis_error(const char *text, size_t len)
{
    ngx_uint_t                       i;
    const ngx_refund_redis_error_t  *error;

    for (i = 0;
         i < sizeof(ngx_refund_redis_errors)
             / sizeof(ngx_refund_redis_errors[0]);
         i++)
    {
        error = &ngx_refund_redis_errors[i];

        if (len >= error->len
            && ngx_memcmp(text, error->prefix, error->len) == 0
            && (len == error->len || text[error->len] == ' '))
        {
            return error;
        }
    }

    return &ngx_refund_redis_error_other;
}


ngx_uint_t
ngx_refund_redis_error_no_command(const ngx_refund_redis_error_t *error)
{
    return error == &ngx_refund_redis_error_other
           || error == &ngx_refund_redis_errors[0];
}

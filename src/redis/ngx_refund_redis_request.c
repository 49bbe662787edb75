
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis_connection.h"
#include "ngx_refund_redis_request.h"


/* whose handler is being called */

static ngx_refund_redis_connection_t  *ngx_refund_redis_current;


ngx_refund_redis_request_t *
ngx_refund_redis_request_create(const ngx_refund_redis_command_t *commands,
    ngx_uint_t n)
{
    size_t                       size;
    u_char                      *p, *start;
    ngx_uint_t                   i, k;
    ngx_refund_redis_request_t  *request;

    size = 0;

    for (i = 0; i < n; i++) {
        size += sizeof("*" CRLF) - 1 + NGX_INT_T_LEN;

        for (k = 0; k < commands[i].argc; k++) {
            size += sizeof("$" CRLF CRLF) - 1 + NGX_SIZE_T_LEN
                    + commands[i].argv[k].len;
        }
    }

    request = ngx_alloc(sizeof(ngx_refund_redis_request_t) + size,
                        ngx_cycle->log);
    if (request == NULL) {
        return NULL;
    }

    ngx_memzero(request, sizeof(ngx_refund_redis_request_t));

    p = request->bytes;

    for (i = 0; i < n; i++) {
        start = p;
        p = ngx_sprintf(p, "*%ui" CRLF, commands[i].argc);

        for (k = 0; k < commands[i].argc; k++) {
            p = ngx_sprintf(p, "$%uz" CRLF, commands[i].argv[k].len);
            p = ngx_cpymem(p, commands[i].argv[k].data,
                           commands[i].argv[k].len);
            *p++ = CR;
            *p++ = LF;
        }

        request->len[i] = p - start;
    }

    /* hiredis looks beyond a SUBSCRIBE for one channel more */

    *p = '\0';

    request->n = n;
    request->size = size;

    return request;
}


void
ngx_refund_redis_request_free(ngx_refund_redis_request_t *request)
{
    ngx_refund_redis_request_rewind(request, 0);

    if (request->secret) {
        ngx_explicit_memzero(request->bytes, request->size);
    }

    ngx_free(request);
}


void
ngx_refund_redis_request_finish(ngx_refund_redis_request_t *request)
{
    if (request->handler) {
        ngx_refund_redis_current = request->error ? NULL
                                                  : request->connection;

        request->handler(request->data, request->replies, request->error);

        ngx_refund_redis_current = NULL;
    }

    ngx_refund_redis_request_free(request);
}


redisReply *
ngx_refund_redis_request_refused(ngx_refund_redis_request_t *request,
    ngx_uint_t *i)
{
    redisReply  *reply;

    for (*i = request->first; *i < request->n; (*i)++) {
        reply = request->replies[*i];

        if (reply == NULL) {
            return NULL;
        }

        if (reply->type == REDIS_REPLY_ERROR) {
            return reply;
        }
    }

    return NULL;
}


void
ngx_refund_redis_request_rewind(ngx_refund_redis_request_t *request,
    ngx_uint_t i)
{
    request->first = i;
    request->answered = i;
    request->error = NULL;
    request->written = 0;

    for ( /* void */ ; i < request->n; i++) {
        if (request->replies[i]) {
            freeReplyObject(request->replies[i]);
            request->replies[i] = NULL;
        }
    }
}


const void *
ngx_refund_redis_origin(void)
{
    return ngx_refund_redis_current;
}


void
ngx_refund_redis_distrust(const char *reason)
{
    if (ngx_refund_redis_current) {
        ngx_refund_redis_connection_drop(ngx_refund_redis_current, reason);
    }
}

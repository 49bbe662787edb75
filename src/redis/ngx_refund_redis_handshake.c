
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis_error.h"
#include "ngx_refund_redis_handshake.h"


static const char *ngx_refund_redis_role_error(redisReply *r);


ngx_refund_redis_request_t *
ngx_refund_redis_handshake_create(const ngx_refund_redis_server_t *server,
    ngx_uint_t master)
{
    ngx_uint_t                   n;
    ngx_str_t                    auth[3], select[2], ping[1];
    u_char                       database[NGX_INT_T_LEN];
    ngx_refund_redis_command_t   commands[NGX_REFUND_REDIS_COMMANDS_MAX];
    ngx_refund_redis_request_t  *request;

    n = 0;

    if (server->password.len) {
        commands[n].argc = 0;
        commands[n].argv = auth;

        ngx_str_set(&auth[commands[n].argc], "AUTH");
        commands[n].argc++;

        if (server->user.len) {
            auth[commands[n].argc++] = server->user;
        }

        auth[commands[n].argc++] = server->password;
        n++;
    }

    if (server->database) {
        ngx_str_set(&select[0], "SELECT");
        select[1].data = database;
        select[1].len = ngx_sprintf(database, "%ui", server->database)
                        - database;

        commands[n].argc = 2;
        commands[n].argv = select;
        n++;
    }

    if (master) {
        ngx_str_set(&ping[0], "ROLE");

    } else {
        ngx_str_set(&ping[0], "PING");
    }

    commands[n].argc = 1;
    commands[n].argv = ping;
    n++;

    request = ngx_refund_redis_request_create(commands, n);

    if (request) {
        request->secret = 1;
    }

    return request;
}


const char *
ngx_refund_redis_handshake_error(const ngx_refund_redis_server_t *server,
    ngx_uint_t master, redisReply **replies, ngx_uint_t *refused)
{
    ngx_uint_t                       n;
    redisReply                      *r;
    const ngx_refund_redis_error_t  *error;

    n = 0;
    *refused = 0;

    if (server->password.len) {
        r = replies[n++];

        if (r->type == REDIS_REPLY_ERROR) {
            error = ngx_refund_redis_error(r->str, r->len);
            *refused = 1;

            return ngx_refund_redis_error_no_command(error)
                   ? "Redis refused AUTH" : error->phrase;
        }

        if (r->type != REDIS_REPLY_STATUS) {
            return "Redis sent an unexpected reply";
        }
    }

    if (server->database) {
        r = replies[n++];

        if (r->type == REDIS_REPLY_ERROR) {
            error = ngx_refund_redis_error(r->str, r->len);
            *refused = 1;

            return ngx_refund_redis_error_no_command(error)
                   ? "Redis refused SELECT: no such database, or no permission"
                   : error->phrase;
        }

        if (r->type != REDIS_REPLY_STATUS) {
            return "Redis sent an unexpected reply";
        }
    }

    r = replies[n];

    if (r->type == REDIS_REPLY_ERROR) {
        error = ngx_refund_redis_error(r->str, r->len);

        /* a user without the permission to PING may yet do all we need */

        if (ngx_refund_redis_error_no_command(error) && !master) {
            return NULL;
        }

        *refused = (error->action == NGX_REFUND_REDIS_REFUSED);

        return error->phrase;
    }

    if (master) {
        return ngx_refund_redis_role_error(r);
    }

    return (r->type == REDIS_REPLY_STATUS) ? NULL
                                           : "Redis sent an unexpected reply";
}


/* https://redis.io/docs/latest/commands/role/ */

static const char *
ngx_refund_redis_role_error(redisReply *r)
{
    if (r->type != REDIS_REPLY_ARRAY
        || r->elements == 0
        || r->element[0]->type != REDIS_REPLY_STRING)
    {
        return "Redis sent an unexpected reply";
    }

    return ngx_strcmp(r->element[0]->str, "master") == 0
           ? NULL : "Redis is a read-only replica";
}

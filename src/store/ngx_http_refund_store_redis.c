
/*
 * Copyright (C) the refund-notify authors
 *
 * The store that several machines share.  All that compares before it writes
 * is one script; ages of leases are told by Redis' clock alone.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_store_backend.h"


enum {
    NGX_HTTP_REFUND_STORE_REDIS_CLAIM = 0,
    NGX_HTTP_REFUND_STORE_REDIS_TAKE_OVER,
    NGX_HTTP_REFUND_STORE_REDIS_RENEW,
    NGX_HTTP_REFUND_STORE_REDIS_RELEASE,
    NGX_HTTP_REFUND_STORE_REDIS_COMMIT,
    NGX_HTTP_REFUND_STORE_REDIS_KEEP
};


static ngx_int_t ngx_http_refund_store_redis_init_process(
    ngx_http_refund_store_t *store, ngx_cycle_t *cycle);
static void ngx_http_refund_store_redis_exit_process(
    ngx_http_refund_store_t *store);
static ngx_int_t ngx_http_refund_store_redis_claim(
    ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_store_redis_take_over(
    ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_store_redis_renew(
    ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_store_redis_release(
    ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_store_redis_commit(
    ngx_http_refund_store_op_t *op);
static ngx_int_t ngx_http_refund_store_redis_keep(
    ngx_http_refund_store_op_t *op);
static void ngx_http_refund_store_redis_state(ngx_http_refund_store_t *store,
    ngx_http_refund_store_state_t *state);
static ngx_int_t ngx_http_refund_store_redis_set(
    ngx_http_refund_store_op_t *op, u_char record, ngx_uint_t state);

static ngx_int_t ngx_http_refund_store_redis_send(
    ngx_http_refund_store_op_t *op, ngx_uint_t state, const ngx_str_t *key,
    const ngx_refund_redis_command_t *commands, ngx_uint_t n);
static void ngx_http_refund_store_redis_handler(void *data,
    redisReply **replies, const char *error);
static ngx_int_t ngx_http_refund_store_redis_claimed(
    ngx_http_refund_store_op_t *op, redisReply *set, redisReply *get);
static ngx_int_t ngx_http_refund_store_redis_record(
    ngx_http_refund_store_op_t *op, redisReply *reply,
    ngx_http_refund_store_record_t *record);
static ngx_uint_t ngx_http_refund_store_redis_is_ok(redisReply *reply);
static ngx_int_t ngx_http_refund_store_redis_unexpected(
    ngx_http_refund_store_op_t *op);


const ngx_http_refund_store_ops_t  ngx_http_refund_store_redis_ops = {
    ngx_string("redis"),
    ngx_http_refund_store_redis_init_process,
    ngx_http_refund_store_redis_exit_process,
    ngx_http_refund_store_redis_claim,
    ngx_http_refund_store_redis_renew,
    ngx_http_refund_store_redis_release,
    ngx_http_refund_store_redis_commit,
    ngx_http_refund_store_redis_keep,
    ngx_http_refund_store_redis_state
};


/*
 * Returns what the key holds at the end.  A value that is no record of ours is
 * left alone.  The bounds are those of the record's parser; a key without a
 * time to live (-1) counts as old.
 */

static ngx_str_t  ngx_http_refund_store_redis_take_over_script = ngx_string(
    "local v = redis.call('GET', KEYS[1])\n"
    "local attempt = 0\n"
    "if v then\n"
    "  local a, lease, retain = v:match('^F ([1-9]%d*) (%d+) (%d+)$')\n"
    "  if not a then\n"
    "    local o\n"
    "    o, a, lease, retain ="
        " v:match('^P (%x+) ([1-9]%d*) (%d+) (%d+)$')\n"
    "    if not a or #o ~= 32 or #lease > 12 or #retain > 12 then\n"
    "      return v\n"
    "    end\n"
    "    local age = tonumber(retain) - redis.call('PTTL', KEYS[1])\n"
    "    if age < tonumber(lease) then return v end\n"
    "  end\n"
    "  if #a > 9 then return v end\n"
    "  attempt = tonumber(a)\n"
    "end\n"
    "v = string.format('P %s %d %s %s',"
        " ARGV[1], attempt + 1, ARGV[2], ARGV[3])\n"
    "redis.call('SET', KEYS[1], v, 'PX', ARGV[3])\n"
    "return v\n"
);


/*
 * These return the new value, or nil where the key holds another than theirs.
 * What a restarted or flushed Redis has lost, renew puts back.
 */

static ngx_str_t  ngx_http_refund_store_redis_renew_script = ngx_string(
    "local v = redis.call('GET', KEYS[1])\n"
    "if v and v ~= ARGV[1] then return false end\n"
    "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n"
    "return ARGV[1]\n"
);


static ngx_str_t  ngx_http_refund_store_redis_release_script = ngx_string(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end\n"
    "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])\n"
    "return ARGV[2]\n"
);


/* The same for a mark, which has no next attempt. */

static ngx_str_t  ngx_http_refund_store_redis_remove_script = ngx_string(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end\n"
    "redis.call('DEL', KEYS[1])\n"
    "return ARGV[2]\n"
);


static ngx_int_t
ngx_http_refund_store_redis_init_process(ngx_http_refund_store_t *store,
    ngx_cycle_t *cycle)
{
    ngx_http_refund_store_redis_t  *redis;

    redis = store->data;

    redis->client = ngx_refund_redis_open(&redis->conf);

    if (redis->client == NULL) {
        return NGX_ERROR;
    }

    if (redis->min_replicas == 0) {
        return NGX_OK;
    }

    redis->replicas = ngx_http_refund_store_replicas_open(store);

    return redis->replicas ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_refund_store_redis_exit_process(ngx_http_refund_store_t *store)
{
    ngx_http_refund_store_redis_t  *redis;

    redis = store->data;

    if (redis->client) {
        ngx_refund_redis_close(redis->client);
        redis->client = NULL;
    }

    /* the last, for those that were told at the end, too */

    if (redis->replicas) {
        ngx_http_refund_store_replicas_close(redis->replicas);
        redis->replicas = NULL;
    }
}


static ngx_int_t
ngx_http_refund_store_redis_claim(ngx_http_refund_store_op_t *op)
{
    ngx_str_t                           set[6], get[2];
    ngx_refund_redis_command_t          commands[2];
    ngx_http_refund_store_redis_text_t  text;

    op->attempt = 1;
    op->again = 0;

    ngx_http_refund_store_redis_text(op, 'P', &text);

    ngx_str_set(&set[0], "SET");
    set[1] = text.key;
    set[2] = text.value;
    ngx_str_set(&set[3], "NX");
    ngx_str_set(&set[4], "PX");
    set[5] = text.retain;

    ngx_str_set(&get[0], "GET");
    get[1] = text.key;

    commands[0].argc = 6;
    commands[0].argv = set;
    commands[1].argc = 2;
    commands[1].argv = get;

    return ngx_http_refund_store_redis_send(op,
                                            NGX_HTTP_REFUND_STORE_REDIS_CLAIM,
                                            &text.key, commands, 2);
}


static ngx_int_t
ngx_http_refund_store_redis_take_over(ngx_http_refund_store_op_t *op)
{
    ngx_str_t                           eval[7];
    ngx_refund_redis_command_t          command;
    ngx_http_refund_store_redis_text_t  text;

    ngx_http_refund_store_redis_text(op, 'P', &text);

    ngx_str_set(&eval[0], "EVAL");
    eval[1] = ngx_http_refund_store_redis_take_over_script;
    ngx_str_set(&eval[2], "1");
    eval[3] = text.key;
    eval[4].data = op->owner;
    eval[4].len = NGX_HTTP_REFUND_STORE_OWNER_LEN;
    eval[5] = text.lease;
    eval[6] = text.retain;

    command.argc = 7;
    command.argv = eval;

    return ngx_http_refund_store_redis_send(op,
                                         NGX_HTTP_REFUND_STORE_REDIS_TAKE_OVER,
                                         &text.key, &command, 1);
}


static ngx_int_t
ngx_http_refund_store_redis_renew(ngx_http_refund_store_op_t *op)
{
    ngx_str_t                           eval[6];
    ngx_refund_redis_command_t          command;
    ngx_http_refund_store_redis_text_t  text;

    ngx_http_refund_store_redis_text(op, 'P', &text);

    ngx_str_set(&eval[0], "EVAL");
    eval[1] = ngx_http_refund_store_redis_renew_script;
    ngx_str_set(&eval[2], "1");
    eval[3] = text.key;
    eval[4] = text.value;
    eval[5] = text.retain;

    command.argc = 6;
    command.argv = eval;

    return ngx_http_refund_store_redis_send(op,
                                            NGX_HTTP_REFUND_STORE_REDIS_RENEW,
                                            &text.key, &command, 1);
}


static ngx_int_t
ngx_http_refund_store_redis_release(ngx_http_refund_store_op_t *op)
{
    ngx_str_t                           eval[7];
    ngx_refund_redis_command_t          command;
    ngx_http_refund_store_redis_text_t  text, failed;

    ngx_http_refund_store_redis_text(op, 'P', &text);
    ngx_http_refund_store_redis_text(op, 'F', &failed);

    ngx_str_set(&eval[0], "EVAL");
    eval[1] = op->mine ? ngx_http_refund_store_redis_remove_script
                       : ngx_http_refund_store_redis_release_script;
    ngx_str_set(&eval[2], "1");
    eval[3] = text.key;
    eval[4] = text.value;
    eval[5] = failed.value;
    eval[6] = text.retain;

    command.argc = 7;
    command.argv = eval;

    return ngx_http_refund_store_redis_send(op,
                                           NGX_HTTP_REFUND_STORE_REDIS_RELEASE,
                                           &text.key, &command, 1);
}


static ngx_int_t
ngx_http_refund_store_redis_commit(ngx_http_refund_store_op_t *op)
{
    return ngx_http_refund_store_redis_set(op, 'D',
                                           NGX_HTTP_REFUND_STORE_REDIS_COMMIT);
}


static ngx_int_t
ngx_http_refund_store_redis_keep(ngx_http_refund_store_op_t *op)
{
    return ngx_http_refund_store_redis_set(op, 'P',
                                           NGX_HTTP_REFUND_STORE_REDIS_KEEP);
}


static void
ngx_http_refund_store_redis_state(ngx_http_refund_store_t *store,
    ngx_http_refund_store_state_t *state)
{
    ngx_http_refund_store_redis_t  *redis;

    redis = store->data;

    if (redis->client == NULL) {
        return;
    }

    switch (ngx_refund_redis_state(redis->client, &state->connections)) {

    case NGX_OK:
        state->reach = NGX_REFUND_REACH_UP;
        break;

    case NGX_ERROR:
        state->reach = NGX_REFUND_REACH_DOWN;
        break;

    default: /* NGX_AGAIN */
        break;
    }
}


static ngx_int_t
ngx_http_refund_store_redis_set(ngx_http_refund_store_op_t *op,
    u_char record, ngx_uint_t state)
{
    ngx_str_t                           set[5];
    ngx_refund_redis_command_t          command;
    ngx_http_refund_store_redis_text_t  text;

    ngx_http_refund_store_redis_text(op, record, &text);

    ngx_str_set(&set[0], "SET");
    set[1] = text.key;
    set[2] = text.value;
    ngx_str_set(&set[3], "PX");
    set[4] = text.retain;

    command.argc = 5;
    command.argv = set;

    return ngx_http_refund_store_redis_send(op, state, &text.key, &command,
                                            1);
}


void
ngx_http_refund_store_redis_text(ngx_http_refund_store_op_t *op, u_char state,
    ngx_http_refund_store_redis_text_t *text)
{
    u_char                          *p;
    ngx_http_refund_store_redis_t   *redis;
    ngx_http_refund_store_record_t   record;

    redis = op->store->data;

    p = ngx_cpymem(text->key_text, redis->prefix.data, redis->prefix.len);
    p = ngx_cpymem(p, op->key.data, op->key.len);
    text->key.data = text->key_text;
    text->key.len = p - text->key_text;

    record.state = state;
    record.owner = op->owner;
    record.attempt = op->attempt;
    record.lease = op->lease;
    record.retain = op->retain;
    record.time = ngx_time();

    p = ngx_http_refund_store_record_encode(text->value_text, &record);
    text->value.data = text->value_text;
    text->value.len = p - text->value_text;

    p = ngx_sprintf(text->lease_text, "%M", op->lease);
    text->lease.data = text->lease_text;
    text->lease.len = p - text->lease_text;

    p = ngx_sprintf(text->retain_text, "%M", op->retain);
    text->retain.data = text->retain_text;
    text->retain.len = p - text->retain_text;
}


static ngx_int_t
ngx_http_refund_store_redis_send(ngx_http_refund_store_op_t *op,
    ngx_uint_t state, const ngx_str_t *key,
    const ngx_refund_redis_command_t *commands, ngx_uint_t n)
{
    const char                     *reason;
    ngx_http_refund_store_redis_t  *redis;

    redis = op->store->data;
    op->state = state;

    /* NULL: this process has closed it, or never began, by "master_process" */

    reason = (redis->client == NULL) ? "Redis is not connected to here"
             : ngx_refund_redis_send(redis->client, key, commands, n,
                                     ngx_http_refund_store_redis_handler, op);
    if (reason) {
        op->result = NGX_HTTP_REFUND_STORE_ERROR;
        op->reason = reason;
        return NGX_OK;
    }

    return NGX_AGAIN;
}


static void
ngx_http_refund_store_redis_handler(void *data, redisReply **replies,
    const char *error)
{
    ngx_http_refund_store_op_t  *op = data;

    ngx_int_t                            rc;
    ngx_http_refund_store_redis_t       *redis;
    ngx_http_refund_store_record_t       record;
    ngx_http_refund_store_redis_text_t   text;

    if (error) {
        op->result = NGX_HTTP_REFUND_STORE_ERROR;
        op->reason = error;
        ngx_http_refund_store_end(op);
        return;
    }

    rc = NGX_OK;

    switch (op->state) {

    case NGX_HTTP_REFUND_STORE_REDIS_CLAIM:
        rc = ngx_http_refund_store_redis_claimed(op, replies[0], replies[1]);
        break;

    case NGX_HTTP_REFUND_STORE_REDIS_TAKE_OVER:

        if (ngx_http_refund_store_redis_record(op, replies[0], &record)
            != NGX_OK)
        {
            break;
        }

        if (record.state == 'D') {
            op->result = NGX_HTTP_REFUND_STORE_DONE;

        } else if (record.state == 'F') {
            rc = ngx_http_refund_store_redis_unexpected(op);

        } else if (ngx_memcmp(record.owner, op->owner,
                              NGX_HTTP_REFUND_STORE_OWNER_LEN)
                   == 0)
        {
            op->attempt = record.attempt;
            op->again = op->mine;
            op->result = NGX_HTTP_REFUND_STORE_OK;

        } else {
            op->result = NGX_HTTP_REFUND_STORE_IN_FLIGHT;
        }

        break;

    case NGX_HTTP_REFUND_STORE_REDIS_RENEW:
    case NGX_HTTP_REFUND_STORE_REDIS_RELEASE:

        if (replies[0]->type == REDIS_REPLY_NIL) {
            op->result = NGX_HTTP_REFUND_STORE_LOST;
            break;
        }

        ngx_http_refund_store_redis_text(op,
                         op->state == NGX_HTTP_REFUND_STORE_REDIS_RENEW
                         ? 'P' : 'F', &text);

        if (replies[0]->type == REDIS_REPLY_STRING
            && replies[0]->len == text.value.len
            && ngx_memcmp(replies[0]->str, text.value.data, text.value.len)
               == 0)
        {
            op->result = NGX_HTTP_REFUND_STORE_OK;

        } else {
            rc = ngx_http_refund_store_redis_unexpected(op);
        }

        break;

    default: /* NGX_HTTP_REFUND_STORE_REDIS_COMMIT, _KEEP */

        if (ngx_http_refund_store_redis_is_ok(replies[0])) {
            op->result = NGX_HTTP_REFUND_STORE_OK;

        } else {
            rc = ngx_http_refund_store_redis_unexpected(op);
            break;
        }

        redis = op->store->data;

        if (op->state == NGX_HTTP_REFUND_STORE_REDIS_COMMIT && redis->replicas)
        {
            ngx_http_refund_store_replicas_wait(redis->replicas, op);
            rc = NGX_AGAIN;
        }
    }

    if (rc != NGX_AGAIN) {
        ngx_http_refund_store_end(op);
    }
}


/*
 * What SET did is told by GET: the owner, new for each claim, proves that the
 * replies are this claim's.  NGX_AGAIN: it needs the script.
 */

static ngx_int_t
ngx_http_refund_store_redis_claimed(ngx_http_refund_store_op_t *op,
    redisReply *set, redisReply *get)
{
    ngx_uint_t                      ok;
    ngx_http_refund_store_record_t  record;

    ok = ngx_http_refund_store_redis_is_ok(set);

    if (!ok && set->type != REDIS_REPLY_NIL) {
        return ngx_http_refund_store_redis_unexpected(op);
    }

    if (get->type == REDIS_REPLY_NIL) {

        if (ok) {
            return ngx_http_refund_store_redis_unexpected(op);
        }

        /* it expired between the two */

        return ngx_http_refund_store_redis_take_over(op);
    }

    if (ngx_http_refund_store_redis_record(op, get, &record) != NGX_OK) {
        return NGX_OK;
    }

    if (record.state == 'D') {
        op->result = NGX_HTTP_REFUND_STORE_DONE;
        return NGX_OK;
    }

    if (record.state == 'P'
        && ngx_memcmp(record.owner, op->owner, NGX_HTTP_REFUND_STORE_OWNER_LEN)
           == 0)
    {
        op->attempt = record.attempt;
        op->again = !ok;
        op->result = NGX_HTTP_REFUND_STORE_OK;
        return NGX_OK;
    }

    if (ok) {
        return ngx_http_refund_store_redis_unexpected(op);
    }

    return ngx_http_refund_store_redis_take_over(op);
}


/* NGX_DECLINED: it is none, and the operation has failed. */

static ngx_int_t
ngx_http_refund_store_redis_record(ngx_http_refund_store_op_t *op,
    redisReply *reply, ngx_http_refund_store_record_t *record)
{
    ngx_str_t  text;

    if (reply->type != REDIS_REPLY_STRING) {
        (void) ngx_http_refund_store_redis_unexpected(op);
        return NGX_DECLINED;
    }

    text.data = (u_char *) reply->str;
    text.len = reply->len;

    if (ngx_http_refund_store_record_decode(record, &text) == NGX_OK) {
        return NGX_OK;
    }

    op->result = NGX_HTTP_REFUND_STORE_ERROR;
    op->reason = "the key in Redis holds no record of this module";

    return NGX_DECLINED;
}


static ngx_uint_t
ngx_http_refund_store_redis_is_ok(redisReply *reply)
{
    return reply->type == REDIS_REPLY_STATUS
           && ngx_strcmp(reply->str, "OK") == 0;
}


static ngx_int_t
ngx_http_refund_store_redis_unexpected(ngx_http_refund_store_op_t *op)
{
    op->result = NGX_HTTP_REFUND_STORE_ERROR;
    op->reason = "Redis sent an unexpected reply";

    ngx_refund_redis_distrust(op->reason);

    return NGX_OK;
}

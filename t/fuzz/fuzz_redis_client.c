
/*
 * Copyright (C) the refund-notify authors
 *
 * All of src/redis and hiredis, with stand-ins for nginx: one server, sentinels
 * or a cluster, by the first byte; then what happens to it, a record each, with
 * a NUL between two.  Their first byte says what: t, time passes until the next
 * timer; s, a request is sent; c, a server closes; x, servers refuse, or no
 * longer; a digit, that connection gets the bytes that follow.
 *
 * Each request that was taken ends once and in time, and what it ends with are
 * replies to all of its commands, none of them an error; and nothing is left.
 */


#include "event_loop.h"
#include "ngx_refund_redis.h"


#define FUZZ_REQUESTS  32
#define FUZZ_TIMEOUT   200


typedef struct {
    ngx_msec_t   sent;
    ngx_uint_t   ended;
} fuzz_request_t;


static void fuzz_redis_record(ngx_refund_redis_t *redis, const uint8_t *data,
    size_t size);
static void fuzz_redis_send(ngx_refund_redis_t *redis);
static void fuzz_redis_handler(void *data, redisReply **replies,
    const char *error);


static fuzz_request_t  fuzz_requests[FUZZ_REQUESTS];
static ngx_uint_t      fuzz_nrequests;
static ngx_uint_t      fuzz_closing;

static ngx_refund_redis_address_t  fuzz_addresses[] = {
    { ngx_string("127.0.0.1"), 7000, NULL, 0, 0 },
    { ngx_string("::1"), 7001, NULL, 0, 0 }
};

static ngx_refund_redis_conf_t  fuzz_confs[] = {
    {
        .ops = &ngx_refund_redis_single_ops,
        .server = { .label = ngx_string("single"),
                    .password = ngx_string("p"),
                    .database = 1,
                    .timeout = FUZZ_TIMEOUT },
        .addresses = fuzz_addresses,
        .n = 1
    },
    {
        .ops = &ngx_refund_redis_sentinel_ops,
        .server = { .label = ngx_string("sentinel"),
                    .timeout = FUZZ_TIMEOUT },
        .addresses = fuzz_addresses,
        .n = 2,
        .sentinel = { .label = ngx_string("sentinel"),
                      .timeout = FUZZ_TIMEOUT },
        .master = ngx_string("m1")
    },
    {
        .ops = &ngx_refund_redis_cluster_ops,
        .server = { .label = ngx_string("cluster"),
                    .timeout = FUZZ_TIMEOUT },
        .addresses = fuzz_addresses,
        .n = 2
    }
};


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t               len;
    ngx_uint_t           i;
    const uint8_t       *end;
    ngx_refund_redis_t  *redis;

    if (size == 0) {
        return 0;
    }

    fuzz_loop_begin();

    fuzz_nrequests = 0;
    fuzz_closing = 0;

    redis = ngx_refund_redis_open(&fuzz_confs[data[0] % 3]);
    fuzz_assert(redis != NULL);

    fuzz_redis_send(redis);

    /* a worker's first turn, in which what is begun at once is begun */

    while (ngx_current_msec <= 1000001 && fuzz_loop_wait()) {
        fuzz_loop_run();
    }

    for (data++, size--; size != 0; data += len, size -= len) {

        end = memchr(data, '\0', size);
        len = end ? (size_t) (end - data) : size;

        fuzz_redis_record(redis, data, len);
        fuzz_loop_run();

        len += (end != NULL);
    }

    fuzz_closing = 1;
    ngx_refund_redis_close(redis);
    fuzz_loop_run();

    for (i = 0; i < fuzz_nrequests; i++) {
        fuzz_assert(fuzz_requests[i].ended);
    }

    fuzz_loop_end();

    return 0;
}


static void
fuzz_redis_record(ngx_refund_redis_t *redis, const uint8_t *data, size_t size)
{
    ngx_uint_t  i;

    if (size == 0) {
        return;
    }

    switch (data[0]) {

    case 't':
        (void) fuzz_loop_wait();
        return;

    case 's':
        fuzz_redis_send(redis);
        return;

    case 'c':
        fuzz_loop_close(size > 1 ? data[1] - '0' : 0);
        return;

    case 'x':
        fuzz_loop_refuse();
        return;
    }

    i = (ngx_uint_t) data[0] - '0';

    fuzz_loop_send(i, data + 1, size - 1);
}


/* Two commands about a key, whose slot is 8165. */

static void
fuzz_redis_send(ngx_refund_redis_t *redis)
{
    ngx_uint_t                   state, connections;
    ngx_refund_redis_command_t   commands[2];

    static ngx_str_t  key = ngx_string("{k}");
    static ngx_str_t  set[] = { ngx_string("SET"), ngx_string("{k}"),
                                ngx_string("v") };
    static ngx_str_t  get[] = { ngx_string("GET"), ngx_string("{k}") };

    if (fuzz_nrequests == FUZZ_REQUESTS) {
        return;
    }

    commands[0].argc = 3;
    commands[0].argv = set;
    commands[1].argc = 2;
    commands[1].argv = get;

    fuzz_requests[fuzz_nrequests].sent = ngx_current_msec;
    fuzz_requests[fuzz_nrequests].ended = 0;

    if (ngx_refund_redis_send(redis, &key, commands, 2, fuzz_redis_handler,
                              &fuzz_requests[fuzz_nrequests])
        == NULL)
    {
        /* never from within another call */

        fuzz_assert(!fuzz_requests[fuzz_nrequests].ended);
        fuzz_nrequests++;
    }

    state = (ngx_uint_t) ngx_refund_redis_state(redis, &connections);
    fuzz_assert(state != (ngx_uint_t) NGX_OK || connections != 0);

    if (redis->conf->ops->node != NULL) {
        (void) ngx_refund_redis_node(redis, &key);
    }
}


static void
fuzz_redis_handler(void *data, redisReply **replies, const char *error)
{
    ngx_uint_t       i;
    fuzz_request_t  *request = data;

    fuzz_assert(!request->ended);
    request->ended = 1;

    fuzz_assert(fuzz_closing
                || ngx_current_msec - request->sent <= FUZZ_TIMEOUT);

    if (error != NULL) {
        fuzz_assert(ngx_refund_redis_origin() == NULL);
        return;
    }

    for (i = 0; i < 2; i++) {
        fuzz_assert(replies[i] != NULL);
        fuzz_assert(replies[i]->type != REDIS_REPLY_ERROR);
    }

    fuzz_assert(ngx_refund_redis_origin() != NULL);

    /* the store's own judgement of a reply that cannot be the command's */

    if (replies[0]->type == REDIS_REPLY_ARRAY) {
        ngx_refund_redis_distrust("not this command's reply");
    }
}

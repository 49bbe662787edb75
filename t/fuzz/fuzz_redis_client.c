
/*
 * Copyright (C) the refund-notify authors
 *
 * All of src/redis and hiredis, with stand-ins for nginx: one server, sentinels
 * or a cluster, by the first byte; then what happens to it, a record each, with
 * a NUL between two.  Their first byte says what: t, time passes until the next
 * timer; s, a request is sent; c, a server closes; x, servers refuse, or no
 * longer; a digit, that connection gets the bytes that follow; r, that of the
 * next digit gets what a server would answer to all that it was sent, or with m
 * or a behind it that the slot is elsewhere.
 *
 * Each request that was taken ends once and in time, and what it ends with are
 * replies to all of its commands, none of them an error; and nothing is left.  A
 * server that was never made to lie answers a command by its own name, which no
 * other may get, however late it is.
 */


#include "event_loop.h"
#include "ngx_refund_redis.h"


#define FUZZ_REQUESTS  32
#define FUZZ_TIMEOUT   200
#define FUZZ_ARGUMENTS 8


#define FUZZ_NAME      '\x02'          /* begins what a command is named */


typedef struct {
    ngx_msec_t   sent;
    ngx_uint_t   ended;
    u_char       key[8];                /* "{k}" and the request's number */
} fuzz_request_t;


static void fuzz_redis_record(ngx_refund_redis_t *redis, const uint8_t *data,
    size_t size);
static void fuzz_redis_answer(ngx_uint_t i, uint8_t how);
static const uint8_t *fuzz_redis_command(const uint8_t *p, const uint8_t *last,
    ngx_str_t *argv, ngx_uint_t *argc);
static ngx_uint_t fuzz_redis_number(const uint8_t **p, const uint8_t *last);
static size_t fuzz_redis_reply(u_char *p, const ngx_str_t *argv,
    ngx_uint_t argc, ngx_uint_t honest, uint8_t how);
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

    if (data[0] == 'r') {
        fuzz_redis_answer(size > 1 ? data[1] - '0' : 0,
                          size > 2 ? data[2] : ' ');
        return;
    }

    i = (ngx_uint_t) data[0] - '0';

    /* a name in it would be a lie that looks honest */

    if (memchr(data, FUZZ_NAME, size) == NULL) {
        fuzz_loop_send(i, data + 1, size - 1, 0);
    }
}


static void
fuzz_redis_answer(ngx_uint_t i, uint8_t how)
{
    u_char          reply[256];
    size_t          size;
    ngx_str_t       argv[FUZZ_ARGUMENTS];
    ngx_uint_t      argc, honest;
    const uint8_t  *p, *last;

    p = fuzz_loop_asked(i, &size, &honest);
    if (p == NULL) {
        return;
    }

    last = p + size;

    while (p != last) {
        p = fuzz_redis_command(p, last, argv, &argc);
        size = fuzz_redis_reply(reply, argv, argc, honest, how);

        fuzz_assert(size <= sizeof(reply));
        fuzz_loop_send(i, reply, size, 1);
    }
}


/* Takes one command, which is as Redis wants it, and returns its end. */

static const uint8_t *
fuzz_redis_command(const uint8_t *p, const uint8_t *last, ngx_str_t *argv,
    ngx_uint_t *argc)
{
    ngx_uint_t  i;

    fuzz_assert(*p++ == '*');

    *argc = fuzz_redis_number(&p, last);
    fuzz_assert(*argc >= 1 && *argc <= FUZZ_ARGUMENTS);

    for (i = 0; i < *argc; i++) {
        fuzz_assert(p < last && *p++ == '$');

        argv[i].len = fuzz_redis_number(&p, last);
        argv[i].data = (u_char *) p;

        fuzz_assert((size_t) (last - p) >= argv[i].len + 2);

        p += argv[i].len;

        fuzz_assert(*p++ == CR);
        fuzz_assert(*p++ == LF);
    }

    return p;
}


static ngx_uint_t
fuzz_redis_number(const uint8_t **p, const uint8_t *last)
{
    ngx_uint_t  n;

    n = 0;

    while (*p < last && **p >= '0' && **p <= '9') {
        n = n * 10 + (ngx_uint_t) (*(*p)++ - '0');
        fuzz_assert(n < 10000);
    }

    fuzz_assert(last - *p >= 2 && (*p)[0] == CR && (*p)[1] == LF);

    *p += 2;

    return n;
}


static size_t
fuzz_redis_reply(u_char *p, const ngx_str_t *argv, ngx_uint_t argc,
    ngx_uint_t honest, uint8_t how)
{
    ngx_uint_t   i;
    const char  *reply;

    static const char  *replies[][2] = {
        { "PING", "+PONG\r\n" },
        { "ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n" },
        { "SUBSCRIBE", "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n"
                       ":1\r\n" },
        { "SENTINEL", "*2\r\n$9\r\n127.0.0.1\r\n$4\r\n7000\r\n" },
        { "CLUSTER", "*1\r\n*4\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n"
                     ":7000\r\n*2\r\n$9\r\n127.0.0.1\r\n:7001\r\n" }
    };

    if (argc >= 2 && argv[1].len > 3 && memcmp(argv[1].data, "{k}", 3) == 0) {

        if (how == 'm' || how == 'a') {
            return (size_t) sprintf((char *) p, "-%s 8165 127.0.0.1:7001\r\n",
                                    how == 'm' ? "MOVED" : "ASK");
        }

        if (honest) {
            return (size_t) sprintf((char *) p, "$%u\r\n%c%c%.*s\r\n",
                                    (unsigned) argv[1].len + 2, FUZZ_NAME,
                                    argv[0].data[0], (int) argv[1].len,
                                    argv[1].data);
        }
    }

    reply = "+OK\r\n";

    for (i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        if (argv[0].len == strlen(replies[i][0])
            && memcmp(argv[0].data, replies[i][0], argv[0].len) == 0)
        {
            reply = replies[i][1];
        }
    }

    return (size_t) sprintf((char *) p, "%s", reply);
}


/* Two commands about a key of its own; the slot of each is 8165. */

static void
fuzz_redis_send(ngx_refund_redis_t *redis)
{
    ngx_str_t                    key, set[3], get[2];
    ngx_uint_t                   state, connections;
    fuzz_request_t              *request;
    ngx_refund_redis_command_t   commands[2];

    if (fuzz_nrequests == FUZZ_REQUESTS) {
        return;
    }

    request = &fuzz_requests[fuzz_nrequests];

    request->sent = ngx_current_msec;
    request->ended = 0;

    key.data = request->key;
    key.len = (size_t) sprintf((char *) request->key, "{k}%u",
                               (unsigned) fuzz_nrequests);

    ngx_str_set(&set[0], "SET");
    set[1] = key;
    ngx_str_set(&set[2], "v");

    ngx_str_set(&get[0], "GET");
    get[1] = key;

    commands[0].argc = 3;
    commands[0].argv = set;
    commands[1].argc = 2;
    commands[1].argv = get;

    if (ngx_refund_redis_send(redis, &key, commands, 2, fuzz_redis_handler,
                              request)
        == NULL)
    {
        /* never from within another call */

        fuzz_assert(!request->ended);
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

        if (replies[i]->type == REDIS_REPLY_STRING && replies[i]->len != 0
            && replies[i]->str[0] == FUZZ_NAME)
        {
            fuzz_assert(replies[i]->str[1] == (i == 0 ? 'S' : 'G'));
            fuzz_assert(strcmp(replies[i]->str + 2, (char *) request->key)
                        == 0);
        }
    }

    fuzz_assert(ngx_refund_redis_origin() != NULL);

    /* the store's own judgement of a reply that cannot be the command's */

    if (replies[0]->type == REDIS_REPLY_ARRAY) {
        ngx_refund_redis_distrust("not this command's reply");
    }
}


/*
 * Copyright (C) the refund-notify authors
 *
 * Whatever Redis says about where a key is: nothing of it leads to a slot, a
 * port or a host that there cannot be.
 */


#include "fuzz.h"

#include "ngx_refund_redis_numeric.c"
#include "ngx_refund_redis_reply.c"


#define FUZZ_ELEMENTS  64


static redisReplyObjectFunctions  fuzz_functions;
static redisReplyObjectFunctions  fuzz_hiredis;


static void
fuzz_host(const ngx_str_t *host)
{
    size_t  i;

    fuzz_assert(host->len <= NGX_REFUND_REDIS_HOST_MAX);

    for (i = 0; i < host->len; i++) {
        fuzz_assert(host->data[i] > ' ' && host->data[i] < 0x7f);
    }
}


static void
fuzz_node(const ngx_refund_redis_announced_t *node)
{
    fuzz_assert(node->port != 0);
    fuzz_host(&node->host);
    fuzz_host(&node->ip);
}


static ngx_int_t
fuzz_range(void *data, ngx_uint_t first, ngx_uint_t last,
    const ngx_refund_redis_announced_t *node)
{
    fuzz_assert(first <= last && last < NGX_REFUND_REDIS_SLOTS);
    fuzz_node(node);

    return NGX_OK;
}


/* A count that the input has no bytes for is the module's own to refuse. */

static void *
#if (HIREDIS_MAJOR >= 1)
fuzz_array(const redisReadTask *task, size_t elements)
#else
fuzz_array(const redisReadTask *task, int elements)
#endif
{
    return (elements > FUZZ_ELEMENTS) ? NULL
                                      : fuzz_hiredis.createArray(task,
                                                                 elements);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void                          *reply;
    ngx_str_t                      text;
    redisReader                   *reader;
    ngx_refund_redis_announced_t   node;

    static ngx_str_t               master = ngx_string("m1");

    text.data = (u_char *) data;
    text.len = size;

    fuzz_assert(ngx_refund_redis_slot(&text) < NGX_REFUND_REDIS_SLOTS);

    if (ngx_refund_redis_redirection(&text, &node) == NGX_OK) {
        fuzz_node(&node);
    }

    if (ngx_refund_redis_switched(&text, &master, &node) == NGX_OK) {
        fuzz_node(&node);
        fuzz_assert(node.host.len != 0);
    }

    reader = redisReaderCreate();
    fuzz_assert(reader != NULL);

    fuzz_hiredis = *reader->fn;
    fuzz_functions = fuzz_hiredis;
    fuzz_functions.createArray = fuzz_array;
    reader->fn = &fuzz_functions;

    fuzz_assert(redisReaderFeed(reader, (const char *) data, size)
                == REDIS_OK);

    while (redisReaderGetReply(reader, &reply) == REDIS_OK && reply) {

        (void) ngx_refund_redis_slots(reply, fuzz_range, NULL);

        if (ngx_refund_redis_master(reply, &node) == NGX_OK) {
            fuzz_node(&node);
            fuzz_assert(node.host.len != 0);
        }

        freeReplyObject(reply);
    }

    redisReaderFree(reader);

    return 0;
}

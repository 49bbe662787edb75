
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_refund_redis_adapter.h"

#if (NGX_REFUND_REDIS_TLS)
#include <openssl/err.h>
#endif


#if (HIREDIS_MAJOR >= 1)
typedef size_t  ngx_refund_redis_elements_t;
#else
typedef int     ngx_refund_redis_elements_t;
#endif


static void ngx_refund_redis_adapter_clear_error(
    ngx_refund_redis_adapter_t *adapter);
static void ngx_refund_redis_adapter_read_handler(ngx_event_t *ev);
static void ngx_refund_redis_adapter_write_handler(ngx_event_t *ev);
static void ngx_refund_redis_adapter_add_read(void *data);
static void ngx_refund_redis_adapter_del_read(void *data);
static void ngx_refund_redis_adapter_add_write(void *data);
static void ngx_refund_redis_adapter_del_write(void *data);
static void ngx_refund_redis_adapter_cleanup(void *data);

static void ngx_refund_redis_adapter_functions(void);
static size_t ngx_refund_redis_adapter_max(
    ngx_refund_redis_adapter_t *adapter);
static ngx_int_t ngx_refund_redis_adapter_object(const redisReadTask *task,
    size_t size);
static ngx_int_t ngx_refund_redis_adapter_message(const redisReadTask *task,
    const char *text, size_t len);
static void *ngx_refund_redis_adapter_string(const redisReadTask *task,
    char *text, size_t len);
static void *ngx_refund_redis_adapter_array(const redisReadTask *task,
    ngx_refund_redis_elements_t elements);
static void *ngx_refund_redis_adapter_integer(const redisReadTask *task,
    long long value);
static void *ngx_refund_redis_adapter_nil(const redisReadTask *task);
#if (HIREDIS_MAJOR >= 1)
static void *ngx_refund_redis_adapter_double(const redisReadTask *task,
    double value, char *text, size_t len);
static void *ngx_refund_redis_adapter_bool(const redisReadTask *task,
    int value);
#endif
static void ngx_refund_redis_adapter_free(void *reply);


/* hiredis' own functions, and those that check before they call them */

static redisReplyObjectFunctions  ngx_refund_redis_hiredis;
static redisReplyObjectFunctions  ngx_refund_redis_checked;

static void                      *ngx_refund_redis_kept;


ngx_int_t
ngx_refund_redis_adapter_attach(ngx_refund_redis_adapter_t *adapter,
    redisAsyncContext *context)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(context->c.fd, ngx_cycle->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    c->data = adapter;
    c->read->handler = ngx_refund_redis_adapter_read_handler;
    c->read->log = c->log;
    c->write->handler = ngx_refund_redis_adapter_write_handler;
    c->write->log = c->log;

    adapter->context = context;
    adapter->connection = c;
    adapter->reply_size = 0;
    adapter->broken = NULL;
#if (NGX_REFUND_REDIS_TLS)
    adapter->ssl = NULL;
#endif

    context->ev.data = adapter;
    context->ev.addRead = ngx_refund_redis_adapter_add_read;
    context->ev.delRead = ngx_refund_redis_adapter_del_read;
    context->ev.addWrite = ngx_refund_redis_adapter_add_write;
    context->ev.delWrite = ngx_refund_redis_adapter_del_write;
    context->ev.cleanup = ngx_refund_redis_adapter_cleanup;

    if (ngx_refund_redis_hiredis.freeObject == NULL) {
        ngx_refund_redis_hiredis = *context->c.reader->fn;
        ngx_refund_redis_adapter_functions();
    }

    context->c.reader->fn = &ngx_refund_redis_checked;
    context->c.reader->privdata = adapter;

    return NGX_OK;
}


/*
 * hiredis asks SSL_get_error(), which believes an error that was left in the
 * thread's queue before; and nginx takes for its own what is left behind.
 */

static void
ngx_refund_redis_adapter_clear_error(ngx_refund_redis_adapter_t *adapter)
{
#if (NGX_REFUND_REDIS_TLS)

    if (adapter->ssl) {
        ERR_clear_error();
    }

#endif
}


static void
ngx_refund_redis_adapter_read_handler(ngx_event_t *ev)
{
    redisReader                 *reader;
    ngx_connection_t            *c;
    ngx_refund_redis_adapter_t  *adapter;

    c = ev->data;
    adapter = c->data;

    if (c->close) {
        adapter->interrupted(adapter, 1);
        return;
    }

    ngx_refund_redis_adapter_clear_error(adapter);
    redisAsyncHandleRead(adapter->context);

    /* neither the context nor the connection need be there any longer */

    if (adapter->context == NULL) {
        return;
    }

    reader = adapter->context->c.reader;

    if (reader->len - reader->pos > ngx_refund_redis_adapter_max(adapter)) {
        adapter->interrupted(adapter, 0);
    }
}


static void
ngx_refund_redis_adapter_write_handler(ngx_event_t *ev)
{
    ngx_connection_t  *c;

    c = ev->data;

    ngx_refund_redis_adapter_flush(c->data);
}


void
ngx_refund_redis_adapter_flush(ngx_refund_redis_adapter_t *adapter)
{
    ngx_event_t  *ev;

    ev = adapter->connection->write;

    /*
     * hiredis asks for the event again if something is left: it is then to
     * come from the socket, not from ngx_refund_redis_adapter_add_write()
     */

    ev->ready = 1;

    ngx_refund_redis_adapter_clear_error(adapter);
    redisAsyncHandleWrite(adapter->context);

    if (adapter->context) {
        ev->ready = 0;
    }
}


/*
 * All events are level triggered: hiredis reads once each time it is told.
 * The hooks are called when there is nothing to do, too.
 */

static void
ngx_refund_redis_adapter_add_read(void *data)
{
    ngx_event_t                 *ev;
    ngx_refund_redis_adapter_t  *adapter = data;

    ev = adapter->connection->read;

    if (!ev->active) {
        (void) ngx_add_event(ev, NGX_READ_EVENT, NGX_LEVEL_EVENT);
    }
}


static void
ngx_refund_redis_adapter_del_read(void *data)
{
    ngx_event_t                 *ev;
    ngx_refund_redis_adapter_t  *adapter = data;

    ev = adapter->connection->read;

    if (ev->active) {
        (void) ngx_del_event(ev, NGX_READ_EVENT, NGX_LEVEL_EVENT);
    }
}


static void
ngx_refund_redis_adapter_add_write(void *data)
{
    ngx_event_t                 *ev;
    ngx_refund_redis_adapter_t  *adapter = data;

    ev = adapter->connection->write;

    if (ev->active) {
        return;
    }

    if ((adapter->context->c.flags & REDIS_CONNECTED) && !ev->ready) {

        /*
         * The socket is almost always writable: all commands of this turn of
         * the event loop go out together, without two calls of epoll_ctl()
         */

        ngx_post_event(ev, &ngx_posted_events);
        return;
    }

    (void) ngx_add_event(ev, NGX_WRITE_EVENT, NGX_LEVEL_EVENT);
}


static void
ngx_refund_redis_adapter_del_write(void *data)
{
    ngx_event_t                 *ev;
    ngx_refund_redis_adapter_t  *adapter = data;

    ev = adapter->connection->write;

    if (ev->posted) {
        ngx_delete_posted_event(ev);
    }

    if (ev->active) {
        (void) ngx_del_event(ev, NGX_WRITE_EVENT, NGX_LEVEL_EVENT);
    }
}


static void
ngx_refund_redis_adapter_cleanup(void *data)
{
    ngx_connection_t            *c;
    ngx_refund_redis_adapter_t  *adapter = data;

    c = adapter->connection;

    /*
     * everything of ngx_close_connection() but close(), which hiredis does, and
     * but timers, which nobody sets
     */

    if (c->read->active || c->write->active) {

        if (ngx_del_conn) {
            (void) ngx_del_conn(c, 0);

        } else {
            ngx_refund_redis_adapter_del_read(adapter);
            ngx_refund_redis_adapter_del_write(adapter);
        }
    }

    if (c->read->posted) {
        ngx_delete_posted_event(c->read);
    }

    if (c->write->posted) {
        ngx_delete_posted_event(c->write);
    }

    c->read->closed = 1;
    c->write->closed = 1;

    ngx_free_connection(c);
    c->fd = (ngx_socket_t) -1;

    adapter->detached(adapter);

    ngx_refund_redis_adapter_clear_error(adapter);

#if (NGX_REFUND_REDIS_TLS)
    adapter->ssl = NULL;
#endif

    adapter->connection = NULL;
    adapter->context = NULL;
}


void
ngx_refund_redis_adapter_keep(redisReply *reply)
{
    ngx_refund_redis_kept = reply;
}


static void
ngx_refund_redis_adapter_functions(void)
{
    ngx_refund_redis_checked.createString = ngx_refund_redis_adapter_string;
    ngx_refund_redis_checked.createArray = ngx_refund_redis_adapter_array;
    ngx_refund_redis_checked.createInteger = ngx_refund_redis_adapter_integer;
    ngx_refund_redis_checked.createNil = ngx_refund_redis_adapter_nil;
#if (HIREDIS_MAJOR >= 1)
    ngx_refund_redis_checked.createDouble = ngx_refund_redis_adapter_double;
    ngx_refund_redis_checked.createBool = ngx_refund_redis_adapter_bool;
#endif
    ngx_refund_redis_checked.freeObject = ngx_refund_redis_adapter_free;
}


static size_t
ngx_refund_redis_adapter_max(ngx_refund_redis_adapter_t *adapter)
{
    return adapter->large ? NGX_REFUND_REDIS_LARGE_REPLY_MAX
                          : NGX_REFUND_REDIS_REPLY_MAX;
}


/*
 * May the reader make an object of a reply?  A refusal looks to hiredis as if
 * memory were short, and ends the connection.
 */

static ngx_int_t
ngx_refund_redis_adapter_object(const redisReadTask *task, size_t size)
{
    ngx_uint_t                   depth;
    const redisReadTask         *parent;
    ngx_refund_redis_adapter_t  *adapter;

    adapter = task->privdata;

    if (task->parent == NULL) {
        adapter->reply_size = 0;

        /*
         * hiredis 0.14 aborts the process when a reply comes that nobody
         * waits for; an error it understands: Redis has too many clients
         */

        if (adapter->context->replies.head == NULL
            && !(adapter->context->c.flags & REDIS_SUBSCRIBED)
            && task->type != REDIS_REPLY_ERROR)
        {
            adapter->broken = "Redis sent a reply that was not asked for";
            return NGX_ERROR;
        }
    }

    depth = 0;

    for (parent = task->parent; parent; parent = parent->parent) {
        depth++;
    }

    adapter->reply_size += sizeof(redisReply) + size;

    if (depth > NGX_REFUND_REDIS_DEPTH_MAX
        || adapter->reply_size > 2 * ngx_refund_redis_adapter_max(adapter))
    {
        adapter->broken = "Redis sent a reply that is too large";
        return NGX_ERROR;
    }

    switch (task->type) {

    case REDIS_REPLY_STRING:
    case REDIS_REPLY_ARRAY:
    case REDIS_REPLY_INTEGER:
    case REDIS_REPLY_NIL:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        return NGX_OK;
    }

    adapter->broken = "Redis sent a reply of an unknown type";

    return NGX_ERROR;
}


/*
 * To hiredis whatever a server says that was subscribed to has the form of a
 * message: it would abort the process otherwise.  text is NULL for a nil, which
 * may have the type of a string.
 */

static ngx_int_t
ngx_refund_redis_adapter_message(const redisReadTask *task, const char *text,
    size_t len)
{
    ngx_refund_redis_adapter_t  *adapter;

    adapter = task->privdata;

    if (!(adapter->context->c.flags & REDIS_SUBSCRIBED)
        || adapter->context->replies.head)
    {
        return NGX_OK;
    }

    if (task->parent == NULL) {

        if (task->type == REDIS_REPLY_ERROR
            || (task->type == REDIS_REPLY_ARRAY && len == 3))
        {
            return NGX_OK;
        }

    } else if (task->parent->parent == NULL) {

        if (task->idx == 2
            || (task->idx == 1 && task->type == REDIS_REPLY_STRING && text)
            || (task->idx == 0 && task->type == REDIS_REPLY_STRING
                && ((len == 7 && ngx_memcmp(text, "message", 7) == 0)
                    || (len == 9 && ngx_memcmp(text, "subscribe", 9) == 0))))
        {
            return NGX_OK;
        }
    }

    adapter->broken = "Redis sent a reply that was not asked for";

    return NGX_ERROR;
}


static void *
ngx_refund_redis_adapter_string(const redisReadTask *task, char *text,
    size_t len)
{
    if (ngx_refund_redis_adapter_object(task, len) != NGX_OK
        || ngx_refund_redis_adapter_message(task, text, len) != NGX_OK)
    {
        return NULL;
    }

    return ngx_refund_redis_hiredis.createString(task, text, len);
}


static void *
ngx_refund_redis_adapter_array(const redisReadTask *task,
    ngx_refund_redis_elements_t elements)
{
    size_t                       size;
    ngx_uint_t                   max;
    ngx_refund_redis_adapter_t  *adapter;

    adapter = task->privdata;
    max = adapter->large ? NGX_REFUND_REDIS_LARGE_ELEMENTS_MAX
                         : NGX_REFUND_REDIS_ELEMENTS_MAX;

    /* a count that no reply can have is not multiplied */

    size = (size_t) elements > max
           ? 2 * ngx_refund_redis_adapter_max(adapter)
           : (size_t) elements * sizeof(redisReply *);

    if (ngx_refund_redis_adapter_object(task, size) != NGX_OK
        || ngx_refund_redis_adapter_message(task, NULL, (size_t) elements)
           != NGX_OK)
    {
        return NULL;
    }

    return ngx_refund_redis_hiredis.createArray(task, elements);
}


static void *
ngx_refund_redis_adapter_integer(const redisReadTask *task, long long value)
{
    if (ngx_refund_redis_adapter_object(task, 0) != NGX_OK
        || ngx_refund_redis_adapter_message(task, NULL, 0) != NGX_OK)
    {
        return NULL;
    }

    return ngx_refund_redis_hiredis.createInteger(task, value);
}


static void *
ngx_refund_redis_adapter_nil(const redisReadTask *task)
{
    if (ngx_refund_redis_adapter_object(task, 0) != NGX_OK
        || ngx_refund_redis_adapter_message(task, NULL, 0) != NGX_OK)
    {
        return NULL;
    }

    return ngx_refund_redis_hiredis.createNil(task);
}


#if (HIREDIS_MAJOR >= 1)

/* RESP3 is never asked for */

static void *
ngx_refund_redis_adapter_double(const redisReadTask *task, double value,
    char *text, size_t len)
{
    (void) ngx_refund_redis_adapter_object(task, 0);
    return NULL;
}


static void *
ngx_refund_redis_adapter_bool(const redisReadTask *task, int value)
{
    (void) ngx_refund_redis_adapter_object(task, 0);
    return NULL;
}

#endif


static void
ngx_refund_redis_adapter_free(void *reply)
{
    if (reply == ngx_refund_redis_kept) {
        ngx_refund_redis_kept = NULL;
        return;
    }

    ngx_refund_redis_hiredis.freeObject(reply);
}

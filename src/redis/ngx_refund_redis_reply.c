
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis_numeric.h"
#include "ngx_refund_redis_reply.h"


static ngx_int_t ngx_refund_redis_slots_entry(const redisReply *entry,
    ngx_refund_redis_announced_t *node);
static void ngx_refund_redis_slots_ip(const redisReply *metadata,
    ngx_str_t *ip);
static ngx_int_t ngx_refund_redis_host(const redisReply *reply,
    ngx_str_t *host);
static ngx_uint_t ngx_refund_redis_is_host(const ngx_str_t *host);
static ngx_uint_t ngx_refund_redis_word(u_char **p, u_char *last,
    ngx_str_t *word);
static ngx_int_t ngx_refund_redis_port(const ngx_str_t *text, in_port_t *port);


ngx_uint_t
ngx_refund_redis_slot(const ngx_str_t *key)
{
    u_char      *p, *start, *end, *last;
    uint16_t     crc;
    ngx_uint_t   i;

    start = key->data;
    last = key->data + key->len;
    end = last;

    p = memchr(key->data, '{', key->len);

    if (p) {
        start = p + 1;
        end = memchr(start, '}', last - start);

        if (end == NULL || end == start) {
            start = key->data;
            end = last;
        }
    }

    crc = 0;

    for (p = start; p < end; p++) {
        crc ^= (uint16_t) (*p << 8);

        for (i = 0; i < 8; i++) {
            crc = (crc & 0x8000) ? (uint16_t) (crc << 1) ^ 0x1021
                                 : (uint16_t) (crc << 1);
        }
    }

    return crc % NGX_REFUND_REDIS_SLOTS;
}


ngx_int_t
ngx_refund_redis_slots(const redisReply *reply,
    ngx_refund_redis_slots_pt handler, void *data)
{
    size_t                        i;
    ngx_int_t                     rc;
    redisReply                  **element;
    ngx_refund_redis_announced_t  node;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0) {
        return NGX_DECLINED;
    }

    /* all of it first: half a map is none */

    for (i = 0; i < reply->elements; i++) {
        if (ngx_refund_redis_slots_entry(reply->element[i], &node) != NGX_OK) {
            return NGX_DECLINED;
        }
    }

    for (i = 0; i < reply->elements; i++) {
        element = reply->element[i]->element;

        (void) ngx_refund_redis_slots_entry(reply->element[i], &node);

        rc = handler(data, (ngx_uint_t) element[0]->integer,
                     (ngx_uint_t) element[1]->integer, &node);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


/* https://redis.io/docs/latest/commands/cluster-slots/ */

static ngx_int_t
ngx_refund_redis_slots_entry(const redisReply *entry,
    ngx_refund_redis_announced_t *node)
{
    const redisReply  *master;

    if (entry->type != REDIS_REPLY_ARRAY
        || entry->elements < 3
        || entry->element[0]->type != REDIS_REPLY_INTEGER
        || entry->element[1]->type != REDIS_REPLY_INTEGER
        || entry->element[0]->integer < 0
        || entry->element[1]->integer < entry->element[0]->integer
        || entry->element[1]->integer >= NGX_REFUND_REDIS_SLOTS)
    {
        return NGX_ERROR;
    }

    master = entry->element[2];

    if (master->type != REDIS_REPLY_ARRAY
        || master->elements < 2
        || ngx_refund_redis_host(master->element[0], &node->host) != NGX_OK
        || master->element[1]->type != REDIS_REPLY_INTEGER
        || master->element[1]->integer < 1
        || master->element[1]->integer > 65535)
    {
        return NGX_ERROR;
    }

    node->port = (in_port_t) master->element[1]->integer;
    ngx_str_null(&node->ip);

    if (master->elements > 3) {
        ngx_refund_redis_slots_ip(master->element[3], &node->ip);
    }

    return NGX_OK;
}


/* Pairs of names and values, since Redis 7.  The address goes to hiredis. */

static void
ngx_refund_redis_slots_ip(const redisReply *metadata, ngx_str_t *ip)
{
    size_t             i;
    const redisReply  *name;

    if (metadata->type != REDIS_REPLY_ARRAY) {
        return;
    }

    for (i = 0; i + 1 < metadata->elements; i += 2) {
        name = metadata->element[i];

        if (name->type == REDIS_REPLY_STRING
            && name->len == 2
            && ngx_memcmp(name->str, "ip", 2) == 0
            && ngx_refund_redis_host(metadata->element[i + 1], ip) == NGX_OK
            && ip->len)
        {
            if (!ngx_refund_redis_numeric(ip)) {
                ngx_str_null(ip);
            }

            return;
        }
    }
}


static ngx_int_t
ngx_refund_redis_host(const redisReply *reply, ngx_str_t *host)
{
    ngx_str_null(host);

    if (reply->type == REDIS_REPLY_NIL) {
        return NGX_OK;
    }

    if (reply->type != REDIS_REPLY_STRING) {
        return NGX_ERROR;
    }

    /* "?": a node that has no name yet where names are announced */

    if (reply->len == 0 || (reply->len == 1 && reply->str[0] == '?')) {
        return NGX_OK;
    }

    host->data = (u_char *) reply->str;
    host->len = reply->len;

    if (!ngx_refund_redis_is_host(host)) {
        ngx_str_null(host);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_refund_redis_redirection(const ngx_str_t *text,
    ngx_refund_redis_announced_t *node)
{
    u_char     *p, *last, *colon;
    ngx_str_t   word, slot, address, port;

    p = text->data;
    last = p + text->len;

    if (!ngx_refund_redis_word(&p, last, &word)
        || !ngx_refund_redis_word(&p, last, &slot)
        || !ngx_refund_redis_word(&p, last, &address)
        || p != last)
    {
        return NGX_DECLINED;
    }

    /* the last one: an IPv6 address has colons of its own */

    for (colon = address.data + address.len - 1;
         colon > address.data && *colon != ':';
         colon--)
    {
        /* void */
    }

    if (*colon != ':') {
        return NGX_DECLINED;
    }

    port.data = colon + 1;
    port.len = address.data + address.len - port.data;

    node->host.data = address.data;
    node->host.len = colon - address.data;
    ngx_str_null(&node->ip);

    if (node->host.len == 1 && node->host.data[0] == '?') {
        node->host.len = 0;
    }

    if (node->host.len && !ngx_refund_redis_is_host(&node->host)) {
        return NGX_DECLINED;
    }

    return ngx_refund_redis_port(&port, &node->port);
}


ngx_int_t
ngx_refund_redis_master(const redisReply *reply,
    ngx_refund_redis_announced_t *node)
{
    ngx_str_t  port;

    if (reply->type == REDIS_REPLY_NIL) {
        return NGX_DECLINED;
    }

    if (reply->type != REDIS_REPLY_ARRAY
        || reply->elements != 2
        || ngx_refund_redis_host(reply->element[0], &node->host) != NGX_OK
        || node->host.len == 0
        || reply->element[1]->type != REDIS_REPLY_STRING)
    {
        return NGX_ERROR;
    }

    port.data = (u_char *) reply->element[1]->str;
    port.len = reply->element[1]->len;
    ngx_str_null(&node->ip);

    return (ngx_refund_redis_port(&port, &node->port) == NGX_OK) ? NGX_OK
                                                                 : NGX_ERROR;
}


ngx_int_t
ngx_refund_redis_switched(const ngx_str_t *text, const ngx_str_t *master,
    ngx_refund_redis_announced_t *node)
{
    u_char     *p, *last;
    ngx_str_t   name, old, old_port, port;

    p = text->data;
    last = p + text->len;

    if (!ngx_refund_redis_word(&p, last, &name)
        || !ngx_refund_redis_word(&p, last, &old)
        || !ngx_refund_redis_word(&p, last, &old_port)
        || !ngx_refund_redis_word(&p, last, &node->host)
        || !ngx_refund_redis_word(&p, last, &port)
        || p != last
        || name.len != master->len
        || ngx_memcmp(name.data, master->data, name.len) != 0
        || !ngx_refund_redis_is_host(&node->host))
    {
        return NGX_DECLINED;
    }

    ngx_str_null(&node->ip);

    return ngx_refund_redis_port(&port, &node->port);
}


/* What may come into a log and into a connect(). */

static ngx_uint_t
ngx_refund_redis_is_host(const ngx_str_t *host)
{
    u_char  c;
    size_t  i;

    if (host->len > NGX_REFUND_REDIS_HOST_MAX) {
        return 0;
    }

    for (i = 0; i < host->len; i++) {
        c = host->data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
              || (c >= '0' && c <= '9')
              || c == '.' || c == '-' || c == '_' || c == ':' || c == '%'))
        {
            return 0;
        }
    }

    return 1;
}


/* The next word of those that single spaces part; 0: it is empty. */

static ngx_uint_t
ngx_refund_redis_word(u_char **p, u_char *last, ngx_str_t *word)
{
    word->data = *p;

    while (*p < last && **p != ' ') {
        (*p)++;
    }

    word->len = *p - word->data;

    if (*p < last && *p + 1 < last) {
        (*p)++;
    }

    return word->len != 0;
}


static ngx_int_t
ngx_refund_redis_port(const ngx_str_t *text, in_port_t *port)
{
    size_t      i;
    ngx_uint_t  n;

    if (text->len == 0 || text->len > 5) {
        return NGX_DECLINED;
    }

    n = 0;

    for (i = 0; i < text->len; i++) {

        if (text->data[i] < '0' || text->data[i] > '9') {
            return NGX_DECLINED;
        }

        n = n * 10 + (text->data[i] - '0');
    }

    if (n < 1 || n > 65535) {
        return NGX_DECLINED;
    }

    *port = (in_port_t) n;

    return NGX_OK;
}


/*
 * Copyright (C) the refund-notify authors
 *
 *     GET /status            what Accept asks for: text/html, application/json,
 *                            or else Prometheus' text
 *     GET /status?ready      200, or 503 while a store in use is down, or was
 *                            never reached yet
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_header.h"
#include "ngx_http_refund_status_metrics.h"


/* the rows of the table of types below */

typedef enum {
    NGX_HTTP_REFUND_STATUS_TEXT = 0,
    NGX_HTTP_REFUND_STATUS_JSON,
    NGX_HTTP_REFUND_STATUS_HTML,
    NGX_HTTP_REFUND_STATUS_WORD             /* for "ready" only */
} ngx_http_refund_status_type_e;


typedef struct {
    ngx_str_t    range;         /* of Accept */
    ngx_uint_t   type;
} ngx_http_refund_status_range_t;


static ngx_int_t ngx_http_refund_status_not_allowed(ngx_http_request_t *r);
static ngx_uint_t ngx_http_refund_status_is_ready(ngx_http_request_t *r);
static ngx_int_t ngx_http_refund_status_ready(ngx_http_request_t *r,
    ngx_http_refund_status_main_conf_t *smcf);
static ngx_uint_t ngx_http_refund_status_type(ngx_http_request_t *r);
static ngx_uint_t ngx_http_refund_status_accept(ngx_str_t *value,
    ngx_uint_t *best, ngx_uint_t type);
static ngx_uint_t ngx_http_refund_status_quality(u_char *p, u_char *last);
static ngx_int_t ngx_http_refund_status_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_uint_t type, ngx_chain_t *chain, off_t size);
static ngx_int_t ngx_http_refund_status_send_text(ngx_http_request_t *r,
    ngx_uint_t status, ngx_uint_t type, const ngx_str_t *text);


/* the length of the type without its parameters comes second */

static struct {
    ngx_str_t    name;
    size_t       len;
} ngx_http_refund_status_types[] = {
    { ngx_string("text/plain; version=0.0.4; charset=utf-8"),
      sizeof("text/plain") - 1 },
    { ngx_string("application/json"), sizeof("application/json") - 1 },
    { ngx_string("text/html; charset=utf-8"), sizeof("text/html") - 1 },
    { ngx_string("text/plain; charset=utf-8"), sizeof("text/plain") - 1 }
};


static ngx_http_refund_status_range_t  ngx_http_refund_status_ranges[] = {
    { ngx_string("text/html"), NGX_HTTP_REFUND_STATUS_HTML },
    { ngx_string("application/json"), NGX_HTTP_REFUND_STATUS_JSON },
    { ngx_string("application/*"), NGX_HTTP_REFUND_STATUS_JSON },
    { ngx_string("text/plain"), NGX_HTTP_REFUND_STATUS_TEXT },
    { ngx_string("text/*"), NGX_HTTP_REFUND_STATUS_TEXT },
    { ngx_string("*/*"), NGX_HTTP_REFUND_STATUS_TEXT },
    { ngx_null_string, 0 }
};


ngx_int_t
ngx_http_refund_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                            rc;
    ngx_uint_t                           type;
    ngx_http_refund_status_output_t      out;
    ngx_http_refund_status_main_conf_t  *smcf;

    smcf = ngx_http_get_module_main_conf(r, ngx_http_refund_status_module);

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_refund_status_not_allowed(r);
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_refund_worker) {
        ngx_http_refund_status_publish(smcf);
    }

    if (ngx_http_refund_status_is_ready(r)) {
        return ngx_http_refund_status_ready(r, smcf);
    }

    type = ngx_http_refund_status_type(r);

    if (type == NGX_HTTP_REFUND_STATUS_HTML) {
        if (ngx_http_refund_header(r, "Content-Security-Policy", &smcf->policy)
            != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return ngx_http_refund_status_send_text(r, NGX_HTTP_OK, type,
                                                &ngx_http_refund_status_page);
    }

    ngx_memzero(&out, sizeof(ngx_http_refund_status_output_t));

    out.pool = r->pool;
    out.json = (type == NGX_HTTP_REFUND_STATUS_JSON);

    if (ngx_http_refund_status_metrics(smcf, &out) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    out.buf->last_buf = (r == r->main);
    out.buf->last_in_chain = 1;

    return ngx_http_refund_status_send(r, NGX_HTTP_OK, type, out.chain,
                                       out.size);
}


static ngx_int_t
ngx_http_refund_status_not_allowed(ngx_http_request_t *r)
{
    ngx_str_t  methods = ngx_string("GET, HEAD");

    if (ngx_http_refund_header(r, "Allow", &methods) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_HTTP_NOT_ALLOWED;
}


static ngx_uint_t
ngx_http_refund_status_is_ready(ngx_http_request_t *r)
{
    u_char  *p, *last, *end;

    last = r->args.data + r->args.len;

    for (p = r->args.data; p < last; p = end + 1) {
        end = ngx_strlchr(p, last, '&');

        if (end == NULL) {
            end = last;
        }

        if (end - p >= 5 && ngx_memcmp(p, "ready", 5) == 0
            && (end - p == 5 || p[5] == '='))
        {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_refund_status_ready(ngx_http_request_t *r,
    ngx_http_refund_status_main_conf_t *smcf)
{
    u_char                         *p;
    ngx_str_t                       text;
    ngx_uint_t                      i, status;
    ngx_http_refund_store_t       **store;
    ngx_http_refund_store_state_t   state;

    ngx_str_set(&text, "ready\n");
    status = NGX_HTTP_OK;

    store = smcf->notify->stores.elts;

    for (i = 0; i < smcf->notify->stores.nelts; i++) {

        if (!store[i]->used) {
            continue;
        }

        state = ngx_http_refund_status_store(smcf->zone->data, store[i]);

        if (state.reach == NGX_REFUND_REACH_UP) {
            continue;
        }

        text.len = sizeof("store \"\" is not up yet\n") - 1
                   + store[i]->name.len;

        p = ngx_pnalloc(r->pool, text.len);
        if (p == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        text.data = p;
        text.len = ngx_sprintf(p, "store \"%V\" is %s\n", &store[i]->name,
                               state.reach == NGX_REFUND_REACH_DOWN
                               ? "down" : "not up yet")
                   - p;
        status = NGX_HTTP_SERVICE_UNAVAILABLE;

        break;
    }

    return ngx_http_refund_status_send_text(r, status,
                                            NGX_HTTP_REFUND_STATUS_WORD,
                                            &text);
}


/* What Accept wants most, of equals the first, and without one text. */

static ngx_uint_t
ngx_http_refund_status_type(ngx_http_request_t *r)
{
    ngx_uint_t        i, best, type;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    best = 0;
    type = NGX_HTTP_REFUND_STATUS_TEXT;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == sizeof("accept") - 1
            && ngx_memcmp(h[i].lowcase_key, "accept", sizeof("accept") - 1)
               == 0)
        {
            type = ngx_http_refund_status_accept(&h[i].value, &best, type);
        }
    }

    return type;
}


/* "type/subtype;q=0.5, ..."; best is the quality of type, times 1000. */

static ngx_uint_t
ngx_http_refund_status_accept(ngx_str_t *value, ngx_uint_t *best,
    ngx_uint_t type)
{
    size_t                           len;
    u_char                          *p, *last, *end;
    ngx_uint_t                       quality;
    ngx_http_refund_status_range_t  *range;

    p = value->data;
    last = p + value->len;

    for ( /* void */ ; p < last; p = end + 1) {

        while (p < last && (*p == ' ' || *p == '\t')) {
            p++;
        }

        end = ngx_strlchr(p, last, ',');

        if (end == NULL) {
            end = last;
        }

        for (range = ngx_http_refund_status_ranges; range->range.len; range++)
        {
            len = range->range.len;

            if ((size_t) (end - p) < len
                || ngx_strncasecmp(p, range->range.data, len) != 0
                || (p + len < end && p[len] != ';' && p[len] != ' '
                    && p[len] != '\t'))
            {
                continue;
            }

            quality = ngx_http_refund_status_quality(p + len, end);

            if (quality > *best) {
                *best = quality;
                type = range->type;
            }

            break;
        }
    }

    return type;
}


static ngx_uint_t
ngx_http_refund_status_quality(u_char *p, u_char *last)
{
    ngx_int_t  quality;

    for ( /* void */ ; p < last - 2; p++) {

        if ((p[0] != 'q' && p[0] != 'Q') || p[1] != '='
            || (p[-1] != ';' && p[-1] != ' ' && p[-1] != '\t'))
        {
            continue;
        }

        for (p += 2, last--; last > p && (*last == ' ' || *last == '\t');
             last--)
        {
            /* void */
        }

        quality = ngx_atofp(p, last + 1 - p, 3);

        return (quality == NGX_ERROR) ? 0 : ngx_min(quality, 1000);
    }

    return 1000;
}


static ngx_int_t
ngx_http_refund_status_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_uint_t type, ngx_chain_t *chain, off_t size)
{
    ngx_int_t  rc;
    ngx_str_t  no_store = ngx_string("no-store");
    ngx_str_t  vary = ngx_string("Accept");
    ngx_str_t  nosniff = ngx_string("nosniff");

    r->headers_out.status = status;
    r->headers_out.content_length_n = size;
    r->headers_out.content_type = ngx_http_refund_status_types[type].name;
    r->headers_out.content_type_len = ngx_http_refund_status_types[type].len;
    r->headers_out.content_type_lowcase = NULL;

    /* no If-None-Match and the like may make another answer of it */

    r->disable_not_modified = 1;

    if (ngx_http_refund_header(r, "Cache-Control", &no_store) != NGX_OK
        || ngx_http_refund_header(r, "Vary", &vary) != NGX_OK
        || ngx_http_refund_header(r, "X-Content-Type-Options", &nosniff)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, chain);
}


static ngx_int_t
ngx_http_refund_status_send_text(ngx_http_request_t *r, ngx_uint_t status,
    ngx_uint_t type, const ngx_str_t *text)
{
    ngx_buf_t    *b;
    ngx_chain_t   chain;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->pos = text->data;
    b->last = text->data + text->len;
    b->start = b->pos;
    b->end = b->last;
    b->memory = 1;
    b->last_buf = (r == r->main);
    b->last_in_chain = 1;

    chain.buf = b;
    chain.next = NULL;

    return ngx_http_refund_status_send(r, status, type, &chain, text->len);
}

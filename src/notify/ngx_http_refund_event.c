
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_event.h"
#include "ngx_http_refund_notify.h"
#include "ngx_http_refund_span.h"
#include "ngx_http_refund_target.h"


#define NGX_HTTP_REFUND_EVENT_POOL_SIZE  4096


static ngx_int_t ngx_http_refund_event_copy(ngx_http_refund_event_t *event,
    ngx_str_t *dst, const u_char *data, size_t len);
static ngx_int_t ngx_http_refund_event_request_id(
    ngx_http_refund_event_t *event, ngx_http_request_t *r);
static ngx_int_t ngx_http_refund_event_targets(ngx_http_refund_event_t *event,
    ngx_http_request_t *r);
static ngx_int_t ngx_http_refund_event_uri(ngx_http_refund_event_t *event,
    ngx_http_refund_target_t *target, ngx_http_request_t *r);
static ngx_uint_t ngx_http_refund_event_uri_valid(ngx_str_t *part);


ngx_http_refund_event_t *
ngx_http_refund_event_create(ngx_http_request_t *r,
    const ngx_http_refund_delivery_origin_t *origin,
    ngx_http_refund_event_conf_t *conf, const wechatpay_refund_t *refund,
    ngx_str_t *merchant, ngx_str_t *traceparent, ngx_str_t *tracestate)
{
    ngx_int_t                 rc;
    ngx_pool_t               *pool;
    wechatpay_str_t           id;
    wechatpay_memory_t        memory;
    ngx_http_refund_event_t  *event;

    pool = ngx_create_pool(NGX_HTTP_REFUND_EVENT_POOL_SIZE, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    event = ngx_pcalloc(pool, sizeof(ngx_http_refund_event_t));
    if (event == NULL) {
        goto failed;
    }

    event->pool = pool;
    event->references = 1;
    event->conf = conf;
    event->version = refund->version;
    event->merchant = *merchant;
    event->status = ngx_http_refund_string(
                        wechatpay_refund_status_name(refund->status));

    memory = ngx_http_refund_memory(pool);

    if (wechatpay_event_id(refund, &memory, &id) != WECHATPAY_OK) {
        goto failed;
    }

    event->id = ngx_http_refund_string(id);

    if (ngx_http_refund_event_copy(event, &event->refund_id,
                                   refund->refund_id.data,
                                   refund->refund_id.len)
        != NGX_OK
        || ngx_http_refund_event_copy(event, &event->out_refund_no,
                                      refund->out_refund_no.data,
                                      refund->out_refund_no.len)
           != NGX_OK
        || ngx_http_refund_event_copy(event, &event->out_trade_no,
                                      refund->out_trade_no.data,
                                      refund->out_trade_no.len)
           != NGX_OK
        || ngx_http_refund_event_copy(event, &event->traceparent,
                                      traceparent->data, traceparent->len)
           != NGX_OK
        || ngx_http_refund_event_copy(event, &event->tracestate,
                                      tracestate->data, tracestate->len)
           != NGX_OK)
    {
        goto failed;
    }

    rc = r ? ngx_http_refund_delivery_origin(r, pool, &event->origin)
           : ngx_http_refund_delivery_copy_origin(origin, pool,
                                                  &event->origin);

    if (rc != NGX_OK) {
        goto failed;
    }

    if ((r && ngx_http_refund_event_request_id(event, r) != NGX_OK)
        || ngx_http_refund_event_targets(event, r) != NGX_OK)
    {
        goto failed;
    }

    return event;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


static ngx_int_t
ngx_http_refund_event_copy(ngx_http_refund_event_t *event, ngx_str_t *dst,
    const u_char *data, size_t len)
{
    if (len == 0) {
        return NGX_OK;
    }

    dst->data = ngx_pnalloc(event->pool, len);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(dst->data, data, len);
    dst->len = len;

    return NGX_OK;
}


/*
 * The $request_id that the access log has of the client's request: a delivery
 * is a request of its own, with another.  Where nothing in the configuration
 * uses it nobody would find it again, and it is not made.
 */

static ngx_int_t
ngx_http_refund_event_request_id(ngx_http_refund_event_t *event,
    ngx_http_request_t *r)
{
    ngx_http_variable_value_t           *v;
    ngx_http_refund_notify_main_conf_t  *nmcf;

    nmcf = ngx_http_get_module_main_conf(r, ngx_http_refund_notify_module);

    if (nmcf->request_id < 0) {
        return NGX_OK;
    }

    v = ngx_http_get_indexed_variable(r, nmcf->request_id);

    if (v == NULL || v->not_found) {
        return NGX_OK;
    }

    return ngx_http_refund_event_copy(event, &event->request_id, v->data,
                                      v->len);
}


static ngx_int_t
ngx_http_refund_event_targets(ngx_http_refund_event_t *event,
    ngx_http_request_t *r)
{
    u_char                         *p;
    ngx_uint_t                      i;
    ngx_http_refund_target_t       *target;
    ngx_http_refund_target_conf_t  *tc;

    tc = event->conf->targets->elts;

    event->ntargets = event->conf->targets->nelts;
    event->targets = ngx_pcalloc(event->pool, event->ntargets
                                           * sizeof(ngx_http_refund_target_t));
    if (event->targets == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < event->ntargets; i++) {
        target = &event->targets[i];

        target->event = event;
        target->conf = &tc[i];

        if (ngx_http_refund_event_uri(event, target, r) != NGX_OK) {
            return NGX_ERROR;
        }

        /*
         * The braces make all targets of an event one slot of a Redis Cluster.
         */

        target->op.key.len = event->id.len + tc[i].name.len + 2;
        target->op.key.data = ngx_pnalloc(event->pool, target->op.key.len);
        if (target->op.key.data == NULL) {
            return NGX_ERROR;
        }

        p = target->op.key.data;

        *p++ = '{';
        p = ngx_cpymem(p, event->id.data, event->id.len);
        *p++ = '}';
        ngx_memcpy(p, tc[i].name.data, tc[i].name.len);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_event_uri(ngx_http_refund_event_t *event,
    ngx_http_refund_target_t *target, ngx_http_request_t *r)
{
    ngx_str_t                       uri, args;
    ngx_uint_t                      flags;
    ngx_http_refund_target_conf_t  *tc;

    tc = target->conf;

    if (tc->value == NULL) {
        target->uri = tc->uri;
        target->args = tc->args;
        return NGX_OK;
    }

    if (ngx_http_complex_value(r, tc->value, &uri) != NGX_OK) {
        return NGX_ERROR;
    }

    flags = 0;
    ngx_str_null(&args);

    if (uri.len == 0 || uri.data[0] != '/'
        || ngx_http_parse_unsafe_uri(r, &uri, &args, &flags) != NGX_OK
        || !ngx_http_refund_event_uri_valid(&uri)
        || !ngx_http_refund_event_uri_valid(&args))
    {
        /* it stays empty, which its target will tell */
        return NGX_OK;
    }

    if (ngx_http_refund_event_copy(event, &target->uri, uri.data, uri.len)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_refund_event_copy(event, &target->args, args.data,
                                      args.len);
}


/*
 * What a client wrote into a variable must not end the URI, or the line, of the
 * request that the business app gets: nginx sends the arguments as they are,
 * and the path too where proxy_pass has $uri.
 */

static ngx_uint_t
ngx_http_refund_event_uri_valid(ngx_str_t *part)
{
    size_t  i;

    for (i = 0; i < part->len; i++) {
        if (part->data[i] <= 0x20 || part->data[i] == 0x7f) {
            return 0;
        }
    }

    return 1;
}


void
ngx_http_refund_event_start(ngx_http_refund_event_t *event,
    const wechatpay_refund_t *refund, time_t received)
{
    ngx_uint_t          i, claimed;
    wechatpay_str_t     json;
    wechatpay_memory_t  memory;

    claimed = 0;

    for (i = 0; i < event->ntargets; i++) {
        if (ngx_http_refund_target_claim(&event->targets[i]) == NGX_OK) {
            claimed++;
        }
    }

    if (ngx_http_refund_event_pending(event) == 0) {
        return;
    }

    /*
     * Made while the claims are on their way, and not at all for an event that
     * was accepted before.  refund may be gone when a claim comes back.
     */

    memory = ngx_http_refund_memory(event->pool);

    if (wechatpay_event_json(refund, ngx_http_refund_span(&event->id),
                             ngx_http_refund_span(&event->merchant), received,
                             &memory, &json)
        == WECHATPAY_OK)
    {
        event->json = ngx_http_refund_string(json);
    }

    if (claimed == 0) {
        return;
    }

    for (i = 0; i < event->ntargets; i++) {
        if (event->targets[i].claimed) {
            ngx_http_refund_target_deliver(&event->targets[i]);
        }
    }
}


ngx_uint_t
ngx_http_refund_event_pending(ngx_http_refund_event_t *event)
{
    ngx_uint_t  i, n;

    n = 0;

    for (i = 0; i < event->ntargets; i++) {
        if (!event->targets[i].settled) {
            n++;
        }
    }

    return n;
}


wechatpay_result_e
ngx_http_refund_event_result(ngx_http_refund_event_t *event,
    ngx_http_refund_target_t **target)
{
    ngx_uint_t                 i, j;
    wechatpay_result_e         result;
    ngx_http_refund_target_t  *t;

    static wechatpay_result_e  order[] = {
        WECHATPAY_RESULT_STORE_ERROR,
        WECHATPAY_RESULT_UPSTREAM_ERROR,
        WECHATPAY_RESULT_DEADLINE,
        WECHATPAY_RESULT_IN_FLIGHT,
        WECHATPAY_RESULT_DELIVERED,
        WECHATPAY_RESULT_DUPLICATE
    };

    for (i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        for (j = 0; j < event->ntargets; j++) {
            t = &event->targets[j];
            result = t->known ? t->result : WECHATPAY_RESULT_DEADLINE;

            if (result == order[i]) {
                *target = t;
                return result;
            }
        }
    }

    /* there is no event without a target */

    *target = &event->targets[0];

    return WECHATPAY_RESULT_DEADLINE;
}


void
ngx_http_refund_event_leave(ngx_http_refund_event_t *event)
{
    event->wake = NULL;
    event->late = 1;
}


void
ngx_http_refund_event_release(ngx_http_refund_event_t *event)
{
    event->references--;

    if (event->references == 0) {
        ngx_destroy_pool(event->pool);
    }
}


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_body.h"
#include "ngx_http_refund_header.h"
#include "ngx_refund_log.h"
#include "ngx_http_refund_notify.h"
#include "ngx_http_refund_span.h"


/* a traceparent has 55 characters, a tracestate 512 at the most (W3C) */
#define NGX_HTTP_REFUND_NOTIFY_TRACE_MAX  512


typedef struct {
    wechatpay_headers_t    wechatpay;
    ngx_str_t              traceparent;
    ngx_str_t              tracestate;
} ngx_http_refund_notify_headers_t;


static ngx_int_t ngx_http_refund_notify_merchant(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx);
static ngx_http_refund_notify_ctx_t *ngx_http_refund_notify_create_ctx(
    ngx_http_request_t *r);
static void ngx_http_refund_notify_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_refund_notify_process(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx);
static wechatpay_error_e ngx_http_refund_notify_parse(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx, wechatpay_str_t body,
    ngx_http_refund_notify_headers_t *headers, wechatpay_refund_t *refund);
static void ngx_http_refund_notify_headers(ngx_http_request_t *r,
    ngx_http_refund_notify_headers_t *headers);
static ngx_uint_t ngx_http_refund_notify_trace_valid(ngx_str_t *value);
static void ngx_http_refund_notify_wake(ngx_http_refund_event_t *event);
static void ngx_http_refund_notify_deadline_handler(ngx_event_t *ev);
static void ngx_http_refund_notify_resume(ngx_http_refund_notify_ctx_t *ctx);
static ngx_int_t ngx_http_refund_notify_answer_event(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx);
static ngx_int_t ngx_http_refund_notify_answer(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx, wechatpay_result_e result,
    const char *reason);
static ngx_int_t ngx_http_refund_notify_answer_error(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx, wechatpay_error_e error);
static ngx_int_t ngx_http_refund_notify_refuse(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx, ngx_int_t status, const char *reason);
static void ngx_http_refund_notify_leave(void *data);
static void ngx_http_refund_notify_cleanup(void *data);


/* one a worker; parsing is never interrupted */
static wechatpay_parser_t  *ngx_http_refund_notify_parser;


ngx_int_t
ngx_http_refund_notify_handler(ngx_http_request_t *r)
{
    ngx_int_t                           rc;
    ngx_http_refund_notify_ctx_t       *ctx;
    ngx_http_refund_notify_loc_conf_t  *nlcf;

    if (ngx_http_refund_delivery_of(r) != NULL || r != r->main) {
        ngx_refund_log_limited(NGX_LOG_ERR, r->connection->log,
                               &ngx_http_refund_notify_parser,
                               "\"refund_notify\" takes requests of clients "
                               "only, not deliveries or subrequests");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_refund_notify_module);

    ctx = ngx_http_refund_notify_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_refund_notify_merchant(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    if (r->method != NGX_HTTP_POST) {
        return ngx_http_refund_notify_refuse(r, ctx, NGX_HTTP_NOT_ALLOWED,
                                             "the method is not POST");
    }

    if (r->headers_in.content_length_n > (off_t) nlcf->max_body_size) {
        return ngx_http_refund_notify_refuse(r, ctx,
                                             NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                             "the body is too large");
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r,
                                          ngx_http_refund_notify_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static ngx_int_t
ngx_http_refund_notify_merchant(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx)
{
    ngx_http_refund_notify_loc_conf_t   *nlcf;
    ngx_http_refund_notify_main_conf_t  *nmcf;

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_refund_notify_module);
    nmcf = ngx_http_get_module_main_conf(r, ngx_http_refund_notify_module);

    switch (ngx_http_refund_merchant_name_find(r, &nmcf->merchants,
                                               &nlcf->merchant,
                                               &ctx->merchant))
    {

    case NGX_OK:
        return NGX_OK;

    case NGX_DECLINED:
        return ngx_http_refund_notify_refuse(r, ctx, NGX_HTTP_NOT_FOUND,
                                             "no such merchant");

    default:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
}


static ngx_http_refund_notify_ctx_t *
ngx_http_refund_notify_create_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t            *cln;
    ngx_http_cleanup_t            *hcln;
    ngx_http_refund_notify_ctx_t  *ctx;

    /*
     * Two ways to take leave: the request's cleanup runs before the log phase,
     * and nobody may wake the request from then on; the pool's runs after it,
     * and the variables want the event until then.  The latter is also where
     * the context is found after error_page or another internal redirect, as
     * ngx_http_realip_module does it.
     */

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_refund_notify_ctx_t));
    hcln = ngx_http_cleanup_add(r, 0);

    if (cln == NULL || hcln == NULL) {
        return NULL;
    }

    ctx = cln->data;

    ngx_memzero(ctx, sizeof(ngx_http_refund_notify_ctx_t));

    ctx->request = r;

    cln->handler = ngx_http_refund_notify_cleanup;
    hcln->handler = ngx_http_refund_notify_leave;
    hcln->data = ctx;

    ngx_http_set_ctx(r, ctx, ngx_http_refund_notify_module);

    return ctx;
}


ngx_http_refund_notify_ctx_t *
ngx_http_refund_notify_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t            *cln;
    ngx_http_refund_notify_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_get_module_ctx(r, ngx_http_refund_notify_module);

    if (ctx == NULL && (r->internal || r->filter_finalize)) {
        for (cln = r->pool->cleanup; cln; cln = cln->next) {
            if (cln->handler == ngx_http_refund_notify_cleanup) {
                return cln->data;
            }
        }
    }

    return ctx;
}


static void
ngx_http_refund_notify_body_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_http_refund_notify_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_refund_notify_module);
    ctx->started = ngx_refund_clock();

    rc = ngx_http_refund_notify_process(r, ctx);

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}


/* What the answer's output returned, or NGX_DONE: the answer comes later. */

static ngx_int_t
ngx_http_refund_notify_process(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx)
{
    ngx_int_t                           rc;
    wechatpay_str_t                     body;
    wechatpay_error_e                   error;
    wechatpay_refund_t                  refund;
    ngx_http_refund_event_t            *event;
    ngx_http_refund_notify_headers_t    headers;
    ngx_http_refund_notify_loc_conf_t  *nlcf;

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_refund_notify_module);

    rc = ngx_http_refund_body(r, nlcf->max_body_size, &body);

    if (rc == NGX_DECLINED) {
        return ngx_http_refund_notify_refuse(r, ctx,
                                             NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                             "the body is too large");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_refund_notify_headers(r, &headers);

    error = ngx_http_refund_notify_parse(r, ctx, body, &headers, &refund);

    if (error != WECHATPAY_OK) {
        return ngx_http_refund_notify_answer_error(r, ctx, error);
    }

    event = ngx_http_refund_event_create(r, NULL, &nlcf->event, &refund,
                                         &ctx->merchant->sn.str,
                                         &headers.traceparent,
                                         &headers.tracestate);
    if (event == NULL) {
        return ngx_http_refund_notify_answer_error(r, ctx,
                                                   WECHATPAY_ERROR_NO_MEMORY);
    }

    ctx->event = event;

    ngx_http_refund_event_start(event, &refund, ngx_time());

    if (ngx_http_refund_event_pending(event) == 0) {
        return ngx_http_refund_notify_answer_event(r, ctx);
    }

    event->wake = ngx_http_refund_notify_wake;
    event->data = ctx;

    ctx->deadline.handler = ngx_http_refund_notify_deadline_handler;
    ctx->deadline.data = ctx;
    ctx->deadline.log = r->connection->log;

    ngx_add_timer(&ctx->deadline, nlcf->deadline);

    return NGX_DONE;
}


static wechatpay_error_e
ngx_http_refund_notify_parse(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx, wechatpay_str_t body,
    ngx_http_refund_notify_headers_t *headers, wechatpay_refund_t *refund)
{
    ngx_uint_t                          accept;
    wechatpay_memory_t                  memory;
    wechatpay_merchant_t               *merchant;
    ngx_http_refund_notify_loc_conf_t  *nlcf;

    nlcf = ngx_http_get_module_loc_conf(r, ngx_http_refund_notify_module);

    merchant = ctx->merchant->wechatpay;
    memory = ngx_http_refund_memory(r->pool);

    ctx->version = wechatpay_notify_version(body);

    switch (ctx->version) {

    case WECHATPAY_V2:
        accept = NGX_HTTP_REFUND_NOTIFY_V2;
        break;

    case WECHATPAY_V3:
        accept = NGX_HTTP_REFUND_NOTIFY_V3;
        break;

    default:
        return WECHATPAY_ERROR_FORMAT_UNKNOWN;
    }

    /* 0, where it was not configured: what the merchant has keys for */

    if (nlcf->accept && !(nlcf->accept & accept)) {
        return WECHATPAY_ERROR_VERSION_NOT_ACCEPTED;
    }

    if (ngx_http_refund_notify_parser == NULL) {
        ngx_http_refund_notify_parser = wechatpay_parser_create();

        if (ngx_http_refund_notify_parser == NULL) {
            return WECHATPAY_ERROR_NO_MEMORY;
        }
    }

    if (ctx->version == WECHATPAY_V2) {
        return wechatpay_v2_notify(ngx_http_refund_notify_parser, merchant,
                                   body, &memory, refund);
    }

    return wechatpay_v3_notify(ngx_http_refund_notify_parser, merchant,
                               &headers->wechatpay, body, ngx_time(),
                               nlcf->clock_skew, &memory, refund);
}


static void
ngx_http_refund_notify_headers(ngx_http_request_t *r,
    ngx_http_refund_notify_headers_t *headers)
{
    ngx_str_t         name, *trace;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    ngx_memzero(headers, sizeof(ngx_http_refund_notify_headers_t));

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

        name.len = h[i].key.len;
        name.data = h[i].lowcase_key;

        if (wechatpay_headers_add(&headers->wechatpay,
                                  ngx_http_refund_span(&name),
                                  ngx_http_refund_span(&h[i].value)))
        {
            continue;
        }

        if (name.len == sizeof("traceparent") - 1
            && ngx_memcmp(name.data, "traceparent", name.len) == 0)
        {
            trace = &headers->traceparent;

        } else if (name.len == sizeof("tracestate") - 1
                   && ngx_memcmp(name.data, "tracestate", name.len) == 0)
        {
            trace = &headers->tracestate;

        } else {
            continue;
        }

        if (trace->len == 0
            && ngx_http_refund_notify_trace_valid(&h[i].value))
        {
            *trace = h[i].value;
        }
    }
}


/*
 * Printable ASCII, as Trace Context has it: a business app may refuse a request
 * whose header has other bytes, and with it an event that is genuine.
 */

static ngx_uint_t
ngx_http_refund_notify_trace_valid(ngx_str_t *value)
{
    size_t  i;

    if (value->len > NGX_HTTP_REFUND_NOTIFY_TRACE_MAX) {
        return 0;
    }

    for (i = 0; i < value->len; i++) {
        if (value->data[i] < 0x20 || value->data[i] >= 0x7f) {
            return 0;
        }
    }

    return 1;
}


static void
ngx_http_refund_notify_wake(ngx_http_refund_event_t *event)
{
    if (ngx_http_refund_event_pending(event) == 0) {
        ngx_http_refund_notify_resume(event->data);
    }
}


static void
ngx_http_refund_notify_deadline_handler(ngx_event_t *ev)
{
    ngx_http_refund_notify_resume(ev->data);
}


/* Answers a request that has waited; it is gone on return. */

static void
ngx_http_refund_notify_resume(ngx_http_refund_notify_ctx_t *ctx)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    /* from here on nothing may wake it, even if the answer has to wait */

    ngx_http_refund_notify_leave(ctx);

    ngx_http_finalize_request(r, ngx_http_refund_notify_answer_event(r, ctx));

    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_refund_notify_answer_event(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx)
{
    const char                *reason;
    wechatpay_result_e         result;
    ngx_http_refund_target_t  *target;

    result = ngx_http_refund_event_result(ctx->event, &target);

    reason = (result == WECHATPAY_RESULT_DEADLINE)
             ? "the deadline passed, the delivery goes on" : target->reason;

    switch (result) {

    case WECHATPAY_RESULT_UPSTREAM_ERROR:
        ngx_refund_log_limited(NGX_LOG_ERR, r->connection->log, reason,
                "refund notify %V was not accepted by \"%V\": %s, status %ui, "
                "attempt %ui", &ctx->event->id, &target->conf->name, reason,
                target->delivery.peer_status, target->attempt);
        break;

    case WECHATPAY_RESULT_STORE_ERROR:
        ngx_refund_log_limited(NGX_LOG_ERR, r->connection->log, reason,
                "refund notify %V was not delivered to \"%V\": store \"%V\": "
                "%s", &ctx->event->id, &target->conf->name,
                &ctx->event->conf->store->name, reason);
        break;

    case WECHATPAY_RESULT_DEADLINE:
        ngx_refund_log_limited(NGX_LOG_ERR, r->connection->log, reason,
                "refund notify %V has no answer of \"%V\" yet: %s, attempt "
                "%ui", &ctx->event->id, &target->conf->name, reason,
                target->attempt);
        break;

    case WECHATPAY_RESULT_IN_FLIGHT:
        ngx_refund_log_limited(NGX_LOG_INFO, r->connection->log, reason,
                "refund notify %V is refused for now by \"%V\": %s",
                &ctx->event->id, &target->conf->name, reason);
        break;

    default: /* delivered, now or before */
        break;
    }

    return ngx_http_refund_notify_answer(r, ctx, result, reason);
}


/*
 * What anyone on the open URL can cause is told at "info"; but who has passed a
 * v3 signature is WeChat Pay itself, and what is wrong then is ours to mend.
 */

static ngx_int_t
ngx_http_refund_notify_answer_error(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx, wechatpay_error_e error)
{
    ngx_uint_t          level;
    const char         *reason;
    wechatpay_str_t     word;
    wechatpay_result_e  result;

    result = wechatpay_error_result(error);
    reason = wechatpay_error_phrase(error);
    word = wechatpay_result_word(result);

    if (error == WECHATPAY_ERROR_NO_MEMORY) {
        level = NGX_LOG_ERR;

    } else if (ctx->version == WECHATPAY_V3
               && error > WECHATPAY_ERROR_SIGNATURE_WRONG
               && result != WECHATPAY_RESULT_IGNORED)
    {
        level = NGX_LOG_ERR;

    } else {
        level = NGX_LOG_INFO;
    }

    ngx_refund_log_limited(level, r->connection->log, reason,
                                "refund notify to merchant \"%V\" %*s: %s",
                                &ctx->merchant->sn.str, word.len, word.data,
                                reason);

    return ngx_http_refund_notify_answer(r, ctx, result, reason);
}


static ngx_int_t
ngx_http_refund_notify_answer(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx, wechatpay_result_e result,
    const char *reason)
{
    ngx_str_t                  type;
    const wechatpay_reply_t   *reply;
    ngx_http_complex_value_t   cv;

    reply = wechatpay_reply(ctx->version, result);

    ctx->result = ngx_http_refund_string(wechatpay_result_word(result));
    ctx->reason = reason;

    ngx_refund_count_notify(ctx->merchant->counters, ctx->version, result,
                            ctx->started);

    type = ngx_http_refund_string(reply->content_type);

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    cv.value = ngx_http_refund_string(reply->body);

    /* no If-None-Match and the like may make another answer of it */

    r->disable_not_modified = 1;

    return ngx_http_send_response(r, reply->status, &type, &cv);
}


/* What is no notify at all gets nginx' own page. */

static ngx_int_t
ngx_http_refund_notify_refuse(ngx_http_request_t *r,
    ngx_http_refund_notify_ctx_t *ctx, ngx_int_t status, const char *reason)
{
    ngx_str_t  methods = ngx_string("POST");

    ctx->result = ngx_http_refund_string(
                      wechatpay_result_word(WECHATPAY_RESULT_MALFORMED));
    ctx->reason = reason;

    ngx_refund_count_notify(ctx->merchant ? ctx->merchant->counters : NULL,
                            ctx->version, WECHATPAY_RESULT_MALFORMED,
                            ctx->started);

    ngx_refund_log_limited(NGX_LOG_INFO, r->connection->log, reason,
                                "refund notify refused: %s", reason);

    if (status == NGX_HTTP_NOT_ALLOWED
        && ngx_http_refund_header(r, "Allow", &methods) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return status;
}


static void
ngx_http_refund_notify_leave(void *data)
{
    ngx_http_refund_notify_ctx_t *ctx = data;

    if (ctx->deadline.timer_set) {
        ngx_del_timer(&ctx->deadline);
    }

    if (ctx->event) {
        ngx_http_refund_event_leave(ctx->event);
    }
}


static void
ngx_http_refund_notify_cleanup(void *data)
{
    ngx_http_refund_notify_ctx_t *ctx = data;

    if (ctx->event) {
        ngx_http_refund_event_release(ctx->event);
    }
}


void
ngx_http_refund_notify_exit_process(void)
{
    wechatpay_parser_destroy(ngx_http_refund_notify_parser);
}


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_body.h"
#include "ngx_http_refund_header.h"
#include "ngx_http_refund_notify.h"
#include "ngx_http_refund_request.h"
#include "ngx_http_refund_request_call.h"
#include "ngx_http_refund_span.h"


/* One request of a business app, in the request's pool. */

typedef struct {
    ngx_http_request_t              *request;
    ngx_http_refund_merchant_t      *merchant;
    wechatpay_call_e                 kind;
    ngx_str_t                        id;        /* of the path, or len 0 */
    ngx_http_refund_request_call_t  *call;
} ngx_http_refund_request_ctx_t;


static ngx_int_t ngx_http_refund_request_merchant(ngx_http_request_t *r,
    ngx_http_refund_request_ctx_t *ctx);
static ngx_int_t ngx_http_refund_request_route(ngx_http_request_t *r,
    ngx_http_refund_request_ctx_t *ctx);
static ngx_int_t ngx_http_refund_request_allow(ngx_http_request_t *r,
    ngx_str_t *methods);
static void ngx_http_refund_request_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_refund_request_process(ngx_http_request_t *r,
    ngx_http_refund_request_ctx_t *ctx);
static void ngx_http_refund_request_wipe(ngx_http_request_t *r,
    wechatpay_str_t body);
static int ngx_http_refund_request_parse(ngx_http_request_t *r,
    ngx_http_refund_request_ctx_t *ctx, wechatpay_str_t body,
    wechatpay_failure_t *failure);
static ngx_int_t ngx_http_refund_request_query(ngx_http_request_t *r,
    ngx_http_refund_request_ctx_t *ctx, wechatpay_query_t *query);
static ngx_int_t ngx_http_refund_request_arg(ngx_http_request_t *r,
    ngx_pool_t *pool, const char *name, wechatpay_str_t *value);
static ngx_uint_t ngx_http_refund_request_flag(ngx_http_request_t *r,
    const char *name);
static void ngx_http_refund_request_wake(ngx_http_refund_request_call_t *call);
static ngx_int_t ngx_http_refund_request_refuse(ngx_http_request_t *r,
    wechatpay_code_e code, const char *message);
static ngx_int_t ngx_http_refund_request_answer_failure(ngx_http_request_t *r,
    wechatpay_failure_t *failure);
static ngx_int_t ngx_http_refund_request_answer(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *json);
static void ngx_http_refund_request_leave(void *data);
static void ngx_http_refund_request_cleanup(void *data);


ngx_int_t
ngx_http_refund_request_handler(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_http_cleanup_t             *hcln;
    ngx_pool_cleanup_t             *cln;
    ngx_http_refund_request_ctx_t  *ctx;

    if (ngx_http_refund_delivery_of(r) != NULL || r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "\"refund_request\" takes requests of clients only, not "
                      "deliveries or subrequests");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_refund_request_ctx_t));
    hcln = ngx_http_cleanup_add(r, 0);

    if (cln == NULL || hcln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx = cln->data;

    ngx_memzero(ctx, sizeof(ngx_http_refund_request_ctx_t));

    ctx->request = r;

    cln->handler = ngx_http_refund_request_cleanup;
    hcln->handler = ngx_http_refund_request_leave;
    hcln->data = ctx;

    ngx_http_set_ctx(r, ctx, ngx_http_refund_request_module);

    rc = ngx_http_refund_request_merchant(r, ctx);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_refund_request_route(r, ctx);
    }

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (r->headers_in.content_length_n > WECHATPAY_REQUEST_MAX_BODY) {
        return ngx_http_refund_request_refuse(r,
                                              WECHATPAY_CODE_BODY_TOO_LARGE,
                                              "the body is too large");
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r,
                                         ngx_http_refund_request_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


/* This and the next return NGX_DECLINED where they have nothing to say. */

static ngx_int_t
ngx_http_refund_request_merchant(ngx_http_request_t *r,
    ngx_http_refund_request_ctx_t *ctx)
{
    ngx_http_refund_notify_main_conf_t  *nmcf;
    ngx_http_refund_request_loc_conf_t  *rlcf;

    nmcf = ngx_http_get_module_main_conf(r, ngx_http_refund_notify_module);
    rlcf = ngx_http_get_module_loc_conf(r, ngx_http_refund_request_module);

    switch (ngx_http_refund_merchant_name_find(r, &nmcf->merchants,
                                               &rlcf->merchant,
                                               &ctx->merchant))
    {

    case NGX_OK:

        /* of one that a variable names nobody has checked it before */

        if (wechatpay_merchant_check_calls(ctx->merchant->wechatpay, rlcf->api)
            == NULL)
        {
            return NGX_DECLINED;
        }

        break;

    case NGX_DECLINED:
        break;

    default:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_refund_request_refuse(r, WECHATPAY_CODE_NOT_FOUND,
                                          "no such merchant");
}


/*
 *     POST /refunds                          create
 *     GET  /refunds/{out_refund_no}          query
 *     GET  /refunds?refund_id=... etc.       query
 *     POST /refunds/{refund_id}/abnormal     apply-abnormal-refund
 */

static ngx_int_t
ngx_http_refund_request_route(ngx_http_request_t *r,
    ngx_http_refund_request_ctx_t *ctx)
{
    u_char                              *p, *last;
    ngx_http_refund_request_loc_conf_t  *rlcf;

    static ngx_str_t  get = ngx_string("GET");
    static ngx_str_t  post = ngx_string("POST");
    static ngx_str_t  both = ngx_string("GET, POST");

    rlcf = ngx_http_get_module_loc_conf(r, ngx_http_refund_request_module);

    p = r->uri.data + ngx_min(rlcf->prefix, r->uri.len);
    last = r->uri.data + r->uri.len;

    if (p < last && *p != '/') {
        return ngx_http_refund_request_refuse(r, WECHATPAY_CODE_NOT_FOUND,
                                              "no such resource");
    }

    if (p < last) {
        p++;
    }

    if (p == last) {

        if (r->method == NGX_HTTP_POST) {
            ctx->kind = WECHATPAY_CALL_CREATE;
            return NGX_DECLINED;
        }

        ctx->kind = WECHATPAY_CALL_QUERY;

        return (r->method == NGX_HTTP_GET)
               ? NGX_DECLINED : ngx_http_refund_request_allow(r, &both);
    }

    ctx->id.data = p;
    p = ngx_strlchr(p, last, '/');

    if (p == NULL) {
        ctx->id.len = last - ctx->id.data;
        ctx->kind = WECHATPAY_CALL_QUERY;

        return (r->method == NGX_HTTP_GET)
               ? NGX_DECLINED : ngx_http_refund_request_allow(r, &get);
    }

    ctx->id.len = p - ctx->id.data;

    if (ctx->id.len && last - p == sizeof("/abnormal") - 1
        && ngx_memcmp(p, "/abnormal", sizeof("/abnormal") - 1) == 0)
    {
        ctx->kind = WECHATPAY_CALL_ABNORMAL;

        return (r->method == NGX_HTTP_POST)
               ? NGX_DECLINED : ngx_http_refund_request_allow(r, &post);
    }

    return ngx_http_refund_request_refuse(r, WECHATPAY_CODE_NOT_FOUND,
                                          "no such resource");
}


static ngx_int_t
ngx_http_refund_request_allow(ngx_http_request_t *r, ngx_str_t *methods)
{
    if (ngx_http_refund_header(r, "Allow", methods) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_refund_request_refuse(r, WECHATPAY_CODE_METHOD_NOT_ALLOWED,
                                          "the method is not allowed here");
}


static void
ngx_http_refund_request_body_handler(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_http_refund_request_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_refund_request_module);

    rc = ngx_http_refund_request_process(r, ctx);

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}


/* What the answer's output returned, or NGX_DONE: the answer comes later. */

static ngx_int_t
ngx_http_refund_request_process(ngx_http_request_t *r,
    ngx_http_refund_request_ctx_t *ctx)
{
    int                                  rc;
    wechatpay_str_t                      body;
    wechatpay_failure_t                  failure;
    ngx_http_refund_request_call_t      *call;
    ngx_http_refund_request_loc_conf_t  *rlcf;

    rlcf = ngx_http_get_module_loc_conf(r, ngx_http_refund_request_module);

    switch (ngx_http_refund_body(r, WECHATPAY_REQUEST_MAX_BODY, &body)) {

    case NGX_OK:
        break;

    case NGX_DECLINED:
        return ngx_http_refund_request_refuse(r,
                                              WECHATPAY_CODE_BODY_TOO_LARGE,
                                              "the body is too large");

    default:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    call = ngx_http_refund_request_call_create(r, rlcf, ctx->merchant);
    if (call == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->call = call;

    rc = ngx_http_refund_request_parse(r, ctx, body, &failure);

    if (ctx->kind == WECHATPAY_CALL_ABNORMAL) {

        ngx_http_refund_request_wipe(r, body);
    }

    if (rc != 0) {
        return ngx_http_refund_request_answer_failure(r, &failure);
    }

    ngx_http_refund_request_call_start(call);

    if (call->status) {
        return ngx_http_refund_request_answer(r, call->status, &call->json);
    }

    call->wake = ngx_http_refund_request_wake;
    call->data = ctx;

    return NGX_DONE;
}


/* Somebody's bank account and name; the body may be a copy of its buffers. */

static void
ngx_http_refund_request_wipe(ngx_http_request_t *r, wechatpay_str_t body)
{
    ngx_chain_t  *cl;

    if (body.len) {
        ngx_explicit_memzero((void *) body.data, body.len);
    }

    if (r->request_body == NULL) {
        return;
    }

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        if (ngx_buf_in_memory(cl->buf) && cl->buf->last > cl->buf->pos) {
            ngx_explicit_memzero(cl->buf->pos, cl->buf->last - cl->buf->pos);
        }
    }
}


static int
ngx_http_refund_request_parse(ngx_http_request_t *r,
    ngx_http_refund_request_ctx_t *ctx, wechatpay_str_t body,
    wechatpay_failure_t *failure)
{
    wechatpay_query_t                    query;
    wechatpay_memory_t                   memory;
    wechatpay_merchant_t                *merchant;
    ngx_http_refund_request_call_t      *call;
    ngx_http_refund_request_loc_conf_t  *rlcf;

    rlcf = ngx_http_get_module_loc_conf(r, ngx_http_refund_request_module);

    call = ctx->call;
    merchant = ctx->merchant->wechatpay;
    memory = ngx_http_refund_memory(call->pool);

    switch (ctx->kind) {

    case WECHATPAY_CALL_CREATE:
        return wechatpay_request_create(merchant, rlcf->api, body,
                                       ngx_http_refund_span(&rlcf->notify_url),
                                       &memory, &call->request, failure);

    case WECHATPAY_CALL_ABNORMAL:
        return wechatpay_request_abnormal(merchant, rlcf->api,
                                          ngx_http_refund_span(&ctx->id), body,
                                          &memory, &call->request, failure);

    default: /* WECHATPAY_CALL_QUERY */

        if (ngx_http_refund_request_query(r, ctx, &query) != NGX_OK) {
            wechatpay_failure_set(failure, WECHATPAY_CODE_INTERNAL_ERROR);
            return -1;
        }

        return wechatpay_request_query(merchant, rlcf->api, &query, &memory,
                                       &call->request, failure);
    }
}


static ngx_int_t
ngx_http_refund_request_query(ngx_http_request_t *r,
    ngx_http_refund_request_ctx_t *ctx, wechatpay_query_t *query)
{
    ngx_pool_t  *pool;

    pool = ctx->call->pool;

    ngx_memzero(query, sizeof(wechatpay_query_t));

    if (ngx_http_refund_request_arg(r, pool, "refund_id", &query->refund_id)
        != NGX_OK
        || ngx_http_refund_request_arg(r, pool, "out_refund_no",
                                       &query->out_refund_no)
           != NGX_OK
        || ngx_http_refund_request_arg(r, pool, "transaction_id",
                                       &query->transaction_id)
           != NGX_OK
        || ngx_http_refund_request_arg(r, pool, "out_trade_no",
                                       &query->out_trade_no)
           != NGX_OK
        || ngx_http_refund_request_arg(r, pool, "sub_mch_id",
                                       &query->sub_mch_id)
           != NGX_OK
        || ngx_http_refund_request_arg(r, pool, "offset", &query->offset)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ctx->id.len) {
        query->out_refund_no = ngx_http_refund_span(&ctx->id);
        query->refund_id.len = 0;
    }

    ctx->call->deliver = ngx_http_refund_request_flag(r, "deliver");

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_request_arg(ngx_http_request_t *r, ngx_pool_t *pool,
    const char *name, wechatpay_str_t *value)
{
    u_char     *dst, *src;
    ngx_str_t   arg;

    if (ngx_http_arg(r, (u_char *) name, ngx_strlen(name), &arg) != NGX_OK
        || arg.len == 0)
    {
        return NGX_OK;
    }

    dst = ngx_pnalloc(pool, arg.len);
    if (dst == NULL) {
        return NGX_ERROR;
    }

    value->data = dst;
    src = arg.data;

    ngx_unescape_uri(&dst, &src, arg.len, 0);

    value->len = dst - value->data;

    return NGX_OK;
}


/* An argument that needs no value: ngx_http_arg() finds those with "=" only. */

static ngx_uint_t
ngx_http_refund_request_flag(ngx_http_request_t *r, const char *name)
{
    size_t   len;
    u_char  *p, *last, *end;

    len = ngx_strlen(name);
    p = r->args.data;
    last = r->args.data + r->args.len;

    while (p < last) {
        end = ngx_strlchr(p, last, '&');

        if (end == NULL) {
            end = last;
        }

        if ((size_t) (end - p) >= len && ngx_memcmp(p, name, len) == 0
            && (p + len == end || p[len] == '='))
        {
            return 1;
        }

        p = end + 1;
    }

    return 0;
}


/* Answers a request that has waited; it is gone on return. */

static void
ngx_http_refund_request_wake(ngx_http_refund_request_call_t *call)
{
    ngx_connection_t               *c;
    ngx_http_request_t             *r;
    ngx_http_refund_request_ctx_t  *ctx;

    ctx = call->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ngx_http_refund_request_leave(ctx);

    ngx_http_finalize_request(r, ngx_http_refund_request_answer(r,
                                                   call->status, &call->json));

    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_refund_request_refuse(ngx_http_request_t *r, wechatpay_code_e code,
    const char *message)
{
    wechatpay_failure_t  failure;

    wechatpay_failure_set(&failure, code);

    failure.message.data = (const u_char *) message;
    failure.message.len = ngx_strlen(message);

    return ngx_http_refund_request_answer_failure(r, &failure);
}


static ngx_int_t
ngx_http_refund_request_answer_failure(ngx_http_request_t *r,
    wechatpay_failure_t *failure)
{
    ngx_str_t                            json;
    wechatpay_str_t                      span;
    wechatpay_memory_t                   memory;
    ngx_http_refund_request_ctx_t       *ctx;
    ngx_http_refund_request_loc_conf_t  *rlcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_refund_request_module);
    rlcf = ngx_http_get_module_loc_conf(r, ngx_http_refund_request_module);

    ngx_refund_count_request(ctx->merchant ? ctx->merchant->counters : NULL,
                             rlcf->api, failure->outcome);

    memory = ngx_http_refund_memory(r->pool);

    if (wechatpay_failure_json(failure, &memory, &span) != WECHATPAY_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    json = ngx_http_refund_string(span);

    return ngx_http_refund_request_answer(r, failure->status, &json);
}


static ngx_int_t
ngx_http_refund_request_answer(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *json)
{
    ngx_http_complex_value_t  cv;

    static ngx_str_t  type = ngx_string("application/json");

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    cv.value = *json;

    /* no If-None-Match and the like may make another answer of it */

    r->disable_not_modified = 1;

    return ngx_http_send_response(r, status, &type, &cv);
}


static void
ngx_http_refund_request_leave(void *data)
{
    ngx_http_refund_request_ctx_t *ctx = data;

    if (ctx->call) {
        ctx->call->wake = NULL;
    }
}


static void
ngx_http_refund_request_cleanup(void *data)
{
    ngx_http_refund_request_ctx_t *ctx = data;

    if (ctx->call) {
        ngx_http_refund_request_call_release(ctx->call);
    }
}

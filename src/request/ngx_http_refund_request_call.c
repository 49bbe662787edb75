
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_event.h"
#include "ngx_refund_log.h"
#include "ngx_http_refund_request_call.h"
#include "ngx_http_refund_request_rate.h"
#include "ngx_http_refund_span.h"


#define NGX_HTTP_REFUND_REQUEST_POOL_SIZE   4096
#define NGX_HTTP_REFUND_REQUEST_ANSWER_MAX  (1024 * 1024)

/* seconds that the timestamp of an answer may be off, as WeChat Pay says */
#define NGX_HTTP_REFUND_REQUEST_SKEW        300

/* how often, and after how long, WeChat Pay may be asked the same again */
#define NGX_HTTP_REFUND_REQUEST_TRIES       3
#define NGX_HTTP_REFUND_REQUEST_DELAY       1000

/* how long a digest is kept: as a delivered notify is by default */
#define NGX_HTTP_REFUND_REQUEST_RETAIN      (72 * 60 * 60 * 1000)

/* attempts in the mark: asked for once, more than once, and accepted */
#define NGX_HTTP_REFUND_REQUEST_ASKED       1
#define NGX_HTTP_REFUND_REQUEST_REPEATED    2
#define NGX_HTTP_REFUND_REQUEST_ACCEPTED    3


static ngx_uint_t ngx_http_refund_request_call_allowed(
    ngx_http_refund_request_call_t *call);
static ngx_int_t ngx_http_refund_request_call_guard(
    ngx_http_refund_request_call_t *call);
static void ngx_http_refund_request_call_guarded_handler(
    ngx_http_refund_store_op_t *op);
static void ngx_http_refund_request_call_guarded(
    ngx_http_refund_request_call_t *call);
static void ngx_http_refund_request_call_repeated_handler(
    ngx_http_refund_store_op_t *op);
static void ngx_http_refund_request_call_sign(
    ngx_http_refund_request_call_t *call);
#if (NGX_THREADS)
static void ngx_http_refund_request_call_thread(void *data, ngx_log_t *log);
static void ngx_http_refund_request_call_thread_done(ngx_event_t *ev);
#endif
static void ngx_http_refund_request_call_send(
    ngx_http_refund_request_call_t *call);
static void ngx_http_refund_request_call_header(
    ngx_http_refund_request_call_t *call, const char *key,
    const char *lowcase_key, wechatpay_str_t value);
static void ngx_http_refund_request_call_answer_headers(
    ngx_http_refund_delivery_t *delivery, ngx_http_request_t *r);
static void ngx_http_refund_request_call_answered(
    ngx_http_refund_delivery_t *delivery);
static void ngx_http_refund_request_call_judge(
    ngx_http_refund_request_call_t *call);
static ngx_int_t ngx_http_refund_request_call_again(
    ngx_http_refund_request_call_t *call);
static void ngx_http_refund_request_call_timer_handler(ngx_event_t *ev);
static void ngx_http_refund_request_call_log(
    ngx_http_refund_request_call_t *call);
static ngx_int_t ngx_http_refund_request_call_unguard(
    ngx_http_refund_request_call_t *call);
static void ngx_http_refund_request_call_unguarded(
    ngx_http_refund_store_op_t *op);
static void ngx_http_refund_request_call_told(
    ngx_http_refund_request_call_t *call);
static void ngx_http_refund_request_call_event(
    ngx_http_refund_request_call_t *call);
static void ngx_http_refund_request_call_fail(
    ngx_http_refund_request_call_t *call, wechatpay_code_e code,
    const char *message);
static void ngx_http_refund_request_call_finish(
    ngx_http_refund_request_call_t *call);


/* one a worker; parsing is never interrupted */
static wechatpay_parser_t  *ngx_http_refund_request_parser;


static wechatpay_str_t  ngx_http_refund_request_user_agent =
    wechatpay_string("refund-notify");


ngx_http_refund_request_call_t *
ngx_http_refund_request_call_create(ngx_http_request_t *r,
    ngx_http_refund_request_loc_conf_t *conf,
    ngx_http_refund_merchant_t *merchant)
{
    ngx_pool_t                      *pool;
    ngx_http_refund_request_call_t  *call;

    pool = ngx_create_pool(NGX_HTTP_REFUND_REQUEST_POOL_SIZE, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    call = ngx_pcalloc(pool, sizeof(ngx_http_refund_request_call_t));

    if (call == NULL
        || ngx_http_refund_delivery_origin(r, pool, &call->origin) != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NULL;
    }

    call->pool = pool;
    call->references = 1;
    call->conf = conf;
    call->merchant = merchant;
    call->deadline = ngx_current_msec + conf->deadline;
    call->started = ngx_refund_clock();

    call->timer.handler = ngx_http_refund_request_call_timer_handler;
    call->timer.data = call;
    call->timer.log = ngx_cycle->log;

    return call;
}


void
ngx_http_refund_request_call_start(ngx_http_refund_request_call_t *call)
{
    call->references++;

    if (!ngx_http_refund_request_call_allowed(call)) {
        ngx_http_refund_request_call_fail(call,
                            WECHATPAY_CODE_ERROR_RATE_LIMITED,
                            "too many calls have failed, see error_rate");
        return;
    }

    if (call->conf->store && call->request.call == WECHATPAY_CALL_CREATE) {

        if (ngx_http_refund_request_call_guard(call) == NGX_OK) {
            ngx_http_refund_request_call_guarded(call);
        }

        return;
    }

    ngx_http_refund_request_call_sign(call);
}


static ngx_uint_t
ngx_http_refund_request_call_allowed(ngx_http_refund_request_call_t *call)
{
    ngx_str_t  mch_id;

    mch_id = ngx_http_refund_string(
                      wechatpay_merchant_mch_id(call->merchant->wechatpay));

    return ngx_http_refund_request_rate_allowed(call->conf->errors, &mch_id,
                                                call->conf->error_rate);
}


/*
 * A mark in the store with the digest for its owner: who asks for the same
 * again finds his own, who asks for something else that of another.
 */

static ngx_int_t
ngx_http_refund_request_call_guard(ngx_http_refund_request_call_t *call)
{
    u_char                      *p, digest[WECHATPAY_REQUEST_DIGEST_LEN];
    wechatpay_str_t              mch_id, out_refund_no;
    ngx_http_refund_store_op_t  *op;

    op = &call->op;

    mch_id = wechatpay_merchant_mch_id(call->merchant->wechatpay);
    out_refund_no = call->request.out_refund_no;

    op->store = call->conf->store;
    op->lease = NGX_HTTP_REFUND_REQUEST_RETAIN;
    op->retain = NGX_HTTP_REFUND_REQUEST_RETAIN;
    op->mine = 1;
    op->data = call;
    op->handler = ngx_http_refund_request_call_guarded_handler;
    op->result = NGX_HTTP_REFUND_STORE_ERROR;
    op->reason = "out of memory";

    op->key.len = sizeof("{request::}") - 1 + mch_id.len + out_refund_no.len;
    op->key.data = ngx_pnalloc(call->pool, op->key.len);

    if (op->key.data == NULL
        || wechatpay_request_digest(&call->request, digest) != 0)
    {
        return NGX_OK;
    }

    p = ngx_cpymem(op->key.data, "{request:", sizeof("{request:") - 1);
    p = ngx_cpymem(p, mch_id.data, mch_id.len);
    *p++ = ':';
    p = ngx_cpymem(p, out_refund_no.data, out_refund_no.len);
    *p = '}';

    ngx_memcpy(op->owner, digest, NGX_HTTP_REFUND_STORE_OWNER_LEN);

    return ngx_http_refund_store_claim(op);
}


static void
ngx_http_refund_request_call_guarded_handler(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_request_call_guarded(op->data);
}


static void
ngx_http_refund_request_call_guarded(ngx_http_refund_request_call_t *call)
{
    ngx_http_refund_store_op_t  *op;

    op = &call->op;

    if (ngx_terminate || ngx_quit) {

        /* the store has let go of it because the worker exits */

        ngx_http_refund_request_call_fail(call, WECHATPAY_CODE_INTERNAL_ERROR,
                                          "the worker exits");
        return;
    }

    switch (op->result) {

    case NGX_HTTP_REFUND_STORE_OK:
        call->guarded = 1;

        if (op->again && op->attempt == NGX_HTTP_REFUND_REQUEST_ASKED) {

            /* nothing will be sent: no reason to wait for the store again */

            if ((ngx_msec_int_t) (call->deadline - ngx_current_msec) <= 0) {
                ngx_http_refund_request_call_fail(call, WECHATPAY_CODE_TIMEOUT,
                                                  "the deadline passed");
                return;
            }

            /* the first to ask must not take the mark away any more */

            op->attempt = NGX_HTTP_REFUND_REQUEST_REPEATED;
            op->handler = ngx_http_refund_request_call_repeated_handler;

            if (ngx_http_refund_store_keep(op) == NGX_AGAIN) {
                return;
            }
        }

        break;

    case NGX_HTTP_REFUND_STORE_IN_FLIGHT:
    case NGX_HTTP_REFUND_STORE_DONE:
        ngx_http_refund_request_call_fail(call, WECHATPAY_CODE_CONFLICT,
                            "this out_refund_no was used for another order, "
                            "amount or sub_mch_id");
        return;

    default:

        /*
         * A guard that is out of order holds up no refund: WeChat Pay itself
         * refuses another amount under a number that it knows.
         */

        ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, "call not guarded",
                "refund request of merchant \"%V\" is not compared with those "
                "before: store \"%V\": %s", &call->merchant->sn.str,
                &call->conf->store->name, op->reason);
    }

    ngx_http_refund_request_call_sign(call);
}


static void
ngx_http_refund_request_call_repeated_handler(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_request_call_sign(op->data);
}


static void
ngx_http_refund_request_call_sign(ngx_http_refund_request_call_t *call)
{
    wechatpay_str_t      nonce;
    wechatpay_memory_t   memory;
#if (NGX_THREADS)
    ngx_thread_task_t   *task;
#endif

    memory = ngx_http_refund_memory(call->pool);

    nonce.data = NULL;
    nonce.len = 0;

    if (wechatpay_call_prepare(call->merchant->wechatpay, &call->request,
                               ngx_time(), nonce, &memory, &call->call)
        != 0)
    {
        ngx_http_refund_request_call_fail(call, WECHATPAY_CODE_INTERNAL_ERROR,
                                          "the call could not be made");
        return;
    }

#if (NGX_THREADS)

    if (call->conf->thread_pool && call->call.key) {
        task = ngx_thread_task_alloc(call->pool, 0);

        if (task) {
            task->handler = ngx_http_refund_request_call_thread;
            task->ctx = call;
            task->event.handler = ngx_http_refund_request_call_thread_done;
            task->event.data = call;
            task->event.log = ngx_cycle->log;

            if (ngx_thread_task_post(call->conf->thread_pool, task) == NGX_OK)
            {
                /* a worker with no timer left would exit without waiting */

                call->signing = 1;
                ngx_add_timer(&call->timer, call->conf->deadline);
                return;
            }
        }

        /* its queue is full: better here than not at all */
    }

#endif

    call->signed_ok = (wechatpay_call_sign(&call->call) == 0);

    ngx_http_refund_request_call_send(call);
}


#if (NGX_THREADS)

static void
ngx_http_refund_request_call_thread(void *data, ngx_log_t *log)
{
    ngx_http_refund_request_call_t *call = data;

    call->signed_ok = (wechatpay_call_sign(&call->call) == 0);
}


static void
ngx_http_refund_request_call_thread_done(ngx_event_t *ev)
{
    ngx_http_refund_request_call_t  *call;

    call = ev->data;
    call->signing = 0;

    if (call->timer.timer_set) {
        ngx_del_timer(&call->timer);
    }

    ngx_http_refund_request_call_send(call);
}

#endif


static void
ngx_http_refund_request_call_send(ngx_http_refund_request_call_t *call)
{
    u_char                      *p;
    ngx_msec_int_t               left;
    wechatpay_call_t            *out;
    ngx_http_refund_delivery_t  *delivery;

    out = &call->call;
    delivery = &call->delivery;

    if (!call->signed_ok) {
        ngx_http_refund_request_call_fail(call, WECHATPAY_CODE_INTERNAL_ERROR,
                                          "the call could not be signed");
        return;
    }

    left = (ngx_msec_int_t) (call->deadline - ngx_current_msec);

    if (left <= 0) {
        ngx_http_refund_request_call_fail(call, WECHATPAY_CODE_TIMEOUT,
                                          "the deadline passed");
        return;
    }

    delivery->uri.len = call->conf->pass.len + out->path.len;
    delivery->uri.data = ngx_pnalloc(call->pool, delivery->uri.len);

    if (delivery->uri.data == NULL) {
        ngx_http_refund_request_call_fail(call, WECHATPAY_CODE_INTERNAL_ERROR,
                                          "out of memory");
        return;
    }

    p = ngx_cpymem(delivery->uri.data, call->conf->pass.data,
                   call->conf->pass.len);
    ngx_memcpy(p, out->path.data, out->path.len);

    delivery->origin = &call->origin;
    delivery->method_name = ngx_http_refund_string(out->method);
    delivery->method = (out->method.data[0] == 'P') ? NGX_HTTP_POST
                                                    : NGX_HTTP_GET;
    delivery->args = ngx_http_refund_string(out->args);
    delivery->content_type = ngx_http_refund_string(out->content_type);
    delivery->body = ngx_http_refund_string(out->body);
    delivery->headers = call->headers;
    delivery->nheaders = 0;
    delivery->timeout = left;
    delivery->answer_max = NGX_HTTP_REFUND_REQUEST_ANSWER_MAX;
    delivery->pool = call->pool;
    delivery->header = ngx_http_refund_request_call_answer_headers;
    delivery->handler = ngx_http_refund_request_call_answered;
    delivery->data = call;

    ngx_http_refund_request_call_header(call, "Accept", "accept", out->accept);
    ngx_http_refund_request_call_header(call, "User-Agent", "user-agent",
                                        ngx_http_refund_request_user_agent);

    if (out->authorization.len) {
        ngx_http_refund_request_call_header(call, "Authorization",
                                            "authorization",
                                            out->authorization);
    }

    if (out->serial.len) {
        ngx_http_refund_request_call_header(call, "Wechatpay-Serial",
                                            "wechatpay-serial", out->serial);
    }

    ngx_memzero(&call->answer_headers, sizeof(wechatpay_headers_t));
    call->headerless = 0;

    if (ngx_http_refund_delivery_start(delivery) != NGX_OK) {
        ngx_http_refund_request_call_fail(call, WECHATPAY_CODE_INTERNAL_ERROR,
                                          delivery->reason);
        return;
    }

    call->tries++;
}


static void
ngx_http_refund_request_call_header(ngx_http_refund_request_call_t *call,
    const char *key, const char *lowcase_key, wechatpay_str_t value)
{
    ngx_str_t  text;

    text = ngx_http_refund_string(value);

    ngx_http_refund_delivery_set_header(
                          &call->headers[call->delivery.nheaders++],
                          key, lowcase_key, &text);
}


static void
ngx_http_refund_request_call_answer_headers(
    ngx_http_refund_delivery_t *delivery, ngx_http_request_t *r)
{
    u_char                          *lowcase;
    ngx_str_t                        name, value;
    ngx_uint_t                       i;
    ngx_list_part_t                 *part;
    ngx_table_elt_t                 *h;
    ngx_http_refund_request_call_t  *call;

    call = delivery->data;

    ngx_memzero(&call->answer_headers, sizeof(wechatpay_headers_t));

    part = &r->headers_out.headers.part;
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

        if (h[i].hash == 0 || h[i].key.len < sizeof("Wechatpay-") - 1
            || ngx_strncasecmp(h[i].key.data, (u_char *) "Wechatpay-",
                               sizeof("Wechatpay-") - 1)
               != 0)
        {
            continue;
        }

        /* the request and its headers are gone when the answer is judged */

        lowcase = ngx_pnalloc(call->pool, h[i].key.len + h[i].value.len);
        if (lowcase == NULL) {
            call->headerless = 1;
            return;
        }

        ngx_strlow(lowcase, h[i].key.data, h[i].key.len);

        name.data = lowcase;
        name.len = h[i].key.len;

        value.data = lowcase + name.len;
        value.len = h[i].value.len;
        ngx_memcpy(value.data, h[i].value.data, value.len);

        (void) wechatpay_headers_add(&call->answer_headers,
                                     ngx_http_refund_span(&name),
                                     ngx_http_refund_span(&value));
    }
}


static void
ngx_http_refund_request_call_answered(ngx_http_refund_delivery_t *delivery)
{
    ngx_http_refund_request_call_t  *call;

    call = delivery->data;

    ngx_http_refund_request_call_judge(call);

    if (ngx_http_refund_request_call_again(call) == NGX_OK) {
        return;
    }

    ngx_http_refund_request_call_log(call);
    ngx_http_refund_request_call_event(call);
    ngx_http_refund_request_call_finish(call);
}


/*
 * Only an answer that is whole, and signed by WeChat Pay, says anything: all
 * else leaves it open whether the refund happened.
 */

static void
ngx_http_refund_request_call_judge(ngx_http_refund_request_call_t *call)
{
    ngx_str_t                    mch_id;
    wechatpay_answer_t          *answer;
    wechatpay_memory_t           memory;
    wechatpay_response_t         response;
    ngx_http_refund_delivery_t  *delivery;

    static const wechatpay_str_t  internal_error =
                                            wechatpay_string("INTERNAL_ERROR");

    delivery = &call->delivery;
    answer = &call->answer;

    ngx_memzero(answer, sizeof(wechatpay_answer_t));

    answer->version = call->request.version;
    answer->outcome = WECHATPAY_UNKNOWN;

    if (delivery->peer != NGX_HTTP_REFUND_DELIVERY_HTTP) {
        wechatpay_failure_set(&answer->failure,
                              delivery->timedout || delivery->status == 504
                              ? WECHATPAY_CODE_TIMEOUT
                              : WECHATPAY_CODE_NO_RESPONSE);
        return;
    }

    if (!delivery->complete) {
        wechatpay_failure_set(&answer->failure,
                              delivery->timedout ? WECHATPAY_CODE_TIMEOUT
                                                 : WECHATPAY_CODE_NO_RESPONSE);
        return;
    }

    if (delivery->answer.len > NGX_HTTP_REFUND_REQUEST_ANSWER_MAX) {
        wechatpay_failure_set(&answer->failure,
                              WECHATPAY_CODE_MALFORMED_RESPONSE);
        return;
    }

    if (ngx_http_refund_request_parser == NULL) {
        ngx_http_refund_request_parser = wechatpay_parser_create();
    }

    if (ngx_http_refund_request_parser == NULL || call->headerless) {
        wechatpay_failure_set(&answer->failure, WECHATPAY_CODE_INTERNAL_ERROR);
        wechatpay_failure_unknown(&answer->failure);
        answer->reason = "out of memory";
        return;
    }

    memory = ngx_http_refund_memory(call->pool);

    response.status = delivery->peer_status;
    response.headers = &call->answer_headers;
    response.body = ngx_http_refund_span(&delivery->answer);
    response.now = ngx_time();
    response.skew = NGX_HTTP_REFUND_REQUEST_SKEW;

    wechatpay_answer(ngx_http_refund_request_parser, call->merchant->wechatpay,
                     &call->request, &response, &memory, answer);

    /*
     * What was sent before may have been booked, whatever is said of this one:
     * the caller asks again, and a first answer tells for certain.
     */

    if (call->tries > 1 && answer->outcome == WECHATPAY_REJECTED) {
        answer->outcome = WECHATPAY_UNKNOWN;
        wechatpay_failure_unknown(&answer->failure);
    }

    /* that there was no memory to read it is no failure of the call's */

    if (answer->outcome != WECHATPAY_ACCEPTED
        && !wechatpay_str_equal(answer->failure.code, internal_error))
    {
        mch_id = ngx_http_refund_string(
                       wechatpay_merchant_mch_id(call->merchant->wechatpay));

        ngx_http_refund_request_rate_failed(call->conf->errors, &mch_id,
                                            call->conf->error_rate);
    }
}


/* NGX_OK: the same call is made again, for WeChat Pay has asked for it. */

static ngx_int_t
ngx_http_refund_request_call_again(ngx_http_refund_request_call_t *call)
{
    ngx_msec_int_t        left;
    wechatpay_failure_t  *failure;

    static const wechatpay_str_t  system_error =
                                              wechatpay_string("SYSTEM_ERROR");

    failure = &call->answer.failure;

    /* of all codes it is the system error that WeChat Pay wants repeated */

    if (call->answer.outcome != WECHATPAY_UNKNOWN
        || failure->provider_code.len == 0
        || !wechatpay_str_equal(failure->code, system_error)
        || call->tries >= NGX_HTTP_REFUND_REQUEST_TRIES
        || ngx_exiting || ngx_terminate || ngx_quit
        || !ngx_http_refund_request_call_allowed(call))
    {
        return NGX_DECLINED;
    }

    left = (ngx_msec_int_t) (call->deadline - ngx_current_msec);

    if (left <= 2 * NGX_HTTP_REFUND_REQUEST_DELAY) {
        return NGX_DECLINED;
    }

    ngx_add_timer(&call->timer, NGX_HTTP_REFUND_REQUEST_DELAY);

    return NGX_OK;
}


static void
ngx_http_refund_request_call_timer_handler(ngx_event_t *ev)
{
    ngx_http_refund_request_call_t  *call;

    call = ev->data;

    if (call->signing) {
        ngx_add_timer(&call->timer, NGX_HTTP_REFUND_REQUEST_DELAY);
        return;
    }

    ngx_http_refund_request_call_sign(call);
}


static void
ngx_http_refund_request_call_log(ngx_http_refund_request_call_t *call)
{
    ngx_uint_t            level;
    const char           *why, *hint;
    wechatpay_failure_t  *failure;

    static const wechatpay_str_t  no_auth = wechatpay_string("NO_AUTH");

    if (call->answer.outcome == WECHATPAY_ACCEPTED) {
        return;
    }

    failure = &call->answer.failure;

    /* a wrong key, a missing right, or no memory is not the caller's to mend */

    level = (failure->status >= NGX_HTTP_INTERNAL_SERVER_ERROR
             || failure->status == NGX_HTTP_UNAUTHORIZED
             || wechatpay_str_equal(failure->code, no_auth))
            ? NGX_LOG_ERR : NGX_LOG_INFO;

    why = call->answer.reason;

    if (why == NULL || *why == '\0') {
        why = (call->answer.outcome == WECHATPAY_UNKNOWN)
              ? "no answer to rely on" : "refused";
    }

    /* what is refused for its certificate comes unsigned, in many forms */

    hint = (call->answer.outcome == WECHATPAY_UNKNOWN
            && call->request.version == WECHATPAY_V2
            && call->request.call == WECHATPAY_CALL_CREATE
            && call->delivery.peer == NGX_HTTP_REFUND_DELIVERY_HTTP)
           ? "; does the location present the merchant's client certificate "
             "(proxy_ssl_certificate)?"
           : "";

    ngx_refund_log_limited(level, ngx_cycle->log, why,
            "refund request of merchant \"%V\", out_refund_no \"%*s\": %*s, "
            "%s, status %ui, after %Mms%s", &call->merchant->sn.str,
            call->request.out_refund_no.len, call->request.out_refund_no.data,
            failure->code.len, failure->code.data, why,
            call->delivery.peer_status, call->delivery.time, hint);
}


/*
 * An accepted refund keeps its digest, and is known as accepted; a rejected one
 * may be mended and sent again, but not while it is open how an earlier call of
 * the same ended.  NGX_AGAIN: the answer waits until the store has given the
 * number back, for who mends at once may come to another worker.
 */

static ngx_int_t
ngx_http_refund_request_call_unguard(ngx_http_refund_request_call_t *call)
{
    ngx_int_t                    rc;
    ngx_http_refund_store_op_t  *op;

    op = &call->op;
    op->handler = ngx_http_refund_request_call_unguarded;

    if (call->answer.outcome == WECHATPAY_ACCEPTED
        && op->attempt < NGX_HTTP_REFUND_REQUEST_ACCEPTED)
    {
        op->attempt = NGX_HTTP_REFUND_REQUEST_ACCEPTED;
        rc = ngx_http_refund_store_keep(op);

    } else if (call->answer.outcome == WECHATPAY_REJECTED && !op->again
               && op->attempt == NGX_HTTP_REFUND_REQUEST_ASKED)
    {
        rc = ngx_http_refund_store_release(op);

    } else {
        return NGX_OK;
    }

    if (rc != NGX_AGAIN) {
        ngx_http_refund_request_call_told(call);
        return NGX_OK;
    }

    call->references++;

    return call->answer.outcome == WECHATPAY_REJECTED ? NGX_AGAIN : NGX_OK;
}


static void
ngx_http_refund_request_call_unguarded(ngx_http_refund_store_op_t *op)
{
    ngx_http_refund_request_call_t  *call;

    call = op->data;

    ngx_http_refund_request_call_told(call);

    if (call->answer.outcome == WECHATPAY_REJECTED && call->wake) {
        call->wake(call);
    }

    ngx_http_refund_request_call_release(call);
}


static void
ngx_http_refund_request_call_told(ngx_http_refund_request_call_t *call)
{
    if (call->op.result == NGX_HTTP_REFUND_STORE_ERROR) {
        ngx_refund_log_limited(NGX_LOG_ERR, ngx_cycle->log, "mark not changed",
                "refund request of merchant \"%V\": how it ended could not be "
                "told to store \"%V\": %s", &call->merchant->sn.str,
                &call->op.store->name, call->op.reason);
    }
}


/* What the notify that follows will tell, told now, by the same record. */

static void
ngx_http_refund_request_call_event(ngx_http_refund_request_call_t *call)
{
    ngx_str_t                 none;
    wechatpay_refund_t        refund;
    ngx_http_refund_event_t  *event;

    if (call->conf->event == NULL
        || call->answer.outcome != WECHATPAY_ACCEPTED
        || call->answer.nrefunds != 1
        || (call->request.call == WECHATPAY_CALL_QUERY && !call->deliver)
        || !wechatpay_answer_event(&call->answer.refunds[0], &refund))
    {
        return;
    }

    ngx_str_null(&none);

    event = ngx_http_refund_event_create(NULL, &call->origin,
                                         call->conf->event, &refund,
                                         &call->merchant->sn.str, &none, &none);
    if (event == NULL) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "refund request of merchant \"%V\": its event could not "
                      "be made, the notify will bring it",
                      &call->merchant->sn.str);
        return;
    }

    ngx_http_refund_event_leave(event);
    ngx_http_refund_event_start(event, &refund, ngx_time());
    ngx_http_refund_event_release(event);
}


/* Before or instead of an answer; the message is static. */

static void
ngx_http_refund_request_call_fail(ngx_http_refund_request_call_t *call,
    wechatpay_code_e code, const char *message)
{
    wechatpay_answer_t  *answer;

    answer = &call->answer;

    ngx_memzero(answer, sizeof(wechatpay_answer_t));

    wechatpay_failure_set(&answer->failure, code);

    answer->version = call->request.version;
    answer->outcome = answer->failure.outcome;
    answer->reason = message;
    answer->failure.message.data = (const u_char *) message;
    answer->failure.message.len = ngx_strlen(message);

    /*
     * What was sent before, if anything was, is unknown: then nothing may say
     * that it was rejected.
     */

    if (call->tries) {
        answer->outcome = WECHATPAY_UNKNOWN;
        wechatpay_failure_unknown(&answer->failure);
    }

    ngx_http_refund_request_call_log(call);
    ngx_http_refund_request_call_finish(call);
}


static void
ngx_http_refund_request_call_finish(ngx_http_refund_request_call_t *call)
{
    wechatpay_str_t     json;
    wechatpay_memory_t  memory;

    memory = ngx_http_refund_memory(call->pool);

    ngx_refund_count_request(call->merchant->counters, call->request.version,
                             call->answer.outcome);
    ngx_refund_count_time(NGX_REFUND_METRIC_REQUEST_TIME, call->started);

    call->status = (call->answer.outcome == WECHATPAY_ACCEPTED)
                   ? NGX_HTTP_OK : call->answer.failure.status;

    if (wechatpay_answer_json(&call->answer,
                              ngx_http_refund_span(&call->merchant->sn.str),
                              &memory, &json)
        == WECHATPAY_OK)
    {
        call->json = ngx_http_refund_string(json);

    } else {
        ngx_str_set(&call->json, "{\"outcome\":\"unknown\",\"error\":"
                                 "{\"code\":\"INTERNAL_ERROR\","
                                 "\"retryable\":true}}");
        call->status = NGX_HTTP_BAD_GATEWAY;
    }

    if (!call->guarded
        || ngx_http_refund_request_call_unguard(call) != NGX_AGAIN)
    {
        if (call->wake) {
            call->wake(call);
        }
    }

    ngx_http_refund_request_call_release(call);
}


void
ngx_http_refund_request_call_release(ngx_http_refund_request_call_t *call)
{
    call->references--;

    if (call->references == 0) {
        ngx_destroy_pool(call->pool);
    }
}


void
ngx_http_refund_request_call_exit_process(void)
{
    wechatpay_parser_destroy(ngx_http_refund_request_parser);
}

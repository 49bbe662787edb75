
/*
 * Copyright (C) the refund-notify authors
 *
 * $refund_notify_...: of a client's request what is known of its notify, of a
 * delivery what it delivers.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_notify.h"
#include "ngx_http_refund_target.h"


static ngx_int_t ngx_http_refund_notify_ctx_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_refund_notify_event_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_refund_notify_target_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static u_char *ngx_http_refund_notify_target_value(u_char *p,
    ngx_http_refund_target_t *target, uintptr_t data);
static ngx_http_refund_event_t *ngx_http_refund_notify_event(
    ngx_http_request_t *r, ngx_http_refund_target_t **target);


enum {
    NGX_HTTP_REFUND_NOTIFY_RESULT = 0,
    NGX_HTTP_REFUND_NOTIFY_REASON,
    NGX_HTTP_REFUND_NOTIFY_VERSION,
    NGX_HTTP_REFUND_NOTIFY_MERCHANT,
    NGX_HTTP_REFUND_NOTIFY_ATTEMPT,
    NGX_HTTP_REFUND_NOTIFY_STORE_TIME,
    NGX_HTTP_REFUND_NOTIFY_UPSTREAM_TIME
};


static ngx_http_variable_t  ngx_http_refund_notify_variables[] = {

    { ngx_string("refund_notify_result"), NULL,
      ngx_http_refund_notify_ctx_variable,
      NGX_HTTP_REFUND_NOTIFY_RESULT, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("refund_notify_reason"), NULL,
      ngx_http_refund_notify_ctx_variable,
      NGX_HTTP_REFUND_NOTIFY_REASON, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("refund_notify_version"), NULL,
      ngx_http_refund_notify_ctx_variable,
      NGX_HTTP_REFUND_NOTIFY_VERSION, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("refund_notify_merchant"), NULL,
      ngx_http_refund_notify_ctx_variable,
      NGX_HTTP_REFUND_NOTIFY_MERCHANT, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("refund_notify_id"), NULL,
      ngx_http_refund_notify_event_variable,
      offsetof(ngx_http_refund_event_t, id), NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("refund_notify_status"), NULL,
      ngx_http_refund_notify_event_variable,
      offsetof(ngx_http_refund_event_t, status),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("refund_notify_refund_id"), NULL,
      ngx_http_refund_notify_event_variable,
      offsetof(ngx_http_refund_event_t, refund_id),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("refund_notify_out_refund_no"), NULL,
      ngx_http_refund_notify_event_variable,
      offsetof(ngx_http_refund_event_t, out_refund_no),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("refund_notify_out_trade_no"), NULL,
      ngx_http_refund_notify_event_variable,
      offsetof(ngx_http_refund_event_t, out_trade_no),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("refund_notify_attempt"), NULL,
      ngx_http_refund_notify_target_variable,
      NGX_HTTP_REFUND_NOTIFY_ATTEMPT, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("refund_notify_store_time"), NULL,
      ngx_http_refund_notify_target_variable,
      NGX_HTTP_REFUND_NOTIFY_STORE_TIME, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("refund_notify_upstream_time"), NULL,
      ngx_http_refund_notify_target_variable,
      NGX_HTTP_REFUND_NOTIFY_UPSTREAM_TIME, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_refund_notify_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_refund_notify_variables; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_notify_ctx_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                      value;
    wechatpay_version_e            version;
    ngx_http_refund_event_t       *event;
    ngx_http_refund_target_t      *target;
    ngx_http_refund_notify_ctx_t  *ctx;

    ctx = ngx_http_refund_notify_ctx(r);
    event = ngx_http_refund_notify_event(r, &target);

    ngx_str_null(&value);

    switch (data) {

    case NGX_HTTP_REFUND_NOTIFY_RESULT:
        if (ctx) {
            value = ctx->result;
        }

        break;

    case NGX_HTTP_REFUND_NOTIFY_REASON:
        if (ctx && ctx->reason) {
            value.data = (u_char *) ctx->reason;
            value.len = ngx_strlen(ctx->reason);
        }

        break;

    case NGX_HTTP_REFUND_NOTIFY_VERSION:
        version = event ? event->version
                        : ctx ? ctx->version : WECHATPAY_VERSION_UNKNOWN;

        if (version == WECHATPAY_V2) {
            ngx_str_set(&value, "v2");

        } else if (version == WECHATPAY_V3) {
            ngx_str_set(&value, "v3");
        }

        break;

    default: /* NGX_HTTP_REFUND_NOTIFY_MERCHANT */
        if (event) {
            value = event->merchant;

        } else if (ctx && ctx->merchant) {
            value = ctx->merchant->sn.str;
        }
    }

    if (value.len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->len = value.len;
    v->data = value.data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_notify_event_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                 *value;
    ngx_http_refund_event_t   *event;
    ngx_http_refund_target_t  *target;

    event = ngx_http_refund_notify_event(r, &target);

    if (event == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    value = (ngx_str_t *) ((char *) event + data);

    v->len = value->len;
    v->data = value->data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


/*
 * Of a delivery the value of its target, of the client's request those of all
 * targets, in the order configured, as $upstream_response_time lists them.
 */

static ngx_int_t
ngx_http_refund_notify_target_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                    *p;
    ngx_uint_t                 i, n;
    ngx_http_refund_event_t   *event;
    ngx_http_refund_target_t  *target;

    event = ngx_http_refund_notify_event(r, &target);

    if (event == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    n = 1;

    if (target == NULL) {
        target = event->targets;
        n = event->ntargets;
    }

    p = ngx_pnalloc(r->pool, n * (NGX_INT64_LEN + sizeof(".000, ") - 1));
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->data = p;

    for (i = 0; i < n; i++) {
        if (i) {
            *p++ = ',';
            *p++ = ' ';
        }

        p = ngx_http_refund_notify_target_value(p, &target[i], data);
    }

    v->len = p - v->data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static u_char *
ngx_http_refund_notify_target_value(u_char *p,
    ngx_http_refund_target_t *target, uintptr_t data)
{
    ngx_msec_t  time;

    if (data == NGX_HTTP_REFUND_NOTIFY_ATTEMPT) {
        if (target->attempt == 0) {
            *p++ = '-';
            return p;
        }

        return ngx_sprintf(p, "%ui", target->attempt);
    }

    if (data == NGX_HTTP_REFUND_NOTIFY_STORE_TIME) {
        if (!target->asked) {
            *p++ = '-';
            return p;
        }

        time = target->store_time;

    } else {
        if (!target->sent) {
            *p++ = '-';
            return p;
        }

        time = target->upstream_time;
    }

    return ngx_sprintf(p, "%T.%03M", (time_t) time / 1000, time % 1000);
}


static ngx_http_refund_event_t *
ngx_http_refund_notify_event(ngx_http_request_t *r,
    ngx_http_refund_target_t **target)
{
    ngx_http_refund_delivery_t    *delivery;
    ngx_http_refund_notify_ctx_t  *ctx;

    delivery = ngx_http_refund_delivery_of(r);

    if (delivery) {
        *target = ngx_http_refund_target_of(delivery);
        return *target ? (*target)->event : NULL;
    }

    *target = NULL;

    ctx = ngx_http_refund_notify_ctx(r);

    return ctx ? ctx->event : NULL;
}

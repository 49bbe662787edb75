
/*
 * Copyright (C) the refund-notify authors
 *
 * An event on its way to its targets: claimed, delivered, committed, for each
 * target on its own.  It lives on the heap and depends on no client.
 */


#ifndef _NGX_HTTP_REFUND_EVENT_H_INCLUDED_
#define _NGX_HTTP_REFUND_EVENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "wechatpay_event.h"
#include "ngx_http_refund_conf.h"
#include "ngx_http_refund_acknowledgement.h"
#include "ngx_http_refund_delivery.h"
#include "ngx_http_refund_store.h"


typedef struct ngx_http_refund_event_s  ngx_http_refund_event_t;


/* A target as it is configured: refund_notify_pass uri [name=...] */

typedef struct {
    ngx_str_t                            name;
    ngx_str_t                            source;    /* the URI as written */
    ngx_str_t                            uri;
    ngx_str_t                            args;
    ngx_http_complex_value_t            *value;     /* a URI of variables */
    ngx_http_refund_conf_place_t         place;
} ngx_http_refund_target_conf_t;


/* How events are handed on; all times in milliseconds. */

typedef struct {
    ngx_http_refund_store_t             *store;
    ngx_array_t                         *targets;
    ngx_array_t                         *signing_keys;
    ngx_msec_t                           delivery_timeout;
    ngx_msec_t                           lease;
    ngx_msec_t                           retain;
    ngx_uint_t                           ack;
    ngx_uint_t                           pass;  /* deliver without a store */
} ngx_http_refund_event_conf_t;


/*
 * The states of a target.  A claim that fails for certain, or that finds the
 * event accepted or under way, settles it at once.
 */

typedef enum {
    NGX_HTTP_REFUND_TARGET_CLAIM = 0,
    NGX_HTTP_REFUND_TARGET_DELIVER,
    NGX_HTTP_REFUND_TARGET_COMMIT,
    NGX_HTTP_REFUND_TARGET_RELEASE,
    NGX_HTTP_REFUND_TARGET_END
} ngx_http_refund_target_state_e;


typedef struct {
    ngx_http_refund_event_t             *event;
    ngx_http_refund_target_conf_t       *conf;
    ngx_http_refund_target_state_e       state;

    ngx_str_t                            uri;
    ngx_str_t                            args;

    ngx_http_refund_store_op_t           op;
    ngx_http_refund_store_op_t           renew;
    ngx_http_refund_delivery_t           delivery;
    ngx_table_elt_t                      headers[7];

    /* while delivering: the next renewal; while committing: the next try */
    ngx_event_t                          timer;
    ngx_queue_t                          waiting;   /* for that try */

    ngx_msec_t                           started;   /* the store operation */
    uint64_t                             sent_at;   /* ngx_refund_clock() */
    ngx_msec_t                           give_up;   /* the commit */
    ngx_msec_t                           store_time;
    ngx_msec_t                           upstream_time;
    ngx_uint_t                           attempt;   /* 0: none */
    ngx_uint_t                           tries;     /* of the commit */

    wechatpay_result_e                   result;    /* where known is set */
    const char                          *reason;

    unsigned                             known:1;   /* the result is */
    unsigned                             claimed:1; /* to be delivered */
    unsigned                             settled:1; /* nothing to wait for */
    unsigned                             asked:1;   /* store_time is set */
    unsigned                             sent:1;    /* upstream_time is set */
    unsigned                             leased:1;  /* the lease is ours */
    unsigned                             renewing:1;
    unsigned                             exiting:1; /* give_up knows of it */
} ngx_http_refund_target_t;


/*
 * Called when a target was settled, from an event of its own, never from
 * within ngx_http_refund_event_start().
 */

typedef void (*ngx_http_refund_event_wake_pt)(ngx_http_refund_event_t *event);


struct ngx_http_refund_event_s {
    ngx_pool_t                          *pool;
    ngx_uint_t                           references;

    ngx_http_refund_event_conf_t        *conf;
    ngx_http_refund_delivery_origin_t    origin;

    ngx_str_t                            id;
    ngx_str_t                            json;

    /* for the variables */
    wechatpay_version_e                  version;
    ngx_str_t                            merchant;
    ngx_str_t                            status;
    ngx_str_t                            refund_id;
    ngx_str_t                            out_refund_no;
    ngx_str_t                            out_trade_no;

    ngx_str_t                            traceparent;
    ngx_str_t                            tracestate;
    ngx_str_t                            request_id;    /* the client's */

    ngx_http_refund_target_t            *targets;
    ngx_uint_t                           ntargets;

    /* who waits, if anybody still does */
    ngx_http_refund_event_wake_pt        wake;
    void                                *data;

    unsigned                             late:1;    /* nobody does any more */
};


/*
 * Makes an event of a refund that came with request r, or without one, if r is
 * NULL, from origin, with one reference that is the caller's; the URIs of its
 * targets hold variables only where there is a request.  conf must live as long
 * as the worker; traceparent and tracestate may be empty.  NULL: out of memory.
 */

ngx_http_refund_event_t *ngx_http_refund_event_create(ngx_http_request_t *r,
    const ngx_http_refund_delivery_origin_t *origin,
    ngx_http_refund_event_conf_t *conf, const wechatpay_refund_t *refund,
    ngx_str_t *merchant, ngx_str_t *traceparent, ngx_str_t *tracestate);


/*
 * Claims and delivers.  What can be settled at once is settled on return.
 * refund: the one of ngx_http_refund_event_create(), not used later; received:
 * wall clock, seconds.
 */

void ngx_http_refund_event_start(ngx_http_refund_event_t *event,
    const wechatpay_refund_t *refund, time_t received);


/* The number of targets that are not settled. */

ngx_uint_t ngx_http_refund_event_pending(ngx_http_refund_event_t *event);


/*
 * The answer: the first that applies of store_error, upstream_error, deadline
 * (a target whose result is not known yet), in_flight, delivered, duplicate.
 * target is the one that decided.
 */

wechatpay_result_e ngx_http_refund_event_result(ngx_http_refund_event_t *event,
    ngx_http_refund_target_t **target);


/*
 * Nobody waits any more: what comes later is committed all the same, and told
 * in the log.
 */

void ngx_http_refund_event_leave(ngx_http_refund_event_t *event);


/* Gives a reference back. */

void ngx_http_refund_event_release(ngx_http_refund_event_t *event);


#endif /* _NGX_HTTP_REFUND_EVENT_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 *
 * A delivery: a request to a location of this nginx, on a connection without a
 * socket.  It depends on no client: whoever asked for it may go away while it
 * runs.
 */


#ifndef _NGX_HTTP_REFUND_DELIVERY_H_INCLUDED_
#define _NGX_HTTP_REFUND_DELIVERY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


typedef struct ngx_http_refund_delivery_s  ngx_http_refund_delivery_t;


/* Who answered, told by the schema of the upstream. */

typedef enum {
    NGX_HTTP_REFUND_DELIVERY_NOBODY = 0,
    NGX_HTTP_REFUND_DELIVERY_HTTP,
    NGX_HTTP_REFUND_DELIVERY_SCGI,
    NGX_HTTP_REFUND_DELIVERY_FASTCGI,   /* or uwsgi */
    NGX_HTTP_REFUND_DELIVERY_GRPC
} ngx_http_refund_delivery_peer_e;


/*
 * What a delivery takes from the client's connection and server, copied, so
 * that it can start after the client is gone.
 */

typedef struct {
    ngx_http_conf_ctx_t            *conf_ctx;
    ngx_http_addr_conf_t           *addr_conf;
    ngx_listening_t                *listening;
    struct sockaddr                *sockaddr;
    socklen_t                       socklen;
    ngx_str_t                       addr_text;
    struct sockaddr                *local_sockaddr;
    socklen_t                       local_socklen;
    ngx_log_t                       log;
    ngx_uint_t                      log_error;
    ngx_str_t                       host;
    ngx_uint_t                      limit_conn_status;
    ngx_uint_t                      limit_req_status;
#if (nginx_version >= 1029000)
    in_port_t                       port;
#endif
} ngx_http_refund_delivery_origin_t;


/* Copies of what r, or another origin, has, in pool. */

ngx_int_t ngx_http_refund_delivery_origin(ngx_http_request_t *r,
    ngx_pool_t *pool, ngx_http_refund_delivery_origin_t *origin);
ngx_int_t ngx_http_refund_delivery_copy_origin(
    const ngx_http_refund_delivery_origin_t *from, ngx_pool_t *pool,
    ngx_http_refund_delivery_origin_t *origin);


typedef void (*ngx_http_refund_delivery_handler_pt)(
    ngx_http_refund_delivery_t *delivery);


struct ngx_http_refund_delivery_s {

    /* set by the caller; all of it must live until the handler runs */

    ngx_http_refund_delivery_origin_t    *origin;
    ngx_uint_t                            method;
    ngx_str_t                             method_name;
    ngx_str_t                             uri;      /* decoded */
    ngx_str_t                             args;
    ngx_str_t                             content_type; /* len 0: no body */
    ngx_table_elt_t                      *headers;  /* lower-case keys */
    ngx_uint_t                            nheaders;
    ngx_str_t                             body;
    ngx_msec_t                            timeout;  /* then it is cut */
    size_t                                answer_max;   /* bytes to keep */
    ngx_pool_t                           *pool;     /* of the answer */
    ngx_http_refund_delivery_handler_pt   handler;
    void                                 *data;

    /* optional: called with the answer's headers */
    void                                (*header)(
                                        ngx_http_refund_delivery_t *delivery,
                                        ngx_http_request_t *r);

    /* what came of it */

    const char                           *reason;   /* it was not started */
    ngx_http_refund_delivery_peer_e       peer;     /* who answered */
    ngx_uint_t                            peer_status;  /* as it answered */
    ngx_uint_t                            status;   /* as nginx passed it on */
    ngx_msec_t                            time;     /* milliseconds */
    ngx_str_t                             answer;   /* answer_max + 1 at most */

    unsigned                              passed:1; /* to some peer */
    unsigned                              silent:1; /* a peer got it, and said
                                                       nothing */
    unsigned                              sized:1;  /* it said its length */
    unsigned                              complete:1;   /* the answer ended */
    unsigned                              timedout:1;   /* it was cut */

    /* its own */

    ngx_http_request_t                   *request;
    ngx_msec_t                            start;
    size_t                                answer_size;
    ngx_event_t                           cut;
    ngx_event_t                           done;
    ngx_queue_t                           queue;
};


/*
 * Starts it.  NGX_OK: handler runs once, later, from an event of its own (or
 * when the worker exits).  NGX_ERROR: nothing was started, handler will not
 * run; reason, a static phrase, is set.
 */

ngx_int_t ngx_http_refund_delivery_start(ngx_http_refund_delivery_t *delivery);


/*
 * Fills in one of the headers of a delivery.  The keys are static and differ by
 * case only; the value is not copied.
 */

void ngx_http_refund_delivery_set_header(ngx_table_elt_t *h, const char *key,
    const char *lowcase_key, ngx_str_t *value);


/* The delivery that a request is, or NULL. */

ngx_http_refund_delivery_t *ngx_http_refund_delivery_of(ngx_http_request_t *r);


/* The filters that take the answers of deliveries out of the way. */

ngx_int_t ngx_http_refund_delivery_init(ngx_conf_t *cf);

/* Cuts what still runs, and runs its handlers. */

void ngx_http_refund_delivery_exit_process(void);


#endif /* _NGX_HTTP_REFUND_DELIVERY_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 *
 * A delivery: a POST to a location of this nginx, as a request of its own on a
 * connection without a socket.  It depends on no client: whoever asked for it
 * may go away while it runs.
 */


#ifndef _NGX_HTTP_REFUND_DELIVERY_H_INCLUDED_
#define _NGX_HTTP_REFUND_DELIVERY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* what is kept of the answer's body, for NGX_HTTP_REFUND_ACK_CODE */
#define NGX_HTTP_REFUND_DELIVERY_ANSWER_SIZE  4096


typedef struct ngx_http_refund_delivery_s  ngx_http_refund_delivery_t;


typedef enum {
    NGX_HTTP_REFUND_ACK_STATUS = 0,     /* any 2xx accepts */
    NGX_HTTP_REFUND_ACK_CODE            /* 2xx and JSON "code":"SUCCESS" */
} ngx_http_refund_ack_e;


typedef enum {
    NGX_HTTP_REFUND_DELIVERY_ACCEPTED = 0,
    NGX_HTTP_REFUND_DELIVERY_REFUSED,   /* for certain not accepted */
    NGX_HTTP_REFUND_DELIVERY_UNKNOWN    /* it may have been accepted */
} ngx_http_refund_delivery_outcome_e;


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


/* Copies of what r has, in pool. */

ngx_int_t ngx_http_refund_delivery_origin(ngx_http_request_t *r,
    ngx_pool_t *pool, ngx_http_refund_delivery_origin_t *origin);


typedef void (*ngx_http_refund_delivery_handler_pt)(
    ngx_http_refund_delivery_t *delivery);


struct ngx_http_refund_delivery_s {

    /* set by the caller; all of it must live until the handler runs */

    ngx_http_refund_delivery_origin_t    *origin;
    ngx_str_t                             uri;
    ngx_str_t                             args;
    ngx_table_elt_t                      *headers;  /* lower-case keys */
    ngx_uint_t                            nheaders;
    ngx_str_t                             body;
    ngx_msec_t                            timeout;  /* then it is cut */
    ngx_http_refund_ack_e                 ack;
    ngx_http_refund_delivery_handler_pt   handler;
    void                                 *data;

    /* the outcome */

    ngx_http_refund_delivery_outcome_e    outcome;
    const char                           *reason;   /* static, or NULL */
    ngx_uint_t                            status;   /* of the app's, or 0 */
    ngx_msec_t                            time;     /* milliseconds */

    /* its own */

    ngx_http_request_t                   *request;
    ngx_msec_t                            start;
    ngx_event_t                           cut;
    ngx_event_t                           done;
    ngx_queue_t                           queue;
    size_t                                answer_len;
    u_char                               *answer;

    unsigned                              last:1;   /* the answer's end seen */
    unsigned                              timedout:1;
};


/*
 * Starts it.  NGX_OK: handler runs once, later, from an event of its own (or
 * when the worker exits).  NGX_ERROR: nothing was started, handler will not
 * run; outcome and reason are set.
 */

ngx_int_t ngx_http_refund_delivery_start(ngx_http_refund_delivery_t *delivery);


/* The delivery that a request is, or NULL. */

ngx_http_refund_delivery_t *ngx_http_refund_delivery_of(ngx_http_request_t *r);


/* The filters that take the answers of deliveries out of the way. */

ngx_int_t ngx_http_refund_delivery_init(ngx_conf_t *cf);

void ngx_http_refund_delivery_init_process(void);

/* Cuts what still runs, and runs its handlers. */

void ngx_http_refund_delivery_exit_process(void);


#endif /* _NGX_HTTP_REFUND_DELIVERY_H_INCLUDED_ */

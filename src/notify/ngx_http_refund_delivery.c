
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_delivery.h"
#include "ngx_refund_log.h"


/* what the connection and its request's copies of client data need */
#define NGX_HTTP_REFUND_DELIVERY_POOL_SIZE  1024

/* of a name in DNS */
#define NGX_HTTP_REFUND_DELIVERY_HOST_MAX  255


/* The core sees hc; we find the delivery behind it, after redirects too. */

typedef struct {
    ngx_http_connection_t          hc;
    ngx_http_refund_delivery_t    *delivery;
} ngx_http_refund_delivery_connection_t;


static ngx_connection_t *ngx_http_refund_delivery_connect(
    ngx_http_refund_delivery_t *delivery);
static ngx_int_t ngx_http_refund_delivery_request(ngx_http_request_t *r,
    ngx_http_refund_delivery_t *delivery);
static ngx_table_elt_t *ngx_http_refund_delivery_push_header(
    ngx_http_request_t *r, const char *name, ngx_str_t *value);
static ngx_uint_t ngx_http_refund_delivery_host_valid(ngx_str_t *host);
static void ngx_http_refund_delivery_cut(ngx_http_refund_delivery_t *delivery);
static void ngx_http_refund_delivery_cut_handler(ngx_event_t *ev);
static void ngx_http_refund_delivery_finish(void *data);
static void ngx_http_refund_delivery_outcome(
    ngx_http_refund_delivery_t *delivery, ngx_http_request_t *r);
static ngx_http_refund_delivery_peer_e ngx_http_refund_delivery_peer(
    ngx_str_t *schema);
static void ngx_http_refund_delivery_closed(void *data);
static void ngx_http_refund_delivery_done_handler(ngx_event_t *ev);
static ssize_t ngx_http_refund_delivery_send(ngx_connection_t *c, u_char *buf,
    size_t size);
static ssize_t ngx_http_refund_delivery_recv(ngx_connection_t *c, u_char *buf,
    size_t size);
static ngx_chain_t *ngx_http_refund_delivery_send_chain(ngx_connection_t *c,
    ngx_chain_t *in, off_t limit);
static ssize_t ngx_http_refund_delivery_recv_chain(ngx_connection_t *c,
    ngx_chain_t *in, off_t limit);
static ngx_int_t ngx_http_refund_delivery_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_refund_delivery_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_refund_delivery_keep(
    ngx_http_refund_delivery_t *delivery, ngx_buf_t *b);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


/* the deliveries of this worker that are under way */
static ngx_queue_t  ngx_http_refund_deliveries;


static ngx_str_t  ngx_http_refund_delivery_protocol = ngx_string("HTTP/1.1");


ngx_int_t
ngx_http_refund_delivery_origin(ngx_http_request_t *r, ngx_pool_t *pool,
    ngx_http_refund_delivery_origin_t *origin)
{
    ngx_connection_t                   *c;
    ngx_http_core_srv_conf_t           *cscf;
    ngx_http_refund_delivery_origin_t   from;

    c = r->connection;

    if (ngx_connection_local_sockaddr(c, NULL, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    /* the server that was chosen by name, not the default one of the address */

    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);

    from.conf_ctx = cscf->ctx;
    from.addr_conf = r->http_connection->addr_conf;
    from.listening = c->listening;
    from.sockaddr = c->sockaddr;
    from.socklen = c->socklen;
    from.addr_text = c->addr_text;
    from.local_sockaddr = c->local_sockaddr;
    from.local_socklen = c->local_socklen;
    from.log = *c->log;
    from.log_error = c->log_error;
    from.host = r->headers_in.server;
    from.limit_conn_status = r->main->limit_conn_status;
    from.limit_req_status = r->main->limit_req_status;
#if (nginx_version >= 1029000)
    from.port = r->port;
#endif

    return ngx_http_refund_delivery_copy_origin(&from, pool, origin);
}


ngx_int_t
ngx_http_refund_delivery_copy_origin(
    const ngx_http_refund_delivery_origin_t *from, ngx_pool_t *pool,
    ngx_http_refund_delivery_origin_t *origin)
{
    u_char  *p;

    p = ngx_palloc(pool, ngx_align(from->socklen, NGX_ALIGNMENT)
                         + ngx_align(from->local_socklen, NGX_ALIGNMENT)
                         + from->addr_text.len + from->host.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    *origin = *from;

    origin->sockaddr = (struct sockaddr *) p;
    ngx_memcpy(p, from->sockaddr, from->socklen);
    p += ngx_align(from->socklen, NGX_ALIGNMENT);

    origin->local_sockaddr = (struct sockaddr *) p;
    ngx_memcpy(p, from->local_sockaddr, from->local_socklen);
    p += ngx_align(from->local_socklen, NGX_ALIGNMENT);

    origin->addr_text.data = p;
    p = ngx_cpymem(p, from->addr_text.data, from->addr_text.len);

    origin->host.data = p;

    if (from->host.len) {
        ngx_memcpy(p, from->host.data, from->host.len);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_refund_delivery_start(ngx_http_refund_delivery_t *delivery)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    delivery->reason = "the delivery could not be started";
    delivery->peer = NGX_HTTP_REFUND_DELIVERY_NOBODY;
    delivery->peer_status = 0;
    delivery->status = 0;
    delivery->time = 0;
    ngx_str_null(&delivery->answer);
    delivery->answer_size = 0;
    delivery->passed = 0;
    delivery->silent = 0;
    delivery->sized = 0;
    delivery->complete = 0;
    delivery->timedout = 0;
    delivery->request = NULL;

    ngx_memzero(&delivery->cut, sizeof(ngx_event_t));
    ngx_memzero(&delivery->done, sizeof(ngx_event_t));

    c = ngx_http_refund_delivery_connect(delivery);
    if (c == NULL) {
        return NGX_ERROR;
    }

    r = ngx_http_create_request(c);
    if (r == NULL) {
        ngx_http_close_connection(c);
        return NGX_ERROR;
    }

    c->data = r;

    if (ngx_http_refund_delivery_request(r, delivery) != NGX_OK) {
        r->logged = 1;
        ngx_http_free_request(r, 0);
        ngx_http_close_connection(c);
        return NGX_ERROR;
    }

    delivery->request = r;
    delivery->start = ngx_current_msec;

    delivery->done.handler = ngx_http_refund_delivery_done_handler;
    delivery->done.data = delivery;
    delivery->done.log = ngx_cycle->log;

    delivery->cut.handler = ngx_http_refund_delivery_cut_handler;
    delivery->cut.data = delivery;
    delivery->cut.log = ngx_cycle->log;

    ngx_add_timer(&delivery->cut, delivery->timeout);

    if (ngx_http_refund_deliveries.next == NULL) {
        ngx_queue_init(&ngx_http_refund_deliveries);
    }

    ngx_queue_insert_tail(&ngx_http_refund_deliveries, &delivery->queue);

    r->internal = 1;

    ngx_http_process_request(r);

    if (delivery->request) {
        ngx_http_run_posted_requests(c);
    }

    return NGX_OK;
}


static ngx_connection_t *
ngx_http_refund_delivery_connect(ngx_http_refund_delivery_t *delivery)
{
    ngx_log_t                              *log;
    ngx_pool_t                             *pool;
    ngx_connection_t                       *c;
    ngx_pool_cleanup_t                     *cln;
    ngx_http_log_ctx_t                     *ctx;
    ngx_http_refund_delivery_origin_t      *origin;
    ngx_http_refund_delivery_connection_t  *dc;

    origin = delivery->origin;

    /*
     * -2 is no file descriptor, so that a stray system call fails, and not -1,
     * which the core takes for a connection that is closed already; poll and
     * select index an array by it.
     */

    c = ngx_get_connection(ngx_cycle->files ? 0 : (ngx_socket_t) -2,
                           ngx_cycle->log);
    if (c == NULL) {
        delivery->reason = "no free connection, see worker_connections";
        return NULL;
    }

    /* nobody will call epoll_ctl() or close() for it */

    c->shared = 1;

    pool = ngx_create_pool(NGX_HTTP_REFUND_DELIVERY_POOL_SIZE, ngx_cycle->log);
    if (pool == NULL) {
        ngx_close_connection(c);
        return NULL;
    }

    c->pool = pool;

    dc = ngx_pcalloc(pool, sizeof(ngx_http_refund_delivery_connection_t));
    log = ngx_palloc(pool, sizeof(ngx_log_t));
    ctx = ngx_palloc(pool, sizeof(ngx_http_log_ctx_t));
    c->buffer = ngx_calloc_buf(pool);
    cln = ngx_pool_cleanup_add(pool, 0);

    if (dc == NULL || log == NULL || ctx == NULL || c->buffer == NULL
        || cln == NULL)
    {
        ngx_close_connection(c);
        ngx_destroy_pool(pool);
        return NULL;
    }

    cln->handler = ngx_http_refund_delivery_closed;
    cln->data = delivery;

    dc->hc.addr_conf = origin->addr_conf;
    dc->hc.conf_ctx = origin->conf_ctx;
    dc->delivery = delivery;

    c->data = &dc->hc;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    c->start_time = ngx_current_msec;
    c->type = SOCK_STREAM;
    c->listening = origin->listening;
    c->sockaddr = origin->sockaddr;
    c->socklen = origin->socklen;
    c->addr_text = origin->addr_text;
    c->local_sockaddr = origin->local_sockaddr;
    c->local_socklen = origin->local_socklen;
    c->log_error = origin->log_error;
    c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
    c->sndlowat = 1;

    ctx->connection = c;
    ctx->request = NULL;
    ctx->current_request = NULL;

    *log = origin->log;
    log->connection = c->number;
    log->data = ctx;
    log->action = "delivering a refund notify";

    c->log = log;
    c->read->log = log;
    c->write->log = log;

    c->send = ngx_http_refund_delivery_send;
    c->recv = ngx_http_refund_delivery_recv;
    c->send_chain = ngx_http_refund_delivery_send_chain;
    c->recv_chain = ngx_http_refund_delivery_recv_chain;

    /*
     * "active" keeps the core from registering the descriptor, "eof" from
     * keepalive and lingering close; writing is always possible.
     */

    c->read->active = 1;
    c->read->eof = 1;
    c->write->active = (ngx_event_flags & NGX_USE_CLEAR_EVENT) != 0;
    c->write->ready = 1;

#if (NGX_STAT_STUB)
    (void) ngx_atomic_fetch_add(ngx_stat_active, 1);
#endif

    return c;
}


static ngx_int_t
ngx_http_refund_delivery_request(ngx_http_request_t *r,
    ngx_http_refund_delivery_t *delivery)
{
    u_char                   *p;
    ngx_buf_t                *b;
    ngx_str_t                 host, length;
    ngx_uint_t                i;
    ngx_chain_t              *cl;
    ngx_table_elt_t          *h;
    ngx_http_cleanup_t       *cln;
    ngx_http_request_body_t  *rb;

    r->method = delivery->method;
    r->method_name = delivery->method_name;
    r->http_version = NGX_HTTP_VERSION_11;
    r->http_protocol = ngx_http_refund_delivery_protocol;

    r->uri = delivery->uri;
    r->args = delivery->args;
    ngx_http_set_exten(r);

    r->request_length = delivery->body.len;
    r->limit_conn_status = delivery->origin->limit_conn_status;
    r->limit_req_status = delivery->origin->limit_req_status;
#if (nginx_version >= 1029000)
    r->port = delivery->origin->port;
#endif

    /* ngx_http_create_request() leaves the list to the header parser */

    if (ngx_list_init(&r->headers_in.headers, r->pool,
                      delivery->nheaders + 3, sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(r->pool, sizeof(" ? HTTP/1.1") - 1
                             + delivery->method_name.len + delivery->uri.len
                             + 2 * ngx_escape_uri(NULL, delivery->uri.data,
                                                  delivery->uri.len,
                                                  NGX_ESCAPE_URI)
                             + delivery->args.len + NGX_SIZE_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    /* the line of a request, for access_log and where $request_uri is sent */

    r->request_line.data = p;

    p = ngx_cpymem(p, delivery->method_name.data, delivery->method_name.len);
    *p++ = ' ';

    r->unparsed_uri.data = p;

    p = (u_char *) ngx_escape_uri(p, delivery->uri.data, delivery->uri.len,
                                  NGX_ESCAPE_URI);

    if (delivery->args.len) {
        *p++ = '?';
        p = ngx_cpymem(p, delivery->args.data, delivery->args.len);
    }

    r->unparsed_uri.len = p - r->unparsed_uri.data;

    p = ngx_cpymem(p, " HTTP/1.1", sizeof(" HTTP/1.1") - 1);

    r->request_line.len = p - r->request_line.data;

    length.data = p;
    length.len = ngx_sprintf(p, "%uz", delivery->body.len) - p;

    /* without one $host is the server's name */

    ngx_str_null(&host);

    if (ngx_http_refund_delivery_host_valid(&delivery->origin->host)) {
        host = delivery->origin->host;
    }

    r->headers_in.server = host;
    r->headers_in.content_length_n = delivery->content_type.len
                                     ? (off_t) delivery->body.len : -1;

    r->headers_in.host = ngx_http_refund_delivery_push_header(r, "host", &host);
    if (r->headers_in.host == NULL) {
        return NGX_ERROR;
    }

    if (delivery->content_type.len) {
        r->headers_in.content_type = ngx_http_refund_delivery_push_header(r,
                             "content-type", &delivery->content_type);
        r->headers_in.content_length = ngx_http_refund_delivery_push_header(r,
                             "content-length", &length);

        if (r->headers_in.content_type == NULL
            || r->headers_in.content_length == NULL)
        {
            return NGX_ERROR;
        }
    }

    for (i = 0; i < delivery->nheaders; i++) {
        h = ngx_list_push(&r->headers_in.headers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        *h = delivery->headers[i];
    }

    /* even an empty body: without it the core would read from the socket */

    rb = ngx_pcalloc(r->pool, sizeof(ngx_http_request_body_t));
    if (rb == NULL) {
        return NGX_ERROR;
    }

    r->request_body = rb;

    /* added first, it runs last: upstream has told its bytes by then */

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_refund_delivery_finish;
    cln->data = r;

    if (delivery->body.len == 0) {
        return NGX_OK;
    }

    b = ngx_calloc_buf(r->pool);
    cl = ngx_alloc_chain_link(r->pool);

    if (b == NULL || cl == NULL) {
        return NGX_ERROR;
    }

    b->pos = delivery->body.data;
    b->last = delivery->body.data + delivery->body.len;
    b->start = b->pos;
    b->end = b->last;
    b->memory = 1;
    b->last_buf = 1;

    cl->buf = b;
    cl->next = NULL;

    rb->bufs = cl;
    rb->buf = b;

    return NGX_OK;
}


/*
 * What RFC 3986, section 3.2.2, lets a host have.  nginx lets in more, and a
 * business app may refuse it, and with it an event that is genuine.
 */

static ngx_uint_t
ngx_http_refund_delivery_host_valid(ngx_str_t *host)
{
    u_char  *p, *last;

    static const uint32_t  valid[] = {
        0x00000000,     /* control characters */
        0x2fff7ff2,     /* ! $ % & ' ( ) * + , - . 0-9 : ; = */
        0xaffffffe,     /* A-Z [ ] _ */
        0x47fffffe,     /* a-z ~ */
        0, 0, 0, 0
    };

    if (host->len > NGX_HTTP_REFUND_DELIVERY_HOST_MAX) {
        return 0;
    }

    last = host->data + host->len;

    for (p = host->data; p < last; p++) {
        if (!(valid[*p >> 5] & ((uint32_t) 1 << (*p & 0x1f)))) {
            return 0;
        }
    }

    return 1;
}


static ngx_table_elt_t *
ngx_http_refund_delivery_push_header(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_in.headers);

    if (h) {
        ngx_http_refund_delivery_set_header(h, name, name, value);
    }

    return h;
}


void
ngx_http_refund_delivery_set_header(ngx_table_elt_t *h, const char *key,
    const char *lowcase_key, ngx_str_t *value)
{
    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->key.len = ngx_strlen(key);
    h->key.data = (u_char *) key;
    h->lowcase_key = (u_char *) lowcase_key;
    h->hash = ngx_hash_key(h->lowcase_key, h->key.len);
    h->value = *value;
}


static void
ngx_http_refund_delivery_cut(ngx_http_refund_delivery_t *delivery)
{
    ngx_connection_t  *c;

    /* finalizing the request from here would use it after it was freed */

    c = delivery->request->connection;

    c->close = 1;
    c->error = 1;
    c->read->handler(c->read);
}


static void
ngx_http_refund_delivery_cut_handler(ngx_event_t *ev)
{
    ngx_http_refund_delivery_t  *delivery;

    delivery = ev->data;
    delivery->timedout = 1;

    ngx_http_refund_delivery_cut(delivery);
}


/* The request ends; upstream's states are still there. */

static void
ngx_http_refund_delivery_finish(void *data)
{
    ngx_http_request_t *r = data;

    ngx_http_refund_delivery_t  *delivery;

    delivery = ngx_http_refund_delivery_of(r);

    /* not started: ngx_http_refund_delivery_start() failed half-way */

    if (delivery->request == NULL) {
        return;
    }

    if (delivery->cut.timer_set) {
        ngx_del_timer(&delivery->cut);
    }

    delivery->time = ngx_current_msec - delivery->start;

    ngx_http_refund_delivery_outcome(delivery, r);

    /* reset_timedout_connection would set an option of a socket */

    r->connection->timedout = 0;
}


/*
 * A page of nginx' own is complete too, and error_page can turn a failure into
 * 200: who answered, and how, is told by upstream's states only.
 */

static void
ngx_http_refund_delivery_outcome(ngx_http_refund_delivery_t *delivery,
    ngx_http_request_t *r)
{
    ngx_uint_t                  i;
    ngx_http_upstream_state_t  *state, *last;

    delivery->status = r->headers_out.status;

    if (r->upstream_states == NULL) {
        return;
    }

    last = NULL;
    state = r->upstream_states->elts;

    for (i = 0; i < r->upstream_states->nelts; i++) {

        if (state[i].peer == NULL) {
            /* the mark that an internal redirect leaves */
            continue;
        }

        last = &state[i];

        if (state[i].bytes_sent > 0
            && state[i].header_time == (ngx_msec_t) -1)
        {
            delivery->silent = 1;
        }
    }

    if (last == NULL) {
        return;
    }

    delivery->passed = 1;

    if (last->header_time != (ngx_msec_t) -1) {
        delivery->peer = ngx_http_refund_delivery_peer(&r->upstream->schema);
        delivery->sized = (r->upstream->headers_in.content_length_n != -1);
        delivery->peer_status = last->status;
    }
}


static ngx_http_refund_delivery_peer_e
ngx_http_refund_delivery_peer(ngx_str_t *schema)
{
    if (schema->len < 4) {
        return NGX_HTTP_REFUND_DELIVERY_FASTCGI;
    }

    if (ngx_strncmp(schema->data, "http", 4) == 0) {
        return NGX_HTTP_REFUND_DELIVERY_HTTP;
    }

    if (ngx_strncmp(schema->data, "scgi", 4) == 0) {
        return NGX_HTTP_REFUND_DELIVERY_SCGI;
    }

    if (ngx_strncmp(schema->data, "grpc", 4) == 0) {
        return NGX_HTTP_REFUND_DELIVERY_GRPC;
    }

    return NGX_HTTP_REFUND_DELIVERY_FASTCGI;
}


/*
 * The connection's pool goes, as the last thing on every way out of a request:
 * the log phase came before and may have wanted our variables.
 */

static void
ngx_http_refund_delivery_closed(void *data)
{
    ngx_http_refund_delivery_t *delivery = data;

    if (delivery->request == NULL) {
        /* it never started */
        return;
    }

    delivery->request = NULL;

    /* the caller continues from an event of its own, not from our stack */

    ngx_post_event(&delivery->done, &ngx_posted_events);
}


static void
ngx_http_refund_delivery_done_handler(ngx_event_t *ev)
{
    ngx_http_refund_delivery_t  *delivery;

    delivery = ev->data;

    ngx_queue_remove(&delivery->queue);

    delivery->handler(delivery);
}


ngx_http_refund_delivery_t *
ngx_http_refund_delivery_of(ngx_http_request_t *r)
{
    ngx_http_refund_delivery_connection_t  *dc;

    if (r->connection->send_chain != ngx_http_refund_delivery_send_chain) {
        return NULL;
    }

    dc = (ngx_http_refund_delivery_connection_t *) r->main->http_connection;

    return dc->delivery;
}


static ssize_t
ngx_http_refund_delivery_send(ngx_connection_t *c, u_char *buf, size_t size)
{
    return size;
}


static ssize_t
ngx_http_refund_delivery_recv(ngx_connection_t *c, u_char *buf, size_t size)
{
    return 0;
}


static ngx_chain_t *
ngx_http_refund_delivery_send_chain(ngx_connection_t *c, ngx_chain_t *in,
    off_t limit)
{
    ngx_chain_t  *cl;

    for (cl = in; cl; cl = cl->next) {
        cl->buf->pos = cl->buf->last;
        cl->buf->file_pos = cl->buf->file_last;
    }

    return NULL;
}


static ssize_t
ngx_http_refund_delivery_recv_chain(ngx_connection_t *c, ngx_chain_t *in,
    off_t limit)
{
    return 0;
}


static ngx_int_t
ngx_http_refund_delivery_header_filter(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_refund_delivery_t  *delivery;

    delivery = (r == r->main) ? ngx_http_refund_delivery_of(r) : NULL;

    if (delivery == NULL) {
        return ngx_http_next_header_filter(r);
    }

    r->header_sent = 1;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (!clcf->internal && !clcf->named) {
        ngx_refund_log_limited(NGX_LOG_WARN, r->connection->log, clcf,
                               "location \"%V\" takes deliveries and is not "
                               "\"internal\": clients reach what is behind it "
                               "too", &clcf->name);
    }

    if (delivery->answer_max) {

        /* what a cache or proxy_store has in a file is wanted as well */

        r->filter_need_in_memory = 1;
    }

    if (delivery->header) {
        delivery->header(delivery, r);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_delivery_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_buf_t                   *b;
    ngx_chain_t                 *cl;
    ngx_http_refund_delivery_t  *delivery;

    delivery = (r == r->main) ? ngx_http_refund_delivery_of(r) : NULL;

    if (delivery == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    for (cl = in; cl; cl = cl->next) {
        b = cl->buf;

        if (ngx_buf_in_memory(b)
            && ngx_http_refund_delivery_keep(delivery, b) != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (b->last_buf) {
            delivery->complete = 1;
        }

        b->pos = b->last;
        b->file_pos = b->file_last;
    }

    return NGX_OK;
}


/* One byte more than was asked for tells that the answer is too long. */

static ngx_int_t
ngx_http_refund_delivery_keep(ngx_http_refund_delivery_t *delivery,
    ngx_buf_t *b)
{
    size_t   size, need;
    u_char  *p;

    if (delivery->answer_max == 0) {
        return NGX_OK;
    }

    size = ngx_min((size_t) (b->last - b->pos),
                   delivery->answer_max + 1 - delivery->answer.len);

    if (size == 0) {
        return NGX_OK;
    }

    need = delivery->answer.len + size;

    if (need > delivery->answer_size) {
        need = ngx_max(need, 2 * delivery->answer_size);
        need = ngx_max(need, 1024);
        need = ngx_min(need, delivery->answer_max + 1);

        p = ngx_pnalloc(delivery->pool, need);
        if (p == NULL) {
            return NGX_ERROR;
        }

        if (delivery->answer.len) {
            ngx_memcpy(p, delivery->answer.data, delivery->answer.len);
        }

        delivery->answer.data = p;
        delivery->answer_size = need;
    }

    ngx_memcpy(delivery->answer.data + delivery->answer.len, b->pos, size);
    delivery->answer.len += size;

    return NGX_OK;
}


ngx_int_t
ngx_http_refund_delivery_init(ngx_conf_t *cf)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_refund_delivery_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_refund_delivery_body_filter;

    return NGX_OK;
}


void
ngx_http_refund_delivery_exit_process(void)
{
    ngx_queue_t                 *q;
    ngx_http_refund_delivery_t  *delivery;

    if (ngx_http_refund_deliveries.next == NULL) {
        return;
    }

    while (!ngx_queue_empty(&ngx_http_refund_deliveries)) {
        q = ngx_queue_head(&ngx_http_refund_deliveries);
        delivery = ngx_queue_data(q, ngx_http_refund_delivery_t, queue);

        if (delivery->request) {
            ngx_http_refund_delivery_cut(delivery);
        }

        /*
         * No event will be processed any more.  A request that a thread still
         * holds does not end by the cut: its outcome stays unknown.
         */

        if (delivery->done.posted) {
            ngx_delete_posted_event(&delivery->done);

        } else {
            delivery->silent = 1;
            delivery->peer = NGX_HTTP_REFUND_DELIVERY_NOBODY;
        }

        ngx_queue_remove(q);

        delivery->handler(delivery);
    }
}


/*
 * Copyright (C) the refund-notify authors
 */


#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>

#include "event_loop.h"
#include "ngx_refund_log.h"


#define FUZZ_CONNECTIONS  64
#define FUZZ_TIMERS       1024
#define FUZZ_FILES        256
#define FUZZ_TURNS        1000
#define FUZZ_ASKED        16384


typedef struct {
    ngx_connection_t         connection;
    ngx_event_t              read;
    ngx_event_t              write;
    ngx_uint_t               readable;
    ngx_uint_t               lies;          /* was sent what the fuzzer said */
    size_t                   nasked;
    uint8_t                  asked[FUZZ_ASKED];
} fuzz_connection_t;


static ngx_int_t fuzz_loop_add(ngx_event_t *ev, ngx_int_t event,
    ngx_uint_t flags);
static ngx_int_t fuzz_loop_del(ngx_event_t *ev, ngx_int_t event,
    ngx_uint_t flags);
static ngx_int_t fuzz_loop_del_conn(ngx_connection_t *c, ngx_uint_t flags);
static fuzz_connection_t *fuzz_loop_connection(ngx_uint_t i);
static void fuzz_loop_forget(int fd);


static ngx_log_t            fuzz_log;
static ngx_cycle_t          fuzz_cycle = { .log = &fuzz_log };

static fuzz_connection_t   *fuzz_connections[FUZZ_CONNECTIONS];
static fuzz_connection_t   *fuzz_freed[FUZZ_CONNECTIONS];
static ngx_uint_t           fuzz_nconnections;
static ngx_uint_t           fuzz_nfreed;
static ngx_rbtree_node_t   *fuzz_timers[FUZZ_TIMERS];
static ngx_uint_t           fuzz_ntimers;
static int                  fuzz_peers[FUZZ_FILES];     /* by the other end */
static ngx_uint_t           fuzz_refused;

volatile ngx_cycle_t       *ngx_cycle = &fuzz_cycle;
volatile ngx_msec_t         ngx_current_msec;
ngx_uint_t                  ngx_exiting;
ngx_rbtree_t                ngx_event_timer_rbtree;
ngx_queue_t                 ngx_posted_events;

ngx_event_actions_t         ngx_event_actions = {
    .add = fuzz_loop_add,
    .del = fuzz_loop_del,
    .del_conn = fuzz_loop_del_conn
};

/* CRC-32 of each half of a byte: ngx_crc32_short() reads it */

static uint32_t             fuzz_crc32[16] = {
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
    0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
    0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c
};

uint32_t                   *ngx_crc32_table_short = fuzz_crc32;


void
fuzz_loop_begin(void)
{
    ngx_queue_init(&ngx_posted_events);

    ngx_current_msec = 1000000;
    fuzz_refused = 0;

    srandom(1);

    /* as nginx does */

    (void) signal(SIGPIPE, SIG_IGN);
}


void
fuzz_loop_end(void)
{
    int  fd;

    fuzz_assert(fuzz_nconnections == 0);
    fuzz_assert(fuzz_ntimers == 0);
    fuzz_assert(ngx_queue_empty(&ngx_posted_events));

    while (fuzz_nfreed != 0) {
        free(fuzz_freed[--fuzz_nfreed]);
    }

    for (fd = 0; fd < FUZZ_FILES; fd++) {
        fuzz_loop_forget(fd);
    }
}


void
fuzz_loop_run(void)
{
    ssize_t             n;
    ngx_uint_t          i, turn, busy;
    ngx_queue_t        *q;
    ngx_event_t        *ev;
    fuzz_connection_t  *fc;

    busy = 1;

    for (turn = 0; busy; turn++) {

        /* an event loop that never rests is one that spins */

        fuzz_assert(turn < FUZZ_TURNS);

        busy = 0;

        while (!ngx_queue_empty(&ngx_posted_events)) {
            q = ngx_queue_head(&ngx_posted_events);
            ev = ngx_queue_data(q, ngx_event_t, queue);

            ngx_delete_posted_event(ev);
            ev->handler(ev);
            busy = 1;
        }

        for (i = 0; i < fuzz_nconnections; i++) {
            fc = fuzz_connections[i];

            if (fc->write.active) {
                fc->write.handler(&fc->write);
                busy = 1;
                break;
            }

            do {
                n = recv(fuzz_peers[fc->connection.fd], fc->asked + fc->nasked,
                         FUZZ_ASKED - fc->nasked, MSG_DONTWAIT);

                fc->nasked += n > 0 ? (size_t) n : 0;

                /* never all that 32 requests are, and then some */

                fuzz_assert(fc->nasked < FUZZ_ASKED);
            } while (n > 0);

            if (fc->read.active && fc->readable) {
                fc->readable = 0;
                fc->read.handler(&fc->read);
                busy = 1;
                break;
            }
        }
    }
}


ngx_uint_t
fuzz_loop_wait(void)
{
    ngx_uint_t          i;
    ngx_event_t        *ev;
    ngx_rbtree_node_t  *node;

    if (fuzz_ntimers == 0) {
        return 0;
    }

    node = fuzz_timers[0];

    for (i = 1; i < fuzz_ntimers; i++) {
        if ((ngx_msec_int_t) (fuzz_timers[i]->key - node->key) < 0) {
            node = fuzz_timers[i];
        }
    }

    if ((ngx_msec_int_t) (node->key - ngx_current_msec) > 0) {
        ngx_current_msec = node->key;
    }

    ev = ngx_rbtree_data(node, ngx_event_t, timer);

    ngx_del_timer(ev);
    ev->timedout = 1;
    ev->handler(ev);

    return 1;
}


void
fuzz_loop_send(ngx_uint_t i, const uint8_t *data, size_t size,
    ngx_uint_t honest)
{
    fuzz_connection_t  *fc;

    fc = fuzz_loop_connection(i);

    if (fc != NULL && size != 0) {
        (void) send(fuzz_peers[fc->connection.fd], data, size, MSG_DONTWAIT);
        fc->readable = 1;
        fc->lies |= !honest;
    }
}


const uint8_t *
fuzz_loop_asked(ngx_uint_t i, size_t *size, ngx_uint_t *honest)
{
    fuzz_connection_t  *fc;

    fc = fuzz_loop_connection(i);

    if (fc == NULL) {
        *size = 0;
        return NULL;
    }

    *size = fc->nasked;
    *honest = !fc->lies;

    fc->nasked = 0;

    return fc->asked;
}


void
fuzz_loop_close(ngx_uint_t i)
{
    fuzz_connection_t  *fc;

    fc = fuzz_loop_connection(i);

    if (fc != NULL) {
        (void) shutdown(fuzz_peers[fc->connection.fd], SHUT_RDWR);
        fc->readable = 1;
    }
}


void
fuzz_loop_refuse(void)
{
    fuzz_refused = !fuzz_refused;
}


static fuzz_connection_t *
fuzz_loop_connection(ngx_uint_t i)
{
    return fuzz_nconnections ? fuzz_connections[i % fuzz_nconnections] : NULL;
}


static void
fuzz_loop_forget(int fd)
{
    if (fuzz_peers[fd] != 0) {
        (void) close(fuzz_peers[fd]);
        fuzz_peers[fd] = 0;
    }
}


static ngx_int_t
fuzz_loop_add(ngx_event_t *ev, ngx_int_t event, ngx_uint_t flags)
{
    fuzz_assert(!ev->active && flags == NGX_LEVEL_EVENT);

    ev->active = 1;

    return NGX_OK;
}


static ngx_int_t
fuzz_loop_del(ngx_event_t *ev, ngx_int_t event, ngx_uint_t flags)
{
    fuzz_assert(ev->active);

    ev->active = 0;

    return NGX_OK;
}


static ngx_int_t
fuzz_loop_del_conn(ngx_connection_t *c, ngx_uint_t flags)
{
    c->read->active = 0;
    c->write->active = 0;

    return NGX_OK;
}


ngx_connection_t *
ngx_get_connection(ngx_socket_t s, ngx_log_t *log)
{
    fuzz_connection_t  *fc;

    if (fuzz_nconnections == FUZZ_CONNECTIONS
        || fuzz_nconnections + fuzz_nfreed >= FUZZ_CONNECTIONS)
    {
        return NULL;
    }

    fc = calloc(1, sizeof(fuzz_connection_t));
    fuzz_assert(fc != NULL);

    fc->connection.fd = s;
    fc->connection.log = log;
    fc->connection.read = &fc->read;
    fc->connection.write = &fc->write;
    fc->read.data = &fc->connection;
    fc->write.data = &fc->connection;
    fc->write.write = 1;

    fuzz_connections[fuzz_nconnections++] = fc;

    return &fc->connection;
}


/* Its memory stays, as it does in nginx, until the input is done with. */

void
ngx_free_connection(ngx_connection_t *c)
{
    ngx_uint_t  i;

    for (i = 0; &fuzz_connections[i]->connection != c; i++) {
        fuzz_assert(i + 1 < fuzz_nconnections);
    }

    fuzz_assert(!c->read->active && !c->write->active);
    fuzz_assert(!c->read->posted && !c->write->posted);

    fuzz_freed[fuzz_nfreed++] = fuzz_connections[i];
    fuzz_nconnections--;

    memmove(&fuzz_connections[i], &fuzz_connections[i + 1],
            (fuzz_nconnections - i) * sizeof(fuzz_connections[0]));
}


void
ngx_rbtree_insert(ngx_rbtree_t *tree, ngx_rbtree_node_t *node)
{
    fuzz_assert(tree == &ngx_event_timer_rbtree);
    fuzz_assert(fuzz_ntimers < FUZZ_TIMERS);

    fuzz_timers[fuzz_ntimers++] = node;
}


void
ngx_rbtree_delete(ngx_rbtree_t *tree, ngx_rbtree_node_t *node)
{
    ngx_uint_t  i;

    for (i = 0; fuzz_timers[i] != node; i++) {
        fuzz_assert(i + 1 < fuzz_ntimers);
    }

    fuzz_timers[i] = fuzz_timers[--fuzz_ntimers];
}


void *
ngx_alloc(size_t size, ngx_log_t *log)
{
    void  *p;

    p = malloc(size);
    fuzz_assert(p != NULL);

    return p;
}


void *
ngx_calloc(size_t size, ngx_log_t *log)
{
    return memset(ngx_alloc(size, log), 0, size);
}


void
ngx_explicit_memzero(void *buf, size_t n)
{
    explicit_bzero(buf, n);
}


u_char *
ngx_cpystrn(u_char *dst, u_char *src, size_t n)
{
    n = strnlen((char *) src, n - 1);

    memcpy(dst, src, n);
    dst[n] = '\0';

    return dst + n;
}


ngx_int_t
ngx_strncasecmp(u_char *s1, u_char *s2, size_t n)
{
    return strncasecmp((char *) s1, (char *) s2, n);
}


/* %ui and %uz are all that a command has. */

u_char * ngx_cdecl
ngx_sprintf(u_char *buf, const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);

    for ( /* void */ ; *fmt; fmt++) {

        if (*fmt != '%') {
            *buf++ = (u_char) *fmt;
            continue;
        }

        fuzz_assert(*++fmt == 'u');
        fuzz_assert(*++fmt == 'i' || *fmt == 'z');

        buf += sprintf((char *) buf, "%lu",
                       (unsigned long) va_arg(args, ngx_uint_t));
    }

    va_end(args);

    return buf;
}


void ngx_cdecl
ngx_refund_log_limited(ngx_uint_t level, ngx_log_t *log, const void *reason,
    const char *fmt, ...)
{
    fuzz_assert(reason != NULL && fmt != NULL);
}


void
ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err,
    const char *fmt, ...)
{
    fuzz_assert(fmt != NULL);
}


/* No name server is configured, so that no name is ever looked up. */

ngx_resolver_ctx_t *
ngx_resolve_start(ngx_resolver_t *r, ngx_resolver_ctx_t *temp)
{
    abort();
}


ngx_int_t
ngx_resolve_name(ngx_resolver_ctx_t *ctx)
{
    abort();
}


void
ngx_resolve_name_done(ngx_resolver_ctx_t *ctx)
{
    abort();
}


char *
ngx_resolver_strerror(ngx_int_t err)
{
    abort();
}


size_t
ngx_sock_ntop(struct sockaddr *sa, socklen_t socklen, u_char *text, size_t len,
    ngx_uint_t port)
{
    abort();
}


/*
 * What hiredis calls of the system.  It is never to be given a name, for it
 * would wait for the answer.
 */

int
getaddrinfo(const char *node, const char *service,
    const struct addrinfo *hints, struct addrinfo **res)
{
    struct in6_addr           address;
    struct addrinfo          *ai;
    struct sockaddr_storage  *ss;

    if (inet_pton(hints->ai_family, node, &address) != 1) {
        fuzz_assert(inet_pton(AF_INET6, node, &address) == 1
                    || inet_pton(AF_INET, node, &address) == 1);
        return EAI_NONAME;
    }

    ai = calloc(1, sizeof(struct addrinfo) + sizeof(struct sockaddr_storage));
    fuzz_assert(ai != NULL);

    ss = (struct sockaddr_storage *) (ai + 1);
    ss->ss_family = (sa_family_t) hints->ai_family;

    ai->ai_family = hints->ai_family;
    ai->ai_socktype = SOCK_STREAM;
    ai->ai_addr = (struct sockaddr *) ss;
    ai->ai_addrlen = (ai->ai_family == AF_INET) ? sizeof(struct sockaddr_in)
                                                : sizeof(struct sockaddr_in6);
    *res = ai;

    return 0;
}


void
freeaddrinfo(struct addrinfo *ai)
{
    free(ai);
}


int
connect(int fd, const struct sockaddr *sa, socklen_t len)
{
    int  pair[2];

    if (fuzz_refused) {
        errno = ECONNREFUSED;
        return -1;
    }

    fuzz_assert(fd > 0 && fd < FUZZ_FILES);
    fuzz_loop_forget(fd);

    fuzz_assert(socketpair(AF_UNIX, SOCK_STREAM|SOCK_NONBLOCK, 0, pair) == 0);
    fuzz_assert(dup2(pair[0], fd) == fd);

    (void) close(pair[0]);
    fuzz_peers[fd] = pair[1];

    return 0;
}


/* of TCP, which this is not */

int
setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    return 0;
}

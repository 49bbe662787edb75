
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ngx_refund_redis_numeric.c"
#include "ngx_refund_redis_reply.c"


#define NODE(host, port)   "*3\r\n" host ":" port "\r\n$1\r\nx\r\n"
#define RANGE(from, to)    "*3\r\n:" from "\r\n:" to "\r\n"
#define LOCAL              "$9\r\n127.0.0.1\r\n"


typedef struct {
    char        text[1024];             /* "first-last host/ip:port " ... */
    ngx_uint_t  n;
    ngx_uint_t  stop;                   /* after so many */
} heard_t;


static redisReply *
parse(const char *resp)
{
    void         *reply;
    redisReader  *reader;

    reader = redisReaderCreate();
    assert_non_null(reader);
    assert_int_equal(redisReaderFeed(reader, resp, strlen(resp)), REDIS_OK);
    assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
    assert_non_null(reply);
    redisReaderFree(reader);

    return reply;
}


static ngx_int_t
hear(void *data, ngx_uint_t first, ngx_uint_t last,
    const ngx_refund_redis_announced_t *node)
{
    heard_t  *heard = data;
    size_t    len;

    len = strlen(heard->text);

    snprintf(heard->text + len, sizeof(heard->text) - len,
             "%lu-%lu %.*s/%.*s:%d ", (unsigned long) first,
             (unsigned long) last, (int) node->host.len,
             (char *) node->host.data, (int) node->ip.len,
             (char *) node->ip.data, node->port);

    return (++heard->n == heard->stop) ? NGX_ABORT : NGX_OK;
}


/*
 * 12739 is the specification's own example; the others are what a Redis 7.0.15
 * says to CLUSTER KEYSLOT.
 */

static void
test_slot(void **state)
{
    ngx_str_t  key;
    unsigned   i;

    static const struct {
        const char  *key;
        unsigned     slot;
    } keys[] = {
        { "123456789", 12739 },
        { "", 0 },
        { "foo", 12182 },
        { "{foo}", 12182 },
        { "a{foo}b{bar}", 12182 },
        { "foo{}{bar}", 8363 },
        { "foo{{bar}}zap", 4015 },
        { "foo{bar", 15278 },
        { "foo}bar{", 11073 },
        { "{", 4092 },
        { "{}", 15257 }
    };

    for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        key.len = strlen(keys[i].key);
        key.data = malloc(key.len ? key.len : 1);
        assert_non_null(key.data);
        memcpy(key.data, keys[i].key, key.len);

        assert_int_equal(ngx_refund_redis_slot(&key), keys[i].slot);

        free(key.data);
    }
}


static void
test_slots(void **state)
{
    heard_t      heard;
    unsigned     i;
    redisReply  *reply;

    static const struct {
        const char  *resp;
        const char  *heard;             /* NULL: refused */
    } replies[] = {
        { "*1\r\n" RANGE("0", "16383") NODE(LOCAL, "7000"),
          "0-16383 127.0.0.1/:7000 " },
        { "*2\r\n" RANGE("0", "0") NODE(LOCAL, "1")
          RANGE("16383", "16383") NODE("$2\r\n::\r\n", "65535"),
          "0-0 127.0.0.1/:1 16383-16383 ::/:65535 " },

        /* who has no name of its own, and who has a name and an address */

        { "*1\r\n" RANGE("1", "2") NODE("$0\r\n\r\n", "7"), "1-2 /:7 " },
        { "*1\r\n" RANGE("1", "2") NODE("$-1\r\n", "7"), "1-2 /:7 " },
        { "*1\r\n" RANGE("1", "2") NODE("$1\r\n?\r\n", "7"), "1-2 /:7 " },
        { "*1\r\n" RANGE("1", "2") NODE("$1\r\nh\r\n", "7"), "1-2 h/:7 " },
        { "*1\r\n" RANGE("1", "2") "*4\r\n$3\r\na.b\r\n:7\r\n$1\r\nx\r\n"
          "*4\r\n$8\r\nhostname\r\n$3\r\na.b\r\n$2\r\nip\r\n" LOCAL,
          "1-2 a.b/127.0.0.1:7 " },
        { "*1\r\n" RANGE("1", "2") "*4\r\n$3\r\na.b\r\n:7\r\n$1\r\nx\r\n"
          "*3\r\n:1\r\n:2\r\n$2\r\nip\r\n", "1-2 a.b/:7 " },
        { "*1\r\n" RANGE("1", "2") "*4\r\n$3\r\na.b\r\n:7\r\n$1\r\nx\r\n"
          "$2\r\nip\r\n", "1-2 a.b/:7 " },
        { "*1\r\n" RANGE("1", "2") "*4\r\n$3\r\na.b\r\n:7\r\n$1\r\nx\r\n"
          "*2\r\n$2\r\nip\r\n$3\r\na b\r\n", "1-2 a.b/:7 " },
        { "*1\r\n" RANGE("1", "2") "*4\r\n$3\r\na.b\r\n:7\r\n$1\r\nx\r\n"
          "*2\r\n$2\r\nip\r\n$3\r\na.c\r\n", "1-2 a.b/:7 " },
        { "*1\r\n" RANGE("1", "2") "*4\r\n$3\r\na.b\r\n:7\r\n$1\r\nx\r\n"
          "*2\r\n$2\r\nip\r\n$6\r\n1.2.3.\r\n", "1-2 a.b/:7 " },
        { "*1\r\n" RANGE("1", "2") "*4\r\n$3\r\na.b\r\n:7\r\n$1\r\nx\r\n"
          "*2\r\n$2\r\nip\r\n$3\r\n::1\r\n", "1-2 a.b/::1:7 " },
        { "*1\r\n" RANGE("1", "2") "*4\r\n$3\r\na.b\r\n:7\r\n$1\r\nx\r\n"
          "*4\r\n$2\r\nid\r\n$3\r\n::2\r\n$2\r\nip\r\n$3\r\n::1\r\n",
          "1-2 a.b/::1:7 " },
        { "*1\r\n" RANGE("1", "2") "*4\r\n$3\r\na.b\r\n:7\r\n$1\r\nx\r\n"
          "*4\r\n$2\r\nip\r\n$-1\r\n$2\r\nip\r\n$3\r\n::1\r\n",
          "1-2 a.b/::1:7 " },

        /* what is no map, or only half of one */

        { "*0\r\n", NULL },
        { "+OK\r\n", NULL },
        { "*-1\r\n", NULL },
        { "*1\r\n:1\r\n", NULL },
        { "*1\r\n*2\r\n:0\r\n:1\r\n", NULL },
        { "*1\r\n*3\r\n:0\r\n:1\r\n*0\r\n", NULL },
        { "*1\r\n*3\r\n:0\r\n:1\r\n*1\r\n" LOCAL, NULL },
        { "*1\r\n*3\r\n$1\r\n0\r\n:1\r\n" NODE(LOCAL, "7"), NULL },
        { "*1\r\n*3\r\n:0\r\n$1\r\n1\r\n" NODE(LOCAL, "7"), NULL },
        { "*1\r\n" RANGE("0", "1") LOCAL, NULL },
        { "*1\r\n" RANGE("-1", "1") NODE(LOCAL, "7"), NULL },
        { "*1\r\n" RANGE("2", "1") NODE(LOCAL, "7"), NULL },
        { "*1\r\n" RANGE("0", "16384") NODE(LOCAL, "7"), NULL },
        { "*1\r\n" RANGE("0", "1") NODE(LOCAL, "0"), NULL },
        { "*1\r\n" RANGE("0", "1") NODE(LOCAL, "65536"), NULL },
        { "*1\r\n" RANGE("0", "1") NODE(":5\r\n", "7"), NULL },
        { "*1\r\n" RANGE("0", "1") NODE("$3\r\na b\r\n", "7"), NULL },
        { "*1\r\n" RANGE("0", "1") NODE("$3\r\na\nb\r\n", "7"), NULL },
        { "*1\r\n" RANGE("0", "1") "*3\r\n" LOCAL "$1\r\n7\r\n$1\r\nx\r\n",
          NULL },
        { "*2\r\n" RANGE("0", "1") NODE(LOCAL, "7")
          RANGE("5", "4") NODE(LOCAL, "7"), NULL }
    };

    for (i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        memset(&heard, 0, sizeof(heard_t));
        reply = parse(replies[i].resp);

        if (replies[i].heard) {
            assert_int_equal(ngx_refund_redis_slots(reply, hear, &heard),
                             NGX_OK);
            assert_string_equal(heard.text, replies[i].heard);

        } else {
            assert_int_equal(ngx_refund_redis_slots(reply, hear, &heard),
                             NGX_DECLINED);
            assert_int_equal(heard.n, 0);
        }

        freeReplyObject(reply);
    }

    memset(&heard, 0, sizeof(heard_t));
    heard.stop = 1;
    reply = parse(replies[1].resp);

    assert_int_equal(ngx_refund_redis_slots(reply, hear, &heard), NGX_ABORT);
    assert_int_equal(heard.n, 1);

    freeReplyObject(reply);
}


/* A copy without a byte after it, so that ASan sees what reads past it. */

static ngx_str_t
copy(const char *text)
{
    ngx_str_t  s;

    s.len = strlen(text);
    s.data = malloc(s.len ? s.len : 1);
    assert_non_null(s.data);
    memcpy(s.data, text, s.len);

    return s;
}


static void
assert_node(ngx_int_t rc, const ngx_refund_redis_announced_t *node,
    const char *expected)
{
    char  text[300];

    if (expected == NULL) {
        assert_int_not_equal(rc, NGX_OK);
        return;
    }

    assert_int_equal(rc, NGX_OK);
    assert_int_equal(node->ip.len, 0);

    snprintf(text, sizeof(text), "%.*s %d", (int) node->host.len,
             (char *) node->host.data, node->port);
    assert_string_equal(text, expected);
}


static void
test_redirection(void **state)
{
    unsigned                       i;
    ngx_str_t                      text;
    ngx_refund_redis_announced_t   node;

    static const char  *texts[][2] = {
        { "MOVED 3999 127.0.0.1:6381", "127.0.0.1 6381" },
        { "ASK 3999 ::1:6381", "::1 6381" },
        { "MOVED 3999 a-b.c_d:65535", "a-b.c_d 65535" },
        { "MOVED 3999 fe80::A%B:65535", "fe80::A%B 65535" },
        { "MOVED 3999 :6381", " 6381" },
        { "MOVED 3999 ?:6381", " 6381" },
        { "MOVED 3999 127.0.0.1:0", NULL },
        { "MOVED 3999 127.0.0.1:65536", NULL },
        { "MOVED 3999 127.0.0.1:", NULL },
        { "MOVED 3999 127.0.0.1:6381 ", NULL },
        { "MOVED 3999 127.0.0.1:6381 x", NULL },
        { "MOVED 3999 127.0.0.1", NULL },
        { "MOVED 3999 a;b:1", NULL },
        { "MOVED 3999 a[b:1", NULL },
        { "MOVED 3999 a~b:1", NULL },
        { "MOVED 3999 a:-1", NULL },
        { "MOVED  127.0.0.1:1", NULL },
        { "MOVED 3999 ", NULL },
        { "MOVED 3999", NULL },
        { "MOVED", NULL },
        { "", NULL }
    };

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        text = copy(texts[i][0]);
        assert_node(ngx_refund_redis_redirection(&text, &node), &node,
                    texts[i][1]);
        free(text.data);
    }
}


static void
test_switched(void **state)
{
    unsigned                       i;
    ngx_str_t                      text;
    ngx_refund_redis_announced_t   node;

    static ngx_str_t    master = ngx_string("m1");

    static const char  *texts[][2] = {
        { "m1 127.0.0.1 1 127.0.0.2 2", "127.0.0.2 2" },
        { "m1 ? ? node-2 65535", "node-2 65535" },
        { "m2 127.0.0.1 1 127.0.0.2 2", NULL },
        { "m 127.0.0.1 1 127.0.0.2 2", NULL },
        { "m1 127.0.0.1 1 127.0.0.2 0", NULL },
        { "m1 127.0.0.1 1 127.0.0.2 x", NULL },
        { "m1 127.0.0.1 1 127.0.0.2 2 3", NULL },
        { "m1 127.0.0.1 1 127.0.0.2", NULL },
        { "m1 127.0.0.1 1  2", NULL },
        { "m1 127.0.0.1  127.0.0.2 2", NULL },
        { "m1 127.0.0.1 1 a;b 2", NULL },
        { "m1", NULL },
        { "", NULL }
    };

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        text = copy(texts[i][0]);
        assert_node(ngx_refund_redis_switched(&text, &master, &node), &node,
                    texts[i][1]);
        free(text.data);
    }
}


static void
test_master(void **state)
{
    unsigned                       i;
    redisReply                    *reply;
    ngx_refund_redis_announced_t   node;

    static const char  *replies[][2] = {
        { "*2\r\n" LOCAL "$4\r\n6379\r\n", "127.0.0.1 6379" },
        { "*2\r\n$4\r\nnode\r\n$1\r\n1\r\n", "node 1" },
        { "*2\r\n$0\r\n\r\n$1\r\n1\r\n", NULL },
        { "*2\r\n$-1\r\n$1\r\n1\r\n", NULL },
        { "*2\r\n" LOCAL ":1\r\n", NULL },
        { "*2\r\n" LOCAL "$1\r\n0\r\n", NULL },
        { "*2\r\n" LOCAL "$6\r\n100000\r\n", NULL },
        { "*2\r\n" LOCAL "$0\r\n\r\n", NULL },
        { "*1\r\n" LOCAL, NULL },
        { "*3\r\n" LOCAL "$1\r\n1\r\n:1\r\n", NULL },
        { "*0\r\n", NULL },
        { "*-1\r\n", NULL },
        { "$-1\r\n", NULL },
        { ":1\r\n", NULL }
    };

    for (i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        reply = parse(replies[i][0]);
        assert_node(ngx_refund_redis_master(reply, &node), &node,
                    replies[i][1]);
        freeReplyObject(reply);
    }

    reply = parse("*-1\r\n");
    assert_int_equal(ngx_refund_redis_master(reply, &node), NGX_DECLINED);
    freeReplyObject(reply);
}


/* Whoever is told a host has room for so many bytes, and no more. */

static void
test_long_host(void **state)
{
    char                           text[1024], host[NGX_REFUND_REDIS_HOST_MAX
                                                    + 2], expected[300];
    size_t                         len;
    heard_t                        heard;
    ngx_str_t                      line;
    redisReply                    *reply;
    const char                    *node_is;
    ngx_refund_redis_announced_t   node;

    static ngx_str_t  master = ngx_string("m1");

    for (len = NGX_REFUND_REDIS_HOST_MAX;
         len <= NGX_REFUND_REDIS_HOST_MAX + 1;
         len++)
    {
        memset(host, 'h', len);
        host[len] = '\0';

        snprintf(expected, sizeof(expected), "%s 7", host);
        node_is = (len <= NGX_REFUND_REDIS_HOST_MAX) ? expected : NULL;

        snprintf(text, sizeof(text), "MOVED 3999 %s:7", host);
        line = copy(text);
        assert_node(ngx_refund_redis_redirection(&line, &node), &node,
                    node_is);
        free(line.data);

        snprintf(text, sizeof(text), "m1 127.0.0.1 1 %s 7", host);
        line = copy(text);
        assert_node(ngx_refund_redis_switched(&line, &master, &node), &node,
                    node_is);
        free(line.data);

        snprintf(text, sizeof(text), "*2\r\n$%d\r\n%s\r\n$1\r\n7\r\n",
                 (int) len, host);
        reply = parse(text);
        assert_node(ngx_refund_redis_master(reply, &node), &node, node_is);
        freeReplyObject(reply);

        snprintf(text, sizeof(text),
                 "*1\r\n" RANGE("0", "1") NODE("$%d\r\n%s\r\n", "7"),
                 (int) len, host);
        memset(&heard, 0, sizeof(heard_t));
        reply = parse(text);
        assert_int_equal(ngx_refund_redis_slots(reply, hear, &heard),
                         node_is ? NGX_OK : NGX_DECLINED);
        assert_int_equal(heard.n, node_is ? 1 : 0);
        freeReplyObject(reply);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_slot),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_redirection),
        cmocka_unit_test(test_switched),
        cmocka_unit_test(test_master),
        cmocka_unit_test(test_long_host)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <netdb.h>
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ngx_refund_redis_numeric.c"


/* What is numeric here is so to getaddrinfo(), or else it were looked up. */

static void
test_numeric(void **state)
{
    unsigned          i;
    ngx_str_t         host;
    struct addrinfo  *ai;
    struct addrinfo   hints = { .ai_flags = AI_NUMERICHOST };

    static const struct {
        const char  *host;
        unsigned     numeric;
    } hosts[] = {
        { "127.0.0.1", 1 },
        { "255.255.255.255", 1 },
        { "0.0.0.0", 1 },
        { "::", 1 },
        { "::1", 1 },
        { "FE80::1", 1 },
        { "::ffff:127.0.0.1", 1 },
        { "1111:2222:3333:4444:5555:6666:7777:8888", 1 },
        { "1111:2222:3333:4444:5555:6666:255.255.255.255", 1 },
        { "", 0 },
        { "1.2.3.", 0 },
        { "...", 0 },
        { "1..2.3", 0 },
        { "08.1.1.1", 0 },
        { "010.0.0.1", 0 },
        { "1.2.3", 0 },
        { "1", 0 },
        { "1.2.3.4.", 0 },
        { "1.2.3.4.5", 0 },
        { "1.2.3.256", 0 },
        { "0x7f.0.0.1", 0 },
        { "::1.2.3.", 0 },
        { "::...", 0 },
        { "::1..2.3", 0 },
        { "::08.1.1.1", 0 },
        { ":", 0 },
        { ":::", 0 },
        { "1::2::3", 0 },
        { "12345::", 0 },
        { "1111:2222:3333:4444:5555:6666:7777:8888:9999", 0 },
        { "0001111:2222:3333:4444:5555:6666:255.255.255.255", 0 },
        { "fe80::1%lo", 0 },
        { "node", 0 },
        { "127.0.0.1.test", 0 }
    };

    for (i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        host.len = strlen(hosts[i].host);
        host.data = malloc(host.len ? host.len : 1);
        assert_non_null(host.data);
        memcpy(host.data, hosts[i].host, host.len);

        assert_int_equal(ngx_refund_redis_numeric(&host), hosts[i].numeric);

        free(host.data);

        if (hosts[i].numeric) {
            assert_int_equal(getaddrinfo(hosts[i].host, NULL, &hints, &ai), 0);
            freeaddrinfo(ai);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_numeric)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

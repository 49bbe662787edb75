
/*
 * Copyright (C) the refund-notify authors
 */


#include "nginx.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ngx_http_refund_store_record.c"


#define OWNER  "0123456789abcdef0123456789abcdef"


/* Decodes a copy without a byte after it, so that ASan sees what reads past. */

static ngx_int_t
decode(const char *text, size_t len, ngx_http_refund_store_record_t *record)
{
    ngx_int_t   rc;
    ngx_str_t   copy;

    copy.len = len;
    copy.data = malloc(len ? len : 1);
    assert_non_null(copy.data);
    ngx_memcpy(copy.data, text, len);

    rc = ngx_http_refund_store_record_decode(record, &copy);

    if (rc == NGX_OK && record->state == 'P') {
        assert_memory_equal(record->owner, OWNER, 32);
        record->owner = (u_char *) OWNER;
    }

    free(copy.data);

    return rc;
}


static void
test_there_and_back(void **state)
{
    u_char                           buf[NGX_HTTP_REFUND_STORE_RECORD_MAX];
    size_t                           len, cut;
    unsigned                         i;
    ngx_http_refund_store_record_t   record;

    static const char  *texts[] = {
        "P " OWNER " 1 10000 259200000",
        "P " OWNER " 999999999 999999999999 999999999999",
        "F 2 10000 259200000",
        "D 1700000000",
        "D 1"
    };

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        len = ngx_strlen(texts[i]);

        assert_int_equal(decode(texts[i], len, &record), NGX_OK);
        assert_int_equal(
            ngx_http_refund_store_record_encode(buf, &record) - buf, len);
        assert_memory_equal(buf, texts[i], len);

        /* whatever is cut off, it is no longer the same record */

        for (cut = 0; cut < len; cut++) {
            if (decode(texts[i], cut, &record) == NGX_OK) {
                len = ngx_http_refund_store_record_encode(buf, &record) - buf;
                assert_int_equal(len, cut);
                len = ngx_strlen(texts[i]);
            }
        }
    }
}


static void
test_fields(void **state)
{
    ngx_http_refund_store_record_t  record;

    assert_int_equal(decode("P " OWNER " 7 10000 259200000",
                            sizeof("P " OWNER " 7 10000 259200000") - 1,
                            &record),
                     NGX_OK);
    assert_int_equal(record.state, 'P');
    assert_int_equal(record.attempt, 7);
    assert_int_equal(record.lease, 10000);
    assert_int_equal(record.retain, 259200000);

    assert_int_equal(decode("F 3 5 6", 7, &record), NGX_OK);
    assert_int_equal(record.state, 'F');
    assert_int_equal(record.attempt, 3);
    assert_int_equal(record.lease, 5);
    assert_int_equal(record.retain, 6);

    assert_int_equal(decode("D 1700000000", 12, &record), NGX_OK);
    assert_int_equal(record.state, 'D');
    assert_int_equal(record.time, 1700000000);
}


static void
test_not_ours(void **state)
{
    unsigned                         i;
    ngx_http_refund_store_record_t   record;

    static const char  *texts[] = {
        "", " ", "D", "D ", "D  1", "D 0", "D 01", "D -1", "D +1", "D 1 ",
        "D 1\n", " D 1", "d 1", "D 1x", "D 1.5", "D 1000000000000",
        "F", "F 1", "F 1 2", "F 1 2 ", "F 1 2 3 ", "F 1 2 3 4", "F 0 2 3",
        "F 1 0 3", "F 1 2 0", "F 1  2 3", "F 1000000000 2 3",
        "F 1 1000000000000 3", "F 1 2 1000000000000", "F\t1 2 3",
        "F 18446744073709551617 2 3",
        "P", "P ", "P " OWNER, "P " OWNER " 1 2", "P " OWNER "  1 2 3",
        "P " OWNER "0 1 2 3", "P 0" OWNER " 1 2 3", "P" OWNER " 1 2 3",
        "P 0123456789abcdef0123456789abcde 1 2 3",
        "P 0123456789ABCDEF0123456789abcdef 1 2 3",
        "P 0123456789abcdef0123456789abcdeg 1 2 3",
        "X 1", "OK", "processing"
    };

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (decode(texts[i], ngx_strlen(texts[i]), &record) != NGX_DECLINED) {
            fail_msg("\"%s\" was taken for a record", texts[i]);
        }
    }

    /* a NUL ends nothing */

    assert_int_equal(decode("D 1\0", 4, &record), NGX_DECLINED);
    assert_int_equal(decode("D 1\0000", 5, &record), NGX_DECLINED);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_not_ours)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

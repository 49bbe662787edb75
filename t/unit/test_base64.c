
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdlib.h>

#include "test_notify.h"
#include "wechatpay_base64.h"


static int
test_decode(const char *text, size_t len, unsigned char *out, size_t *n)
{
    int               rc;
    char             *copy;
    wechatpay_str_t   src;

    /* a piece of its own, so that the sanitizers see what is read */

    copy = malloc(len + 1);
    assert_non_null(copy);
    memcpy(copy + 1, text, len);

    src.data = (unsigned char *) copy + 1;
    src.len = len;

    rc = wechatpay_base64_decode(src, out, n);

    free(copy);

    return rc;
}


static void
test_base64_right(void **state)
{
    size_t         i, n;
    unsigned char  out[64];

    /* RFC 4648, section 10, and both digits beyond letters and numbers */

    static const struct {
        const char  *text;
        const char  *base64;
    } right[] = {
        { "", "" },
        { "f", "Zg==" },
        { "fo", "Zm8=" },
        { "foo", "Zm9v" },
        { "foob", "Zm9vYg==" },
        { "fooba", "Zm9vYmE=" },
        { "foobar", "Zm9vYmFy" },
        { "\xfb\xff\xbf", "+/+/" }
    };

    (void) state;

    for (i = 0; i < test_count(right); i++) {
        assert_int_equal(test_decode(right[i].base64, strlen(right[i].base64),
                                     out, &n),
                         0);
        assert_int_equal(n, strlen(right[i].text));
        assert_memory_equal(out, right[i].text, n);
    }
}


static void
test_base64_wrong(void **state)
{
    size_t         i, n;
    unsigned char  out[64];

    static const char  *wrong[] = {
        "A", "AA", "AAA", "AAAAA", "=", "==", "===", "====", "A===", "AA=A",
        "A=AA", "=AAA", "A==A", "AAAA=", "AAAA====", "Zg==Zg==", "Zm9v====",
        "Zh==", "Zm9=", "Zm9v\n", "Zm9\n", "Zm 9", " Zm9", "Zm9v\r\nYg==",
        "-_-_", "Zm9.", "Zm\x80v", "Zm\xffv"
    };

    (void) state;

    for (i = 0; i < test_count(wrong); i++) {
        if (test_decode(wrong[i], strlen(wrong[i]), out, &n) == 0) {
            fail_msg("\"%s\" was decoded", wrong[i]);
        }
    }

    assert_int_not_equal(test_decode("Zm\0v", 4, out, &n), 0);
}


/* As many texts of each form are taken as there are values, and no more. */

static void
test_base64_once(void **state)
{
    char           text[4];
    size_t         n, one, two;
    unsigned       a, b, c;
    unsigned char  out[3];

    (void) state;

    one = 0;
    two = 0;

    for (a = 0; a < 256; a++) {
        for (b = 0; b < 256; b++) {
            text[0] = (char) a;
            text[1] = (char) b;
            text[2] = '=';
            text[3] = '=';

            one += (test_decode(text, 4, out, &n) == 0 && n == 1);

            for (c = 0; c < 256; c++) {

                if (c == '=') {
                    continue;
                }

                text[2] = (char) c;

                two += (test_decode(text, 4, out, &n) == 0 && n == 2);
            }
        }
    }

    assert_int_equal(one, 256);
    assert_int_equal(two, 65536);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_base64_right),
        cmocka_unit_test(test_base64_wrong),
        cmocka_unit_test(test_base64_once)
    };

    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}

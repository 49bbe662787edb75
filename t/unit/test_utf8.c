
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdlib.h>

#include "test_notify.h"
#include "wechatpay_utf8.h"


static int
test_utf8(const unsigned char *data, size_t len)
{
    int               rc;
    unsigned char    *copy;
    wechatpay_str_t   text;

    copy = malloc(len + 1);
    assert_non_null(copy);
    memcpy(copy + 1, data, len);

    text.data = copy + 1;
    text.len = len;

    rc = wechatpay_utf8_text(text);

    free(copy);

    return rc;
}


/*
 * Every sequence of one to three bytes, and of four with the last two fixed: as
 * many are taken as Unicode has characters, U+0000 and the surrogates left out.
 */

static void
test_utf8_counts(void **state)
{
    size_t         one, two, three, four;
    unsigned       a, b, c;
    unsigned char  s[4];

    (void) state;

    one = two = three = four = 0;

    for (a = 0; a < 256; a++) {
        s[0] = (unsigned char) a;
        one += test_utf8(s, 1);

        if (a < 0x80) {
            continue;
        }

        for (b = 0; b < 256; b++) {
            s[1] = (unsigned char) b;
            two += test_utf8(s, 2);

            s[2] = 0x80;
            s[3] = 0xbf;
            four += test_utf8(s, 4);

            for (c = 0; c < 256; c++) {
                s[2] = (unsigned char) c;
                three += test_utf8(s, 3) && !test_utf8(s, 2);
            }
        }
    }

    assert_int_equal(one, 0x7f);
    assert_int_equal(two, 0x800 - 0x80);
    assert_int_equal(three, 0x10000 - 0x800 - 0x800);

    /* 16 supplementary planes; of each 64 times 64 sequences one */

    assert_int_equal(four, 0x100000 / 64 / 64);
}


static void
test_utf8_ends(void **state)
{
    size_t  i;

    static const unsigned char  text[] = "a\xe6\x94\xaf\xf0\x9f\x98\x80z";

    (void) state;

    for (i = 0; i < sizeof(text); i++) {
        assert_int_equal(test_utf8(text, i),
                         i == 0 || i == 1 || i == 4 || i == 8 || i == 9);
    }

    assert_int_equal(test_utf8(text, sizeof(text)), 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_utf8_counts),
        cmocka_unit_test(test_utf8_ends)
    };

    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}

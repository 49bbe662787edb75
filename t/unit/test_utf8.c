
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


/* What is plain at any place in eight bytes and more, and what is not. */

static void
test_utf8_plain(void **state)
{
    size_t           i, j, len;
    unsigned char   *p;
    wechatpay_str_t  text;

    static const struct {
        const char  *text;
        size_t       len;
        int          plain;
    } texts[] = {
        { "\n", 1, 1 }, { " ", 1, 1 }, { "\177", 1, 1 }, { "]", 1, 1 },
        { "\302\200", 2, 1 }, { "\346\224\257", 3, 1 },
        { "\357\277\275", 3, 1 }, { "\356\277\277", 3, 1 },
        { "\360\237\277\276", 4, 1 },

        { "\0", 1, 0 }, { "\1", 1, 0 }, { "\t", 1, 0 }, { "\r", 1, 0 },
        { "\37", 1, 0 }, { "\200", 1, 0 }, { "\377", 1, 0 },
        { "\300\200", 2, 0 }, { "\346\224", 2, 0 },
        { "\355\240\200", 3, 0 }, { "\357\277\276", 3, 0 },
        { "\357\277\277", 3, 0 }, { "\364\220\200\200", 4, 0 },
        { "\360\237\277a", 4, 0 }
    };

    (void) state;

    for (i = 0; i < test_count(texts); i++) {

        for (j = 0; j < 20; j++) {
            len = texts[i].len;

            p = malloc(20 + len);
            assert_non_null(p);

            memset(p, 'a', 20 + len);
            memcpy(p + j, texts[i].text, len);

            text.data = p;
            text.len = 20 + len;
            assert_int_equal(wechatpay_utf8_plain(text), texts[i].plain);

            text.len = j + len;
            assert_int_equal(wechatpay_utf8_plain(text), texts[i].plain);

            free(p);
        }
    }
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
        cmocka_unit_test(test_utf8_plain),
        cmocka_unit_test(test_utf8_ends)
    };

    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}


/*
 * Copyright (C) the refund-notify authors
 *
 * Does the time that a sign takes to be refused tell how much of it is right?
 * Signs of two classes, wrong in the first character and in the last one, by a
 * coin, are verified and timed; Welch's t-test says whether the two classes
 * differ, of all times and of the quicker ones only, for a slow one tells of
 * the machine.  The same code with a comparison that ends at the first
 * difference, which the linker puts in, has to be found out: else nothing is
 * proved.  The two take turns, so that the machine is to both what it is to one.
 */


#include <math.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "wechatpay_merchant.h"
#include "wechatpay_v2_sign.h"


#define TIMING_AGREE    2               /* rounds of at most three */
#define TIMING_LIMIT    10.0            /* dudect's "definitely not" */
#define TIMING_STRICT   4.5             /* dudect's "probably not" */
#define TIMING_MANY     1000000         /* samples from which that is asked */
#define TIMING_CROPS    5
#define TIMING_FIRST    20000           /* samples that say what is slow */
#define TIMING_MCH_ID   "1900000109"
#define TIMING_KEY      "0123456789abcdefghijKLMNOPQRSTUV"
#define TIMING_FIELDS   4


typedef struct {
    double                  n;
    double                  mean;
    double                  m2;         /* squares of what is off the mean */
} timing_class_t;


typedef struct {
    uint64_t                limit;      /* what took longer does not count */
    timing_class_t          classes[2];
} timing_crop_t;


typedef struct {
    size_t                  n;
    uint64_t                first[TIMING_FIRST];
    timing_crop_t           crops[TIMING_CROPS];
} timing_test_t;


int __real_CRYPTO_memcmp(const void *a, const void *b, size_t len);
int __wrap_CRYPTO_memcmp(const void *a, const void *b, size_t len);

static void *timing_alloc(void *data, size_t size);
static wechatpay_str_t timing_str(const char *text);
static void timing_run(const wechatpay_merchant_t *merchant, size_t samples,
    double t[2]);
static void timing_sample(timing_test_t *test, unsigned class,
    uint64_t cycles);
static double timing_result(const timing_test_t *test);
static uint64_t timing_now(void);
static int timing_compare(const void *one, const void *two);


static int                 timing_leaks;
static _Alignas(16) char   timing_memory[4096];
static size_t              timing_used;
static timing_test_t       timing_tests[2];


int
__wrap_CRYPTO_memcmp(const void *a, const void *b, size_t len)
{
    size_t                         i;
    const volatile unsigned char  *p = a, *q = b;

    if (!timing_leaks) {
        return __real_CRYPTO_memcmp(a, b, len);
    }

    for (i = 0; i < len; i++) {
        if (p[i] != q[i]) {
            return 1;
        }
    }

    return 0;
}


int
main(int argc, char **argv)
{
    int                    failed;
    long                   samples;
    double                 limit, t[2];
    unsigned               i, right, agree[2];
    wechatpay_merchant_t  *merchant;

    static const struct {
        const char                *name;
        wechatpay_v2_sign_type_e   type;
    } types[] = {
        { "MD5", WECHATPAY_SIGN_MD5 },
        { "HMAC-SHA256", WECHATPAY_SIGN_HMAC_SHA256 }
    };

    samples = argc == 2 ? atol(argv[1]) : 0;

    if (samples < TIMING_FIRST * 2) {
        fprintf(stderr, "usage: %s samples, at least %d\n", argv[0],
                TIMING_FIRST * 2);
        return 2;
    }

    merchant = wechatpay_merchant_create();

    if (merchant == NULL
        || wechatpay_merchant_set_mch_id(merchant, timing_str(TIMING_MCH_ID))
        || wechatpay_merchant_add_v2_key(merchant, timing_str(TIMING_KEY)))
    {
        return 2;
    }

    failed = 0;
    limit = samples < TIMING_MANY ? TIMING_LIMIT : TIMING_STRICT;

    for (i = 0; i < 2; i++) {
        wechatpay_merchant_set_v2_sign_type(merchant, types[i].type);

        /*
         * What the machine does in one round it need not do in another, and a
         * leak is there in most of them: what two rounds say.
         */

        agree[0] = 0;
        agree[1] = 0;

        do {
            timing_run(merchant, (size_t) samples, t);

            printf("%-12s |t| of %ld samples: %8.2f (below %.1f: no"
                   " difference), of a comparison that leaks: %8.2f\n",
                   types[i].name, samples, t[0], limit, t[1]);

            right = t[0] < limit && t[1] >= TIMING_LIMIT;

        } while (++agree[right] < TIMING_AGREE);

        failed |= !right;
    }

    wechatpay_merchant_destroy(merchant);

    printf("timing: %s\n", failed ? "FAILED" : "passed");

    return failed;
}


static void *
timing_alloc(void *data, size_t size)
{
    void  *p;

    (void) data;

    p = timing_memory + timing_used;
    timing_used += (size + 15) / 16 * 16;

    return timing_used <= sizeof(timing_memory) ? p : NULL;
}


static wechatpay_str_t
timing_str(const char *text)
{
    wechatpay_str_t  str;

    str.data = (const unsigned char *) text;
    str.len = strlen(text);

    return str;
}


static void
timing_run(const wechatpay_merchant_t *merchant, size_t samples, double t[2])
{
    int                     rc;
    size_t                  i, len;
    uint32_t                random;
    uint64_t                begin, cycles;
    unsigned                leaks, class;
    unsigned char           right[WECHATPAY_V2_SIGN_MAX_LEN];
    unsigned char           sign[WECHATPAY_V2_SIGN_MAX_LEN];
    unsigned char           wrong[2][WECHATPAY_V2_SIGN_MAX_LEN];
    wechatpay_memory_t      memory;
    wechatpay_xml_field_t   fields[TIMING_FIELDS];

    memory.alloc = timing_alloc;
    memory.data = NULL;

    fields[0].name = timing_str("mch_id");
    fields[0].value = timing_str(TIMING_MCH_ID);
    fields[1].name = timing_str("refund_id");
    fields[1].value = timing_str("50300408942018111907145868882");
    fields[2].name = timing_str("return_code");
    fields[2].value = timing_str("SUCCESS");
    fields[3].name = timing_str("sign");

    timing_used = 0;

    if (wechatpay_v2_sign(merchant, fields, 3, &memory, right, &len) != 0) {
        abort();
    }

    /* both differ in one character: only where they do is not the same */

    for (class = 0; class < 2; class++) {
        i = class ? len - 1 : 0;
        memcpy(wrong[class], right, len);
        wrong[class][i] = right[i] == 'x' ? 'y' : 'x';
    }

    fields[3].value.data = sign;
    fields[3].value.len = len;

    memset(timing_tests, 0, sizeof(timing_tests));
    random = 2463534242;

    for (i = 0; i < samples * 2; i++) {
        leaks = i % 2;

        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        class = random >> 31;

        /* from one place, so that no cache knows them apart */

        memcpy(sign, wrong[class], len);
        timing_used = 0;
        timing_leaks = (int) leaks;

        begin = timing_now();
        rc = wechatpay_v2_sign_verify(merchant, fields, TIMING_FIELDS,
                                      &memory);
        cycles = timing_now() - begin;

        if (rc == 0) {
            abort();
        }

        timing_sample(&timing_tests[leaks], class, cycles);
    }

    t[0] = timing_result(&timing_tests[0]);
    t[1] = timing_result(&timing_tests[1]);
}


static void
timing_sample(timing_test_t *test, unsigned class, uint64_t cycles)
{
    double           delta;
    unsigned         i;
    timing_class_t  *c;

    static const double  quantiles[TIMING_CROPS] = { 0.25, 0.5, 0.75, 0.9, 1 };

    if (test->n < TIMING_FIRST) {
        test->first[test->n++] = cycles;

        if (test->n == TIMING_FIRST) {
            qsort(test->first, TIMING_FIRST, sizeof(uint64_t),
                  timing_compare);

            for (i = 0; i < TIMING_CROPS; i++) {
                test->crops[i].limit = quantiles[i] < 1
                    ? test->first[(size_t) (quantiles[i] * TIMING_FIRST)]
                    : UINT64_MAX;
            }
        }

        return;
    }

    /* Welford's */

    for (i = 0; i < TIMING_CROPS; i++) {

        if (cycles > test->crops[i].limit) {
            continue;
        }

        c = &test->crops[i].classes[class];
        delta = (double) cycles - c->mean;

        c->n++;
        c->mean += delta / c->n;
        c->m2 += delta * ((double) cycles - c->mean);
    }
}


/* The largest |t|, whatever was left out. */

static double
timing_result(const timing_test_t *test)
{
    double                 t, max, variance;
    unsigned               i;
    const timing_class_t  *a, *b;

    max = 0;

    for (i = 0; i < TIMING_CROPS; i++) {
        a = &test->crops[i].classes[0];
        b = &test->crops[i].classes[1];

        if (a->n < 1000 || b->n < 1000) {
            continue;
        }

        variance = a->m2 / (a->n - 1) / a->n + b->m2 / (b->n - 1) / b->n;
        t = variance > 0 ? fabs(a->mean - b->mean) / sqrt(variance) : 0;
        max = fmax(max, t);
    }

    return max;
}


/* Cycles, or where there is no counter of them, nanoseconds. */

static uint64_t
timing_now(void)
{
#if defined(__x86_64__)
    unsigned  aux;

    return __builtin_ia32_rdtscp(&aux);
#else
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
#endif
}


static int
timing_compare(const void *one, const void *two)
{
    const uint64_t  *a = one, *b = two;

    return (*a > *b) - (*a < *b);
}

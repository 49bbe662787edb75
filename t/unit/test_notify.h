
/*
 * Copyright (C) the refund-notify authors
 *
 * What the tests of notifies share: memory that can be made to run out, the
 * vectors that vectors.pl makes, and the way one of them is run.
 */


#ifndef TEST_NOTIFY_H
#define TEST_NOTIFY_H


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wechatpay_event.h"
#include "wechatpay_notify.h"


#define test_count(array)  (sizeof(array) / sizeof((array)[0]))


/*
 * Each piece is one of malloc(), so that the sanitizers see its bounds.  The
 * allocation after left others fails; left < 0: none does.
 */

typedef struct {
    void                *pieces[4096];
    size_t               npieces;
    long                 left;
    wechatpay_memory_t   memory;
} test_memory_t;

void test_memory_init(test_memory_t *memory, long left);
void test_memory_free(test_memory_t *memory);


typedef struct {
    const char          *id;
    const char          *pem;
} test_public_key_t;

typedef struct {
    const char          *name;
    const char          *mch_id;
    const char          *app_ids[4];
    const char          *sub_mch_ids[4];
    const char          *v2_keys[4];
    const char          *certificates[4];
    wechatpay_str_t      v3_keys[4];
    test_public_key_t    public_keys[4];
} test_merchant_t;


typedef struct {
    wechatpay_str_t      name;
    wechatpay_str_t      value;
} test_header_t;

typedef struct {
    const char          *name;
    wechatpay_version_e  version;
    const char          *merchant;
    wechatpay_error_e    error;
    wechatpay_str_t      body;
    size_t               padding;       /* spaces behind the body */
    test_header_t        headers[16];
    wechatpay_str_t      json;
} test_vector_t;


size_t test_vector_count(void);
const test_vector_t *test_vector(size_t i);
const test_vector_t *test_vector_find(const char *name);
time_t test_now(void);


/* A span of a literal, or of other text that ends with a NUL. */

wechatpay_str_t test_str(const char *text);


/* A merchant with all that the vectors' merchant of that name has. */

wechatpay_merchant_t *test_merchant(const char *name);


/* All of a notify, down to the event's JSON, which is empty on an error. */

wechatpay_error_e test_run(const test_vector_t *vector,
    wechatpay_merchant_t *merchant, test_memory_t *memory,
    wechatpay_str_t *json);


/* Runs the vectors of a version, and says which one failed. */

void test_vectors_run(wechatpay_version_e version);


#endif /* TEST_NOTIFY_H */

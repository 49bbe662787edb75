
/*
 * Copyright (C) the refund-notify authors
 *
 * What the tests of requests, calls and answers share: the vectors that
 * outbound_vectors.pl makes, and their merchants.
 */


#ifndef TEST_OUTBOUND_H
#define TEST_OUTBOUND_H


#include "test_notify.h"
#include "wechatpay_answer.h"
#include "wechatpay_call.h"


typedef struct {
    const char           *name;
    wechatpay_version_e   version;
    const char           *merchant;
    wechatpay_call_e      call;
    wechatpay_str_t       refund_id;        /* of the abnormal refund's path */
    wechatpay_str_t       body;
    wechatpay_query_t     query;
    wechatpay_str_t       notify_url;

    const char           *code;             /* "": it is right */
    wechatpay_str_t       field;
    const char           *message;          /* "": any */
    wechatpay_str_t       json;             /* len 0: any */
} test_request_t;

typedef struct {
    test_request_t        request;
    const char           *method;
    wechatpay_str_t       path;
    wechatpay_str_t       args;
    wechatpay_str_t       target;
    wechatpay_str_t       body;
    wechatpay_str_t       authorization;
} test_call_t;

typedef struct {
    test_request_t        request;
    unsigned              status;           /* HTTP */
    wechatpay_str_t       body;
    test_header_t         headers[8];
    unsigned              http;             /* of our answer; 0: any */
    wechatpay_str_t       json;
    wechatpay_str_t       event;            /* len 0: none */
} test_answer_t;


size_t test_request_count(void);
const test_request_t *test_request(size_t i);

size_t test_call_count(void);
const test_call_t *test_call(size_t i);

size_t test_answer_count(void);
const test_answer_t *test_answer(size_t i);


/*
 * "shop", and "md5", whose api_v2_sign_type that is; service providers: "list"
 * of some sub-merchants, "provider" of any.
 */

wechatpay_merchant_t *test_outbound_merchant(const char *name);


/* As wechatpay_request_create() and its like; the body is a copy, and gone. */

int test_request_run(const test_request_t *vector,
    wechatpay_merchant_t *merchant, test_memory_t *memory,
    wechatpay_request_t *request, wechatpay_failure_t *failure);


/* Of the key that secrets are encrypted to. */

const char *test_outbound_private_key(void);


/* The merchant's own. */

const char *test_outbound_certificate(void);
const char *test_outbound_key(void);



time_t test_outbound_now(void);
wechatpay_str_t test_outbound_nonce(void);
wechatpay_str_t test_outbound_serial(void);


#endif /* TEST_OUTBOUND_H */

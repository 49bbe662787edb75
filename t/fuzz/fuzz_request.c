
/*
 * Copyright (C) the refund-notify authors
 *
 * The input is taken as what a business app sends: the body of a create and of
 * an abnormal refund, and the ids of a query, under each version.  Whatever is
 * taken has to become a call that says the same.  A signature of RSA takes as
 * long as hundreds of other runs, so that the linker puts a function in the
 * place of EVP_PKEY_sign() that signs nothing, and one in the place of
 * EVP_PKEY_verify() that takes it.
 */


#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "fuzz.h"
#include "wechatpay_call.h"
#include "wechatpay_json.h"
#include "wechatpay_xml.h"


#define FUZZ_SIZE  256


int __wrap_EVP_PKEY_sign(EVP_PKEY_CTX *ctx, unsigned char *sig,
    size_t *siglen, const unsigned char *tbs, size_t tbslen);
int __wrap_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig,
    size_t siglen, const unsigned char *tbs, size_t tbslen);

static void fuzz_request_query(wechatpay_str_t text, wechatpay_query_t *query);
static void fuzz_request_failed(const wechatpay_failure_t *failure);
static void fuzz_request_call(const wechatpay_request_t *request,
    fuzz_memory_t *memory);
static void fuzz_request_xml(const wechatpay_request_t *request,
    wechatpay_str_t body, fuzz_memory_t *memory);


static wechatpay_merchant_t    *fuzz_shop;
static wechatpay_xml_parser_t  *fuzz_parser;


int
__wrap_EVP_PKEY_sign(EVP_PKEY_CTX *ctx, unsigned char *sig, size_t *siglen,
    const unsigned char *tbs, size_t tbslen)
{
    (void) ctx;
    (void) tbs;

    fuzz_assert(tbslen == 32);
    fuzz_assert(sig == NULL || *siglen >= FUZZ_SIZE);

    if (sig != NULL) {
        memset(sig, 's', FUZZ_SIZE);
    }

    *siglen = FUZZ_SIZE;

    return 1;
}


int
__wrap_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig,
    size_t siglen, const unsigned char *tbs, size_t tbslen)
{
    (void) ctx;
    (void) tbs;

    fuzz_assert(tbslen == 32);
    fuzz_assert(siglen == FUZZ_SIZE);
    fuzz_assert(sig[0] == 's' && sig[FUZZ_SIZE - 1] == 's');

    return 1;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned              version;
    fuzz_memory_t         memory;
    wechatpay_str_t       body, notify_url;
    wechatpay_query_t     query;
    wechatpay_failure_t   failure;
    wechatpay_request_t   request;

    if (fuzz_shop == NULL) {
        fuzz_parser = wechatpay_xml_parser_create();
        fuzz_shop = fuzz_merchant();
        fuzz_outbound(fuzz_shop);
    }

    body.data = data;
    body.len = size;

    notify_url = fuzz_str("https://pay.example.com/");

    fuzz_request_query(body, &query);

    for (version = WECHATPAY_V2; version <= WECHATPAY_V3; version++) {
        fuzz_memory_init(&memory);

        if (wechatpay_request_create(fuzz_shop, version, body, notify_url,
                                     &memory.memory, &request, &failure)
            == 0)
        {
            fuzz_assert(request.refund >= 1);
            fuzz_assert(request.refund <= request.total);
            fuzz_assert((request.transaction_id.len != 0)
                        != (request.out_trade_no.len != 0));
            fuzz_request_call(&request, &memory);

        } else {
            fuzz_request_failed(&failure);
        }

        if (wechatpay_request_abnormal(fuzz_shop, version, fuzz_str("5"),
                                       body, &memory.memory, &request,
                                       &failure)
            == 0)
        {
            fuzz_assert(version == WECHATPAY_V3);
            fuzz_request_call(&request, &memory);

        } else {
            fuzz_request_failed(&failure);
        }

        if (wechatpay_request_query(fuzz_shop, version, &query,
                                    &memory.memory, &request, &failure)
            == 0)
        {
            fuzz_request_call(&request, &memory);

        } else {
            fuzz_request_failed(&failure);
        }

        fuzz_memory_free(&memory);
    }

    return 0;
}


/* A line each, or one that is out_refund_no. */

static void
fuzz_request_query(wechatpay_str_t text, wechatpay_query_t *query)
{
    size_t                 i;
    wechatpay_str_t       *values[6];
    const unsigned char   *lf;

    memset(query, 0, sizeof(wechatpay_query_t));

    values[0] = &query->out_refund_no;
    values[1] = &query->sub_mch_id;
    values[2] = &query->refund_id;
    values[3] = &query->transaction_id;
    values[4] = &query->out_trade_no;
    values[5] = &query->offset;

    for (i = 0; i < 6 && text.len != 0; i++) {
        lf = memchr(text.data, '\n', text.len);

        values[i]->data = text.data;
        values[i]->len = lf ? (size_t) (lf - text.data) : text.len;

        text.len -= values[i]->len + (lf != NULL);
        text.data += values[i]->len + (lf != NULL);
    }
}


/* A field is named, but the caller's own text never goes further than that. */

static void
fuzz_request_failed(const wechatpay_failure_t *failure)
{
    fuzz_assert(failure->outcome == WECHATPAY_REJECTED);
    fuzz_assert(failure->status >= 400 && failure->status < 500);
    fuzz_assert(failure->provider_code.len == 0);
    fuzz_assert(failure->field.len <= 128);
}


static void
fuzz_request_call(const wechatpay_request_t *request, fuzz_memory_t *memory)
{
    size_t             i;
    json_t            *object;
    unsigned char      digest[WECHATPAY_REQUEST_DIGEST_LEN];
    wechatpay_call_t   call;

    fuzz_assert(request->out_refund_no.len <= 64);
    fuzz_assert(request->out_refund_no.len != 0
                || (request->version == WECHATPAY_V2
                    && request->call == WECHATPAY_CALL_QUERY));
    fuzz_assert(wechatpay_request_digest(request, digest) == 0);

    fuzz_assert(wechatpay_call_prepare(fuzz_shop, request, 1554208460,
                                       fuzz_str(""), &memory->memory, &call)
                == 0);
    fuzz_assert(wechatpay_call_sign(&call) == 0);

    /* nothing in the request line and the headers but what they may hold */

    for (i = 0; i < call.target.len; i++) {
        fuzz_assert(call.target.data[i] > 0x20 && call.target.data[i] < 0x7f);
        fuzz_assert(call.target.data[i] != '|' && call.target.data[i] != '#');
    }

    for (i = 0; i < call.authorization.len; i++) {
        fuzz_assert(call.authorization.data[i] >= 0x20
                    && call.authorization.data[i] < 0x7f);
    }

    if (request->version == WECHATPAY_V2) {
        fuzz_request_xml(request, call.body, memory);
        return;
    }

    if (call.body.len != 0) {
        fuzz_assert(wechatpay_json_parse(call.body, &object) == WECHATPAY_OK);
        fuzz_assert(wechatpay_str_equal(wechatpay_json_get(object,
                                                           "out_refund_no"),
                                        request->out_refund_no));
        fuzz_assert(json_object_get(object, "sub_mch_id") == NULL);
        json_decref(object);
    }
}


static void
fuzz_request_xml(const wechatpay_request_t *request, wechatpay_str_t body,
    fuzz_memory_t *memory)
{
    wechatpay_xml_t  xml;

    xml.fields = NULL;
    xml.max = 0;

    fuzz_assert(wechatpay_xml_parse(fuzz_parser, body, &memory->memory, &xml)
                == WECHATPAY_OK);
    fuzz_assert(wechatpay_str_equal(wechatpay_xml_get(&xml, "out_refund_no"),
                                    request->out_refund_no));
    fuzz_assert(wechatpay_str_equal(wechatpay_xml_get(&xml, "refund_desc"),
                                    request->reason));
    fuzz_assert(wechatpay_xml_get(&xml, "sign").len == 64);
}

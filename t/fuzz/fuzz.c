
/*
 * Copyright (C) the refund-notify authors
 */


#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "fuzz.h"
#include "wechatpay_json.h"


static wechatpay_merchant_t *fuzz_merchant_of(const char *sub_mch_id);
static wechatpay_str_t fuzz_pem(BIO *bio);
static void fuzz_answer_check(const wechatpay_answer_t *answer,
    fuzz_memory_t *memory);


static void *
fuzz_memory_alloc(void *data, size_t size)
{
    void           *p;
    fuzz_memory_t  *memory = data;

    p = malloc(size);

    fuzz_assert(p != NULL);
    fuzz_assert(memory->npieces
                < sizeof(memory->pieces) / sizeof(memory->pieces[0]));

    memory->pieces[memory->npieces++] = p;

    return p;
}


void
fuzz_memory_init(fuzz_memory_t *memory)
{
    memory->npieces = 0;
    memory->memory.alloc = fuzz_memory_alloc;
    memory->memory.data = memory;
}


void
fuzz_memory_free(fuzz_memory_t *memory)
{
    while (memory->npieces != 0) {
        free(memory->pieces[--memory->npieces]);
    }
}


wechatpay_str_t
fuzz_str(const char *text)
{
    wechatpay_str_t  str;

    str.data = (const unsigned char *) text;
    str.len = strlen(text);

    return str;
}


wechatpay_merchant_t *
fuzz_merchant(void)
{
    return fuzz_merchant_of("*");
}


wechatpay_merchant_t *
fuzz_limited_merchant(void)
{
    wechatpay_merchant_t  *merchant;

    merchant = fuzz_merchant_of(FUZZ_SUB_MCH_ID);

    fuzz_assert(wechatpay_merchant_add_app_id(merchant, fuzz_str(FUZZ_APP_ID))
                == NULL);

    return merchant;
}


static wechatpay_merchant_t *
fuzz_merchant_of(const char *sub_mch_id)
{
    wechatpay_merchant_t  *merchant;

    merchant = wechatpay_merchant_create();

    fuzz_assert(merchant != NULL);
    fuzz_assert(wechatpay_merchant_set_mch_id(merchant, fuzz_str(FUZZ_MCH_ID))
                == NULL);
    fuzz_assert(wechatpay_merchant_add_sub_mch_id(merchant,
                                                  fuzz_str(sub_mch_id))
                == NULL);
    fuzz_assert(wechatpay_merchant_add_v2_key(merchant, fuzz_str(FUZZ_KEY))
                == NULL);
    fuzz_assert(wechatpay_merchant_add_v3_key(merchant, fuzz_str(FUZZ_KEY))
                == NULL);

    return merchant;
}


wechatpay_error_e
fuzz_limited(const wechatpay_refund_t *refund)
{
    if (refund->app_id.len != 0
        && !wechatpay_str_equal(refund->app_id, fuzz_str(FUZZ_APP_ID)))
    {
        return WECHATPAY_ERROR_APP_ID_MISMATCH;
    }

    if (refund->sub_mch_id.len != 0
        && !wechatpay_str_equal(refund->sub_mch_id,
                                fuzz_str(FUZZ_SUB_MCH_ID)))
    {
        return WECHATPAY_ERROR_SUB_MCH_ID_MISMATCH;
    }

    return WECHATPAY_OK;
}


wechatpay_str_t
fuzz_base64(const unsigned char *data, size_t size, fuzz_memory_t *memory)
{
    unsigned char    *p;
    wechatpay_str_t   text;

    p = memory->memory.alloc(memory, (size + 2) / 3 * 4 + 1);

    text.data = p;
    text.len = (size_t) EVP_EncodeBlock(p, data, (int) size);

    return text;
}


void
fuzz_check(const wechatpay_refund_t *refund, fuzz_memory_t *memory)
{
    size_t           i;
    json_t          *event, *data;
    json_error_t     error;
    wechatpay_str_t  id, json;

    fuzz_assert(refund->status <= WECHATPAY_REFUND_CLOSED);
    fuzz_assert(wechatpay_str_equal(refund->mch_id, fuzz_str(FUZZ_MCH_ID)));
    fuzz_assert(refund->amount.total >= 0);
    fuzz_assert(refund->amount.refund >= 0);
    fuzz_assert(refund->refund_id.len >= 1 && refund->refund_id.len <= 64);

    fuzz_assert(wechatpay_event_id(refund, &memory->memory, &id)
                == WECHATPAY_OK);
    fuzz_assert(id.len <= WECHATPAY_EVENT_ID_MAX_LEN);

    for (i = 0; i < id.len; i++) {
        fuzz_assert(id.data[i] > 0x20 && id.data[i] < 0x7f);
        fuzz_assert(id.data[i] != '{' && id.data[i] != '}');
    }

    fuzz_assert(wechatpay_event_json(refund, id, fuzz_str("shop"), 1528425296,
                                     &memory->memory, &json)
                == WECHATPAY_OK);

    event = json_loadb((const char *) json.data, json.len,
                       JSON_REJECT_DUPLICATES, &error);

    fuzz_assert(event != NULL);
    fuzz_assert(json_object_size(event) == 7);
    fuzz_assert(wechatpay_str_equal(wechatpay_json_get(event, "id"), id));
    fuzz_assert(wechatpay_json_get(event, "timestamp").len != 0);

    data = json_object_get(event, "data");

    fuzz_assert(wechatpay_str_equal(wechatpay_json_get(data, "refund_id"),
                                    refund->refund_id));
    fuzz_assert(wechatpay_str_equal(wechatpay_json_get(data, "out_refund_no"),
                                    refund->out_refund_no));
    fuzz_assert(json_integer_value(json_object_get(
                                json_object_get(data, "amount"), "refund"))
                == refund->amount.refund);

    json_decref(event);
}


void
fuzz_outbound(wechatpay_merchant_t *merchant)
{
    BIO       *bio;
    X509      *x509;
    time_t     from, to;
    EVP_PKEY  *key;

    key = EVP_RSA_gen(2048);
    x509 = X509_new();
    bio = BIO_new(BIO_s_mem());

    fuzz_assert(key != NULL && x509 != NULL && bio != NULL);
    fuzz_assert(ASN1_INTEGER_set(X509_get_serialNumber(x509), 1));
    fuzz_assert(X509_gmtime_adj(X509_getm_notBefore(x509), 0));
    fuzz_assert(X509_gmtime_adj(X509_getm_notAfter(x509), 86400));
    fuzz_assert(X509_set_pubkey(x509, key));
    fuzz_assert(X509_sign(x509, key, EVP_sha256()));

    fuzz_assert(wechatpay_merchant_add_app_id(merchant, fuzz_str(FUZZ_APP_ID))
                == NULL);

    fuzz_assert(wechatpay_merchant_add_public_key(merchant,
                                                  fuzz_str(FUZZ_SERIAL),
                                                  fuzz_str(FUZZ_PUBLIC_KEY))
                == NULL);

    fuzz_assert(PEM_write_bio_X509(bio, x509));
    fuzz_assert(wechatpay_merchant_set_certificate(merchant, fuzz_pem(bio),
                                                   &from, &to)
                == NULL);

    (void) BIO_reset(bio);
    fuzz_assert(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL));
    fuzz_assert(wechatpay_merchant_set_key(merchant, fuzz_pem(bio)) == NULL);

    BIO_free(bio);
    X509_free(x509);
    EVP_PKEY_free(key);
}


void
fuzz_answer(wechatpay_parser_t *parser, wechatpay_merchant_t *merchant,
    wechatpay_version_e version, wechatpay_call_e call,
    const wechatpay_response_t *response, fuzz_memory_t *memory,
    wechatpay_answer_t *answer)
{
    wechatpay_request_t  request;

    memset(&request, 0, sizeof(wechatpay_request_t));

    request.version = version;
    request.call = call;
    request.out_refund_no = fuzz_str("1");

    if (call == WECHATPAY_CALL_ABNORMAL) {
        request.refund_id = fuzz_str("5");
    }

    wechatpay_answer(parser, merchant, &request, response, &memory->memory,
                     answer);

    if (answer->outcome == WECHATPAY_ACCEPTED) {
        fuzz_assert(!answer->list);
        fuzz_assert(answer->nrefunds == 1);
        fuzz_assert(wechatpay_str_equal(answer->refunds[0].out_refund_no,
                                        request.out_refund_no));
    }

    fuzz_answer_check(answer, memory);
}


void
fuzz_answer_order(wechatpay_parser_t *parser, wechatpay_merchant_t *merchant,
    const wechatpay_response_t *response, fuzz_memory_t *memory,
    wechatpay_answer_t *answer)
{
    wechatpay_request_t  request;

    memset(&request, 0, sizeof(wechatpay_request_t));

    request.version = WECHATPAY_V2;
    request.call = WECHATPAY_CALL_QUERY;
    request.out_trade_no = fuzz_str("1");

    wechatpay_answer(parser, merchant, &request, response, &memory->memory,
                     answer);

    fuzz_answer_check(answer, memory);
}


static void
fuzz_answer_check(const wechatpay_answer_t *answer, fuzz_memory_t *memory)
{
    size_t               i;
    json_t              *object, *data;
    json_error_t         error;
    wechatpay_str_t      json;
    wechatpay_refund_t   event;

    fuzz_assert(wechatpay_answer_json(answer, fuzz_str("shop"),
                                      &memory->memory, &json)
                == WECHATPAY_OK);

    object = json_loadb((const char *) json.data, json.len,
                        JSON_REJECT_DUPLICATES, &error);

    fuzz_assert(object != NULL);
    fuzz_assert(wechatpay_str_equal(wechatpay_json_get(object, "outcome"),
                                    wechatpay_outcome_word(answer->outcome)));

    if (answer->outcome != WECHATPAY_ACCEPTED) {
        fuzz_assert(answer->nrefunds == 0);
        fuzz_assert(wechatpay_json_get(json_object_get(object, "error"),
                                       "code").len
                    != 0);
        json_decref(object);
        return;
    }

    data = json_object_get(object, "data");

    if (answer->list) {
        fuzz_assert(json_array_size(json_object_get(data, "refunds"))
                    == answer->nrefunds);
    }

    json_decref(object);

    for (i = 0; i < answer->nrefunds; i++) {
        if (wechatpay_answer_event(&answer->refunds[i], &event)
            && event.amount.total != WECHATPAY_AMOUNT_ABSENT)
        {
            fuzz_check(&event, memory);
        }
    }
}


static wechatpay_str_t
fuzz_pem(BIO *bio)
{
    char             *pem;
    wechatpay_str_t   text;

    text.len = (size_t) BIO_get_mem_data(bio, &pem);
    text.data = (unsigned char *) pem;

    return text;
}

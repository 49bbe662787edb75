
/*
 * Copyright (C) the refund-notify authors
 *
 * What the fuzz targets share.
 */


#ifndef FUZZ_H
#define FUZZ_H


#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "wechatpay_answer.h"
#include "wechatpay_event.h"
#include "wechatpay_notify.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/* What must hold for any input: else the fuzzer reports the input. */

#define fuzz_assert(condition)                                                \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);   \
            abort();                                                          \
        }                                                                     \
    } while (0)


#define FUZZ_KEY         "0123456789abcdefghijKLMNOPQRSTUV"
#define FUZZ_MCH_ID      "1900000109"
#define FUZZ_SUB_MCH_ID  "1900000110"
#define FUZZ_APP_ID      "wxd930ea5d5a258f4f"
#define FUZZ_SERIAL      "PUB_KEY_ID_0119000001092024070100000000000001"


/*
 * A key for this test only, whose private half nobody has kept: the same in
 * each run, so that an input that fails fails again.
 */

#define FUZZ_PUBLIC_KEY                                                       \
    "-----BEGIN PUBLIC KEY-----\n"                                            \
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu9ek8pK9FugvApCy1jvC\n"      \
    "7pyoemFe9M/jk+UF6LOUxFmKNTygOigFu91DiqM2VDeGyS2ID8rbOqzsOQDH2Lip\n"      \
    "eXTv639aVpc5D4KZdQ4anT3G6I2XbYYz0JgKRPnu8jDv8xHaI9m1Z70jqNYPjAWw\n"      \
    "6h3ZAWs3E5ekj9IrlwBgOpAlMjfoI1wnddab6Ia1fOvDL1X+jgG0PD88QMfjzTE9\n"      \
    "+qL1VrjRjytp/M6qT21zzr1TBU7fVLV7tFCINXUIJD5S8E+bEIc40AgkmluvAN5g\n"      \
    "2kRODxw9Mddk/hTfb4Z3sGkL95dETga4dkkJLOG8ezdDdCB1c3pAkAFnb+PT+229\n"      \
    "SQIDAQAB\n"                                                              \
    "-----END PUBLIC KEY-----\n"


/* Pieces of malloc(), so that the sanitizers see the bounds of each. */

typedef struct {
    void                *pieces[4096];
    size_t               npieces;
    wechatpay_memory_t   memory;
} fuzz_memory_t;

void fuzz_memory_init(fuzz_memory_t *memory);
void fuzz_memory_free(fuzz_memory_t *memory);


wechatpay_str_t fuzz_str(const char *text);


/* A merchant with both keys FUZZ_KEY, and any sub-merchant. */

wechatpay_merchant_t *fuzz_merchant(void);


/* The same with one sub-merchant, FUZZ_SUB_MCH_ID, and one app_id. */

wechatpay_merchant_t *fuzz_limited_merchant(void);


/* What such a merchant has to make of what the other one took as refund. */

wechatpay_error_e fuzz_limited(const wechatpay_refund_t *refund);


/* Adds what calls need: an app_id, a certificate and its key, a public key. */

void fuzz_outbound(wechatpay_merchant_t *merchant);


/*
 * Takes an answer to a call about the refund "5" and out_refund_no "1", of any
 * sub-merchant; or to a query by out_trade_no "1"; and checks what it becomes.
 */

void fuzz_answer(wechatpay_parser_t *parser, wechatpay_merchant_t *merchant,
    wechatpay_version_e version, wechatpay_call_e call,
    const wechatpay_response_t *response, fuzz_memory_t *memory,
    wechatpay_answer_t *answer);
void fuzz_answer_order(wechatpay_parser_t *parser,
    wechatpay_merchant_t *merchant, const wechatpay_response_t *response,
    fuzz_memory_t *memory, wechatpay_answer_t *answer);


/* The encoding in base64 of size bytes, in memory. */

wechatpay_str_t fuzz_base64(const unsigned char *data, size_t size,
    fuzz_memory_t *memory);


/* That a refund, and the event made of it, is as the documents say. */

void fuzz_check(const wechatpay_refund_t *refund, fuzz_memory_t *memory);


#endif /* FUZZ_H */

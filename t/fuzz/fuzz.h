
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


#define FUZZ_KEY     "0123456789abcdefghijKLMNOPQRSTUV"
#define FUZZ_MCH_ID  "1900000109"


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


/* The encoding in base64 of size bytes, in memory. */

wechatpay_str_t fuzz_base64(const unsigned char *data, size_t size,
    fuzz_memory_t *memory);


/* That a refund, and the event made of it, is as the documents say. */

void fuzz_check(const wechatpay_refund_t *refund, fuzz_memory_t *memory);


#endif /* FUZZ_H */

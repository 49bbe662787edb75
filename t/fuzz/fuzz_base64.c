
/*
 * Copyright (C) the refund-notify authors
 *
 * What is decoded, encodes to the same text: there is one encoding only.
 */


#include "fuzz.h"
#include "wechatpay_base64.h"


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t            len;
    unsigned char    *p;
    fuzz_memory_t     memory;
    wechatpay_str_t   src;

    fuzz_memory_init(&memory);

    src.data = data;
    src.len = size;

    p = memory.memory.alloc(&memory, wechatpay_base64_decoded_length(size));

    if (wechatpay_base64_decode(src, p, &len) == 0) {
        fuzz_assert(wechatpay_str_equal(fuzz_base64(p, len, &memory), src));
    }

    fuzz_memory_free(&memory);

    return 0;
}

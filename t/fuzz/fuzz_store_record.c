
/*
 * Copyright (C) the refund-notify authors
 *
 * The value that a GET brought out of Redis, where anyone may have written.
 * What is taken for a record is one to the last byte: written again it is the
 * same text, so that a compare of whole values means what it seems to.
 */


#include "fuzz.h"

#include "ngx_http_refund_store_record.c"


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char                           again[NGX_HTTP_REFUND_STORE_RECORD_MAX];
    ngx_str_t                        text;
    ngx_http_refund_store_record_t   record;

    text.data = (u_char *) data;
    text.len = size;

    if (ngx_http_refund_store_record_decode(&record, &text) != NGX_OK) {
        return 0;
    }

    fuzz_assert(size <= sizeof(again));

    if (record.state != 'D') {
        fuzz_assert(record.attempt >= 1);
        fuzz_assert(record.attempt <= NGX_HTTP_REFUND_STORE_ATTEMPT_MAX);
    }

    fuzz_assert((size_t) (ngx_http_refund_store_record_encode(again, &record)
                          - again)
                == size);
    fuzz_assert(memcmp(again, data, size) == 0);

    return 0;
}


/* %T, %M and %ui are all that a record has. */

u_char * ngx_cdecl
ngx_sprintf(u_char *buf, const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);

    for ( /* void */ ; *fmt; fmt++) {

        if (*fmt != '%') {
            *buf++ = (u_char) *fmt;
            continue;
        }

        fmt++;
        fuzz_assert(*fmt == 'T' || *fmt == 'M' || *fmt++ == 'u');

        /* each of them is of 64 bits */

        buf += sprintf((char *) buf, "%llu", va_arg(args, unsigned long long));
    }

    va_end(args);

    return buf;
}

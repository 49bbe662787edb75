
/*
 * Copyright (C) the refund-notify authors
 *
 * The text of a record, as it stands in Redis:
 *
 *     P owner attempt lease retain     a delivery holds the lease
 *     F attempt lease retain           the last delivery failed for certain
 *     D time                           accepted
 *
 * lease and retain are milliseconds, time is seconds since the epoch; owner is
 * 32 lower-case hexadecimal digits.
 */


#ifndef _NGX_HTTP_REFUND_STORE_RECORD_H_INCLUDED_
#define _NGX_HTTP_REFUND_STORE_RECORD_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_REFUND_STORE_OWNER_LEN     32      /* 128 bits in hex */

#define NGX_HTTP_REFUND_STORE_ATTEMPT_MAX   999999999
#define NGX_HTTP_REFUND_STORE_TIME_DIGITS   12      /* ms and s alike */
#define NGX_HTTP_REFUND_STORE_RECORD_MAX                                      \
    (sizeof("P ") - 1 + NGX_HTTP_REFUND_STORE_OWNER_LEN                       \
     + 1 + NGX_INT64_LEN + 1 + NGX_INT64_LEN + 1 + NGX_INT64_LEN)


typedef struct {
    u_char        state;                /* 'P', 'F' or 'D' */
    u_char       *owner;                /* P */
    ngx_uint_t    attempt;              /* P and F: from 1 */
    ngx_msec_t    lease;                /* P and F */
    ngx_msec_t    retain;               /* P and F */
    time_t        time;                 /* D */
} ngx_http_refund_store_record_t;


/*
 * Writes at most NGX_HTTP_REFUND_STORE_RECORD_MAX bytes and returns their end;
 * no number of record may be larger than what decode takes.
 */

u_char *ngx_http_refund_store_record_encode(u_char *p,
    const ngx_http_refund_store_record_t *record);


/*
 * NGX_OK: text is a record to the last byte, with the one form that each number
 * has; the owner points into it.  NGX_DECLINED: it is not one of ours.
 */

ngx_int_t ngx_http_refund_store_record_decode(
    ngx_http_refund_store_record_t *record, const ngx_str_t *text);


#endif /* _NGX_HTTP_REFUND_STORE_RECORD_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_store_record.h"


static ngx_int_t ngx_http_refund_store_record_owner(u_char **pos, u_char *last,
    u_char **owner);
static ngx_int_t ngx_http_refund_store_record_number(u_char **pos,
    u_char *last, ngx_uint_t digits, uint64_t *number);


u_char *
ngx_http_refund_store_record_encode(u_char *p,
    const ngx_http_refund_store_record_t *record)
{
    *p++ = record->state;

    if (record->state == 'D') {
        return ngx_sprintf(p, " %T", record->time);
    }

    if (record->state == 'P') {
        *p++ = ' ';
        p = ngx_cpymem(p, record->owner, NGX_HTTP_REFUND_STORE_OWNER_LEN);
    }

    return ngx_sprintf(p, " %ui %M %M", record->attempt, record->lease,
                       record->retain);
}


ngx_int_t
ngx_http_refund_store_record_decode(ngx_http_refund_store_record_t *record,
    const ngx_str_t *text)
{
    u_char    *p, *last;
    uint64_t   number;

    p = text->data;
    last = p + text->len;

    if (p == last) {
        return NGX_DECLINED;
    }

    ngx_memzero(record, sizeof(ngx_http_refund_store_record_t));

    record->state = *p++;

    switch (record->state) {

    case 'D':

        if (ngx_http_refund_store_record_number(&p, last,
                              NGX_HTTP_REFUND_STORE_TIME_DIGITS, &number)
            != NGX_OK)
        {
            return NGX_DECLINED;
        }

        record->time = (time_t) number;

        return (p == last) ? NGX_OK : NGX_DECLINED;

    case 'P':

        if (ngx_http_refund_store_record_owner(&p, last, &record->owner)
            != NGX_OK)
        {
            return NGX_DECLINED;
        }

        break;

    case 'F':
        break;

    default:
        return NGX_DECLINED;
    }

    if (ngx_http_refund_store_record_number(&p, last,
                   sizeof("999999999") - 1, &number)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    record->attempt = (ngx_uint_t) number;

    if (ngx_http_refund_store_record_number(&p, last,
                          NGX_HTTP_REFUND_STORE_TIME_DIGITS, &number)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    record->lease = (ngx_msec_t) number;

    if (ngx_http_refund_store_record_number(&p, last,
                          NGX_HTTP_REFUND_STORE_TIME_DIGITS, &number)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    record->retain = (ngx_msec_t) number;

    return (p == last) ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_refund_store_record_owner(u_char **pos, u_char *last, u_char **owner)
{
    u_char      *p;
    ngx_uint_t   i;

    p = *pos;

    if ((size_t) (last - p) < 1 + NGX_HTTP_REFUND_STORE_OWNER_LEN
        || *p++ != ' ')
    {
        return NGX_DECLINED;
    }

    *owner = p;

    for (i = 0; i < NGX_HTTP_REFUND_STORE_OWNER_LEN; i++, p++) {
        if (!((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'f'))) {
            return NGX_DECLINED;
        }
    }

    *pos = p;

    return NGX_OK;
}


/* A space and a number from 1, of at most so many digits. */

static ngx_int_t
ngx_http_refund_store_record_number(u_char **pos, u_char *last,
    ngx_uint_t digits, uint64_t *number)
{
    u_char      *p;
    uint64_t     n;
    ngx_uint_t   i;

    p = *pos;

    if (last - p < 2 || *p++ != ' ' || *p == '0') {
        return NGX_DECLINED;
    }

    n = 0;

    for (i = 0; p < last && *p >= '0' && *p <= '9'; i++, p++) {

        if (i == digits) {
            return NGX_DECLINED;
        }

        n = n * 10 + (*p - '0');
    }

    if (i == 0) {
        return NGX_DECLINED;
    }

    *pos = p;
    *number = n;

    return NGX_OK;
}

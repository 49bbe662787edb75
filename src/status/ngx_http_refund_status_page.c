
/*
 * Copyright (C) the refund-notify authors
 *
 * status.html, as a part of the module.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <openssl/sha.h>
#include "ngx_http_refund_status.h"


/* made of status.html by config.make */

static u_char  ngx_http_refund_status_html[] = {
#include "ngx_http_refund_status_html.h"
};


ngx_str_t  ngx_http_refund_status_page = {
    sizeof(ngx_http_refund_status_html), ngx_http_refund_status_html
};


static ngx_int_t ngx_http_refund_status_page_hash(const char *start,
    const char *end, u_char *base64);


/*
 * Its one style and its one script, known by their hashes, and requests to
 * where it came from: nothing else runs, whatever a label may hold.
 */

ngx_int_t
ngx_http_refund_status_page_policy(ngx_pool_t *pool, ngx_str_t *policy)
{
    u_char  *p, style[ngx_base64_encoded_length(SHA256_DIGEST_LENGTH) + 1];
    u_char   script[ngx_base64_encoded_length(SHA256_DIGEST_LENGTH) + 1];

    static const char  format[] = "default-src 'none'; connect-src 'self'; "
                                  "img-src data:; "
                                  "style-src 'sha256-%s'; "
                                  "script-src 'sha256-%s'; base-uri 'none'; "
                                  "form-action 'none'; "
                                  "frame-ancestors 'none'";

    p = ngx_pnalloc(pool, sizeof(format) + sizeof(style) + sizeof(script));

    if (p == NULL
        || ngx_http_refund_status_page_hash("<style>", "</style>", style)
           != NGX_OK
        || ngx_http_refund_status_page_hash("<script>", "</script>", script)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    policy->data = p;
    policy->len = ngx_sprintf(p, format, style, script) - p;

    return NGX_OK;
}


static ngx_int_t
ngx_http_refund_status_page_hash(const char *start, const char *end,
    u_char *base64)
{
    u_char     *p, *last, hash[SHA256_DIGEST_LENGTH];
    ngx_str_t   src, dst;

    p = ngx_http_refund_status_page.data;
    last = p + ngx_http_refund_status_page.len;

    p = ngx_strlcasestrn(p, last, (u_char *) start, ngx_strlen(start) - 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    p += ngx_strlen(start);
    last = ngx_strlcasestrn(p, last, (u_char *) end, ngx_strlen(end) - 1);

    if (last == NULL || SHA256(p, last - p, hash) == NULL) {
        return NGX_ERROR;
    }

    src.data = hash;
    src.len = SHA256_DIGEST_LENGTH;
    dst.data = base64;

    ngx_encode_base64(&dst, &src);
    base64[dst.len] = '\0';

    return NGX_OK;
}

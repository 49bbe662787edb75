
/*
 * Copyright (C) the refund-notify authors
 *
 * The refund_merchant block: from nginx.conf and the key files to a merchant
 * with ready keys.
 */


#ifndef _NGX_HTTP_REFUND_MERCHANT_H_INCLUDED_
#define _NGX_HTTP_REFUND_MERCHANT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "wechatpay_merchant.h"
#include "ngx_refund_counters.h"


/* What refund_status tells of a certificate. */

typedef struct {
    ngx_str_t                        file;
    time_t                           not_after;
    ngx_uint_t                       ours;      /* or WeChat Pay's */
} ngx_http_refund_merchant_certificate_t;


typedef struct {
    ngx_str_node_t                   sn;        /* sn.str is the name */
    wechatpay_merchant_t            *wechatpay;
    ngx_array_t                      certificates;  /* as above */
    ngx_refund_merchant_counters_t  *counters;  /* NULL: none */
} ngx_http_refund_merchant_t;


/*
 * By name; a tree, for a merchant's name may come from a variable of each
 * request, and ngx_hash_t would not tell "Shop" from "shop".
 */

typedef struct {
    ngx_rbtree_t                   tree;
    ngx_rbtree_node_t              sentinel;
} ngx_http_refund_merchants_t;


void ngx_http_refund_merchants_init(ngx_http_refund_merchants_t *merchants);


/* refund_merchant name { ... }; the offset is of ngx_http_refund_merchants_t */

char *ngx_http_refund_merchant_block(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/* NULL: unknown. */

ngx_http_refund_merchant_t *ngx_http_refund_merchant_find(
    ngx_http_refund_merchants_t *merchants, ngx_str_t *name);


#endif /* _NGX_HTTP_REFUND_MERCHANT_H_INCLUDED_ */

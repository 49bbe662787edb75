
/*
 * Copyright (C) the refund-notify authors
 *
 * A merchant as a location names it: by its name, or by a variable that yields
 * one for each request.
 */


#ifndef _NGX_HTTP_REFUND_MERCHANT_NAME_H_INCLUDED_
#define _NGX_HTTP_REFUND_MERCHANT_NAME_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_conf.h"
#include "ngx_http_refund_merchant.h"


typedef struct {
    ngx_str_t                      text;        /* len 0: not configured */
    ngx_http_complex_value_t      *value;       /* NULL: no variables */
    ngx_http_refund_merchant_t    *merchant;    /* NULL: the value tells */
    ngx_http_refund_conf_place_t   place;
} ngx_http_refund_merchant_name_t;


/*
 * Takes the directive's argument, and its location, whose content handler
 * becomes handler.  NGX_CONF_OK or an error as directives return it.
 */

char *ngx_http_refund_merchant_name(ngx_conf_t *cf,
    ngx_http_refund_merchant_name_t *name, ngx_http_handler_pt handler);


/*
 * Once all merchants are known: finds the merchant, unless a variable names it,
 * and that no directive after this one has taken the location.
 */

char *ngx_http_refund_merchant_name_check(ngx_conf_t *cf,
    ngx_http_refund_merchants_t *merchants,
    ngx_http_refund_merchant_name_t *name, const char *directive,
    ngx_http_handler_pt handler);


/* NGX_OK; NGX_DECLINED: there is none of that name; NGX_ERROR: no memory. */

ngx_int_t ngx_http_refund_merchant_name_find(ngx_http_request_t *r,
    ngx_http_refund_merchants_t *merchants,
    ngx_http_refund_merchant_name_t *name,
    ngx_http_refund_merchant_t **merchant);


#endif /* _NGX_HTTP_REFUND_MERCHANT_NAME_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_merchant_name.h"


char *
ngx_http_refund_merchant_name(ngx_conf_t *cf,
    ngx_http_refund_merchant_name_t *name, ngx_http_handler_pt handler)
{
    ngx_str_t                         *value;
    ngx_http_core_loc_conf_t          *clcf;
    ngx_http_compile_complex_value_t   ccv;

    if (name->text.len) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "has an empty merchant's name: name a refund_merchant";
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "stands in a location whose requests another directive answers:"
               " give each its own";
    }

    clcf->handler = handler;

    name->text = value[1];
    ngx_http_refund_conf_place(cf, &name->place);

    if (ngx_http_script_variables_count(&value[1]) == 0) {
        return NGX_CONF_OK;
    }

    name->value = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (name->value == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = name->value;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_refund_merchant_name_check(ngx_conf_t *cf,
    ngx_http_refund_merchants_t *merchants,
    ngx_http_refund_merchant_name_t *name, const char *directive,
    ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler != handler) {
        ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &name->place,
                                   "\"%s\" and another directive both answer "
                                   "the requests of one location: give each "
                                   "its own", directive);
        return NGX_CONF_ERROR;
    }

    if (name->value) {
        return NGX_CONF_OK;
    }

    name->merchant = ngx_http_refund_merchant_find(merchants, &name->text);

    if (name->merchant == NULL) {
        ngx_http_refund_conf_error(NGX_LOG_EMERG, cf, &name->place,
                                   "unknown merchant \"%V\" in \"%s\": add a "
                                   "\"refund_merchant %V { }\" to http",
                                   &name->text, directive, &name->text);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_refund_merchant_name_find(ngx_http_request_t *r,
    ngx_http_refund_merchants_t *merchants,
    ngx_http_refund_merchant_name_t *name,
    ngx_http_refund_merchant_t **merchant)
{
    ngx_str_t  text;

    *merchant = name->merchant;

    if (name->merchant) {
        return NGX_OK;
    }

    if (ngx_http_complex_value(r, name->value, &text) != NGX_OK) {
        return NGX_ERROR;
    }

    *merchant = ngx_http_refund_merchant_find(merchants, &text);

    return *merchant ? NGX_OK : NGX_DECLINED;
}


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <openssl/crypto.h>

#include "ngx_http_refund_certificate.h"
#include "ngx_http_refund_secret_file.h"
#include "ngx_http_refund_span.h"
#include "ngx_http_refund_merchant.h"


typedef struct {
    ngx_http_refund_merchant_t    *merchant;
    ngx_uint_t                     seen;    /* bits of the commands */
} ngx_http_refund_merchant_ctx_t;


typedef struct {
    ngx_str_t      name;
    ngx_uint_t     args_min;
    ngx_uint_t     args_max;
    ngx_uint_t     bit;     /* in ctx->seen, or 0 */
    char        *(*handler)(ngx_conf_t *cf, wechatpay_merchant_t *merchant,
                            ngx_str_t *args, ngx_uint_t n);
} ngx_http_refund_merchant_command_t;


typedef wechatpay_key_error_t (*ngx_http_refund_merchant_key_pt)(
    wechatpay_merchant_t *merchant, wechatpay_str_t key);
typedef wechatpay_key_error_t (*ngx_http_refund_merchant_dated_pt)(
    wechatpay_merchant_t *merchant, wechatpay_str_t pem, time_t *not_before,
    time_t *not_after);


static char *ngx_http_refund_merchant_line(ngx_conf_t *cf,
    ngx_command_t *dummy, void *conf);
static char *ngx_http_refund_merchant_check(ngx_conf_t *cf,
    ngx_http_refund_merchant_ctx_t *ctx);
static char *ngx_http_refund_merchant_mch_id(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n);
static char *ngx_http_refund_merchant_app_id(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n);
static char *ngx_http_refund_merchant_sub_mch_id(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n);
static char *ngx_http_refund_merchant_v2_key(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n);
static char *ngx_http_refund_merchant_v3_key(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n);
static char *ngx_http_refund_merchant_v2_sign_type(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n);
static char *ngx_http_refund_merchant_public_key(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n);
static char *ngx_http_refund_merchant_platform_certificate(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n);
static char *ngx_http_refund_merchant_certificate(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n);
static char *ngx_http_refund_merchant_key(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n);
static char *ngx_http_refund_merchant_secret(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *file,
    ngx_http_refund_merchant_key_pt set);
static char *ngx_http_refund_merchant_dated(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *file,
    ngx_http_refund_merchant_dated_pt set, ngx_uint_t signing);
static char *ngx_http_refund_merchant_dates(ngx_conf_t *cf, ngx_str_t *file,
    time_t not_before, time_t not_after, ngx_uint_t signing);
static char *ngx_http_refund_merchant_value_error(ngx_conf_t *cf,
    ngx_str_t *value, wechatpay_key_error_t error);
static char *ngx_http_refund_merchant_file_error(ngx_conf_t *cf,
    ngx_str_t *file, wechatpay_key_error_t error);
static void ngx_http_refund_merchant_cleanup(void *data);



#define NGX_HTTP_REFUND_MERCHANT_MCH_ID       0x01
#define NGX_HTTP_REFUND_MERCHANT_SIGN_TYPE    0x02
#define NGX_HTTP_REFUND_MERCHANT_CERTIFICATE  0x04
#define NGX_HTTP_REFUND_MERCHANT_KEY          0x08
#define NGX_HTTP_REFUND_MERCHANT_ONCE         0x0f
#define NGX_HTTP_REFUND_MERCHANT_V3_KEY       0x10

static ngx_http_refund_merchant_command_t
    ngx_http_refund_merchant_commands[] =
{
    { ngx_string("mch_id"), 1, 1, NGX_HTTP_REFUND_MERCHANT_MCH_ID,
      ngx_http_refund_merchant_mch_id },

    { ngx_string("app_id"), 1, 64, 0,
      ngx_http_refund_merchant_app_id },

    { ngx_string("sub_mch_id"), 1, 1024, 0,
      ngx_http_refund_merchant_sub_mch_id },

    { ngx_string("api_v2_key_file"), 1, 1, 0,
      ngx_http_refund_merchant_v2_key },

    { ngx_string("api_v3_key_file"), 1, 1, NGX_HTTP_REFUND_MERCHANT_V3_KEY,
      ngx_http_refund_merchant_v3_key },

    { ngx_string("api_v2_sign_type"), 1, 1, NGX_HTTP_REFUND_MERCHANT_SIGN_TYPE,
      ngx_http_refund_merchant_v2_sign_type },

    { ngx_string("wechatpay_public_key"), 2, 2, 0,
      ngx_http_refund_merchant_public_key },

    { ngx_string("wechatpay_certificate"), 1, 1, 0,
      ngx_http_refund_merchant_platform_certificate },

    { ngx_string("merchant_certificate"), 1, 1,
      NGX_HTTP_REFUND_MERCHANT_CERTIFICATE,
      ngx_http_refund_merchant_certificate },

    { ngx_string("merchant_key"), 1, 1, NGX_HTTP_REFUND_MERCHANT_KEY,
      ngx_http_refund_merchant_key },

    { ngx_null_string, 0, 0, 0, NULL }
};


void
ngx_http_refund_merchants_init(ngx_http_refund_merchants_t *merchants)
{
    ngx_rbtree_init(&merchants->tree, &merchants->sentinel,
                    ngx_str_rbtree_insert_value);
}


char *
ngx_http_refund_merchant_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                             *rv;
    u_char                            ch;
    size_t                            i;
    ngx_str_t                        *value;
    ngx_conf_t                        save;
    ngx_pool_cleanup_t               *cln;
    ngx_http_refund_merchant_t       *merchant;
    ngx_http_refund_merchants_t      *merchants;
    ngx_http_refund_merchant_ctx_t    ctx;

    merchants = (ngx_http_refund_merchants_t *) ((char *) conf + cmd->offset);
    value = cf->args->elts;

    /* the name goes into ids and labels */

    for (i = 0; i < value[1].len; i++) {
        ch = value[1].data[i];

        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
              || (ch >= '0' && ch <= '9') || ch == '_' || ch == '-'
              || ch == '.'))
        {
            break;
        }
    }

    if (value[1].len == 0 || value[1].len > 64 || i != value[1].len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" of a refund_merchant: use 1 to "
                           "64 letters, digits, \"_\", \"-\" or \".\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_refund_merchant_find(merchants, &value[1]) != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate refund_merchant \"%V\": rename or remove "
                           "one of the two", &value[1]);
        return NGX_CONF_ERROR;
    }

    merchant = ngx_pcalloc(cf->pool, sizeof(ngx_http_refund_merchant_t));
    if (merchant == NULL) {
        return NGX_CONF_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_CONF_ERROR;
    }

    merchant->sn.str = value[1];
    merchant->sn.node.key = ngx_crc32_long(value[1].data, value[1].len);
    merchant->wechatpay = wechatpay_merchant_create();

    if (merchant->wechatpay == NULL) {
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_http_refund_merchant_cleanup;
    cln->data = merchant->wechatpay;

    if (ngx_array_init(&merchant->certificates, cf->pool, 2,
                       sizeof(ngx_http_refund_merchant_certificate_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    ctx.merchant = merchant;
    ctx.seen = 0;

    save = *cf;
    cf->ctx = &ctx;
    cf->handler = ngx_http_refund_merchant_line;
    cf->handler_conf = conf;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_refund_merchant_check(cf, &ctx);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    ngx_rbtree_insert(&merchants->tree, &merchant->sn.node);

    return NGX_CONF_OK;
}


ngx_http_refund_merchant_t *
ngx_http_refund_merchant_find(ngx_http_refund_merchants_t *merchants,
    ngx_str_t *name)
{
    return (ngx_http_refund_merchant_t *)
               ngx_str_rbtree_lookup(&merchants->tree, name,
                                     ngx_crc32_long(name->data, name->len));
}


static char *
ngx_http_refund_merchant_line(ngx_conf_t *cf, ngx_command_t *dummy, void *conf)
{
    u_char                              *p, known[512];
    ngx_str_t                           *value;
    ngx_uint_t                           n;
    ngx_http_refund_merchant_ctx_t      *ctx;
    ngx_http_refund_merchant_command_t  *command;

    ctx = cf->ctx;
    value = cf->args->elts;
    n = cf->args->nelts - 1;

    for (command = ngx_http_refund_merchant_commands;
         command->name.len;
         command++)
    {
        if (command->name.len != value[0].len
            || ngx_strncmp(command->name.data, value[0].data, value[0].len)
               != 0)
        {
            continue;
        }

        if (n < command->args_min || n > command->args_max) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid number of arguments in \"%V\" "
                               "directive of refund_merchant \"%V\": it takes "
                               "%ui%s", &value[0], &ctx->merchant->sn.str,
                               command->args_min,
                               command->args_max > command->args_min
                               ? " or more" : "");
            return NGX_CONF_ERROR;
        }

        if (ctx->seen & command->bit & NGX_HTTP_REFUND_MERCHANT_ONCE) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" directive is duplicate in "
                               "refund_merchant \"%V\": remove one of the two",
                               &value[0], &ctx->merchant->sn.str);
            return NGX_CONF_ERROR;
        }

        ctx->seen |= command->bit;

        return command->handler(cf, ctx->merchant->wechatpay, &value[1], n);
    }

    p = known;

    for (command = ngx_http_refund_merchant_commands;
         command->name.len;
         command++)
    {
        p = ngx_slprintf(p, known + sizeof(known), " %V", &command->name);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "unknown directive \"%V\" in refund_merchant \"%V\": it "
                       "knows%*s", &value[0], &ctx->merchant->sn.str,
                       (size_t) (p - known), known);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_refund_merchant_check(ngx_conf_t *cf,
    ngx_http_refund_merchant_ctx_t *ctx)
{
    ngx_uint_t             pair;
    wechatpay_key_error_t  error;

    if (!(ctx->seen & NGX_HTTP_REFUND_MERCHANT_MCH_ID)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no \"mch_id\" in refund_merchant \"%V\": add the "
                           "merchant's number", &ctx->merchant->sn.str);
        return NGX_CONF_ERROR;
    }

    if ((ctx->seen & NGX_HTTP_REFUND_MERCHANT_V3_KEY)
        && !wechatpay_merchant_accepts(ctx->merchant->wechatpay,
                                       WECHATPAY_V3))
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"api_v3_key_file\" without "
                           "\"wechatpay_public_key\" or "
                           "\"wechatpay_certificate\" in refund_merchant "
                           "\"%V\": v3 notifies are refused until one is "
                           "added",
                           &ctx->merchant->sn.str);
    }

    pair = NGX_HTTP_REFUND_MERCHANT_CERTIFICATE|NGX_HTTP_REFUND_MERCHANT_KEY;

    switch (ctx->seen & pair) {

    case NGX_HTTP_REFUND_MERCHANT_CERTIFICATE:
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no \"merchant_key\" for the "
                           "\"merchant_certificate\" in refund_merchant "
                           "\"%V\": add the key that belongs to it",
                           &ctx->merchant->sn.str);
        return NGX_CONF_ERROR;

    case NGX_HTTP_REFUND_MERCHANT_KEY:
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no \"merchant_certificate\" for the "
                           "\"merchant_key\" in refund_merchant \"%V\": add "
                           "the certificate that it belongs to",
                           &ctx->merchant->sn.str);
        return NGX_CONF_ERROR;

    case 0:
        return NGX_CONF_OK;

    default:
        break;
    }

    error = wechatpay_merchant_check_key(ctx->merchant->wechatpay);

    if (error) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the \"merchant_key\" of refund_merchant \"%V\" %s",
                           &ctx->merchant->sn.str, error);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_merchant_mch_id(ngx_conf_t *cf, wechatpay_merchant_t *merchant,
    ngx_str_t *args, ngx_uint_t n)
{
    wechatpay_key_error_t  error;

    error = wechatpay_merchant_set_mch_id(merchant,
                                          ngx_http_refund_span(&args[0]));

    return ngx_http_refund_merchant_value_error(cf, &args[0], error);
}


static char *
ngx_http_refund_merchant_app_id(ngx_conf_t *cf, wechatpay_merchant_t *merchant,
    ngx_str_t *args, ngx_uint_t n)
{
    ngx_uint_t             i;
    wechatpay_key_error_t  error;

    for (i = 0; i < n; i++) {
        error = wechatpay_merchant_add_app_id(merchant,
                                          ngx_http_refund_span(&args[i]));
        if (error) {
            return ngx_http_refund_merchant_value_error(cf, &args[i], error);
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_merchant_sub_mch_id(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n)
{
    ngx_uint_t             i;
    wechatpay_key_error_t  error;

    for (i = 0; i < n; i++) {
        error = wechatpay_merchant_add_sub_mch_id(merchant,
                                          ngx_http_refund_span(&args[i]));
        if (error) {
            return ngx_http_refund_merchant_value_error(cf, &args[i], error);
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_merchant_v2_key(ngx_conf_t *cf, wechatpay_merchant_t *merchant,
    ngx_str_t *args, ngx_uint_t n)
{
    return ngx_http_refund_merchant_secret(cf, merchant, &args[0],
                                           wechatpay_merchant_add_v2_key);
}


static char *
ngx_http_refund_merchant_v3_key(ngx_conf_t *cf, wechatpay_merchant_t *merchant,
    ngx_str_t *args, ngx_uint_t n)
{
    return ngx_http_refund_merchant_secret(cf, merchant, &args[0],
                                           wechatpay_merchant_add_v3_key);
}


static char *
ngx_http_refund_merchant_v2_sign_type(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n)
{
    if (ngx_strcmp(args[0].data, "HMAC-SHA256") == 0) {
        wechatpay_merchant_set_v2_sign_type(merchant,
                                            WECHATPAY_SIGN_HMAC_SHA256);
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(args[0].data, "MD5") == 0) {
        wechatpay_merchant_set_v2_sign_type(merchant, WECHATPAY_SIGN_MD5);
        return NGX_CONF_OK;
    }

    return ngx_http_refund_merchant_value_error(cf, &args[0],
               "is neither \"HMAC-SHA256\" nor \"MD5\"");
}


static char *
ngx_http_refund_merchant_public_key(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n)
{
    ngx_str_t              pem;
    wechatpay_key_error_t  error;

    if (ngx_http_refund_public_file_read(cf, &args[1], &pem) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    error = wechatpay_merchant_add_public_key(merchant,
                                              ngx_http_refund_span(&args[0]),
                                              ngx_http_refund_span(&pem));
    if (error) {

        /* it may be about the id as well as about the file */

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"wechatpay_public_key\": key \"%V\" in "
                           "\"%V\" %s", &args[0], &args[1], error);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_refund_merchant_platform_certificate(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n)
{
    return ngx_http_refund_merchant_dated(cf, merchant, &args[0],
                                          wechatpay_merchant_add_certificate,
                                          0);
}


static char *
ngx_http_refund_merchant_certificate(ngx_conf_t *cf,
    wechatpay_merchant_t *merchant, ngx_str_t *args, ngx_uint_t n)
{
    return ngx_http_refund_merchant_dated(cf, merchant, &args[0],
                                          wechatpay_merchant_set_certificate,
                                          1);
}


static char *
ngx_http_refund_merchant_key(ngx_conf_t *cf, wechatpay_merchant_t *merchant,
    ngx_str_t *args, ngx_uint_t n)
{
    return ngx_http_refund_merchant_secret(cf, merchant, &args[0],
                                           wechatpay_merchant_set_key);
}


static char *
ngx_http_refund_merchant_secret(ngx_conf_t *cf, wechatpay_merchant_t *merchant,
    ngx_str_t *file, ngx_http_refund_merchant_key_pt set)
{
    ngx_str_t              key;
    wechatpay_key_error_t  error;

    if (ngx_http_refund_secret_file_read(cf, file, &key) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    error = set(merchant, ngx_http_refund_span(&key));

    /* it lives on in the contexts only */

    OPENSSL_cleanse(key.data, key.len);

    return ngx_http_refund_merchant_file_error(cf, file, error);
}


static char *
ngx_http_refund_merchant_dated(ngx_conf_t *cf, wechatpay_merchant_t *merchant,
    ngx_str_t *file, ngx_http_refund_merchant_dated_pt set, ngx_uint_t signing)
{
    char                   *rv;
    time_t                  not_before, not_after;
    ngx_str_t               pem;
    wechatpay_key_error_t   error;

    if (ngx_http_refund_public_file_read(cf, file, &pem) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    error = set(merchant, ngx_http_refund_span(&pem), &not_before, &not_after);

    rv = ngx_http_refund_merchant_file_error(cf, file, error);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_refund_merchant_dates(cf, file, not_before, not_after,
                                          signing);
}


static char *
ngx_http_refund_merchant_dates(ngx_conf_t *cf, ngx_str_t *file,
    time_t not_before, time_t not_after, ngx_uint_t signing)
{
    ngx_http_refund_merchant_ctx_t          *ctx;
    ngx_http_refund_merchant_certificate_t  *certificate;

    ctx = cf->ctx;

    certificate = ngx_array_push(&ctx->merchant->certificates);
    if (certificate == NULL) {
        return NGX_CONF_ERROR;
    }

    certificate->file = *file;
    certificate->not_after = not_after;
    certificate->ours = signing;

    return ngx_http_refund_certificate_dates(cf, file, not_before, not_after,
                                             signing);
}


static char *
ngx_http_refund_merchant_value_error(ngx_conf_t *cf, ngx_str_t *value,
    wechatpay_key_error_t error)
{
    ngx_str_t  *args;

    if (error == NULL) {
        return NGX_CONF_OK;
    }

    args = cf->args->elts;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid \"%V\": \"%V\" %s",
                       &args[0], value, error);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_refund_merchant_file_error(ngx_conf_t *cf, ngx_str_t *file,
    wechatpay_key_error_t error)
{
    ngx_str_t  *args;

    if (error == NULL) {
        return NGX_CONF_OK;
    }

    args = cf->args->elts;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid \"%V\": the content of \"%V\" %s",
                       &args[0], file, error);

    return NGX_CONF_ERROR;
}


static void
ngx_http_refund_merchant_cleanup(void *data)
{
    wechatpay_merchant_destroy(data);
}

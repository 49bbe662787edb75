
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include "ngx_http_refund_secret_file.h"
#include "ngx_http_refund_webhook.h"


/* bytes, as the standard has them */
#define NGX_HTTP_REFUND_WEBHOOK_KEY_MIN  24
#define NGX_HTTP_REFUND_WEBHOOK_KEY_MAX  64

#define NGX_HTTP_REFUND_WEBHOOK_MAC_LEN  32


static EVP_MAC_CTX *ngx_http_refund_webhook_mac(u_char *key, size_t len);
static void ngx_http_refund_webhook_cleanup(void *data);


char *
ngx_http_refund_webhook_key_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    u_char                key[NGX_HTTP_REFUND_WEBHOOK_KEY_MAX + 2];
    ngx_int_t             rc;
    ngx_str_t            *value, content, decoded;
    EVP_MAC_CTX         **ctx;
    ngx_array_t         **keys;
    ngx_pool_cleanup_t   *cln;

    keys = (ngx_array_t **) ((char *) conf + cmd->offset);
    value = cf->args->elts;

    if (ngx_http_refund_secret_file_read(cf, &value[1], &content) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (content.len < sizeof("whsec_") - 1
        || ngx_strncmp(content.data, "whsec_", sizeof("whsec_") - 1) != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the signing key in \"%V\" does not begin with "
                           "\"whsec_\": add that before its base64", &value[1]);
        return NGX_CONF_ERROR;
    }

    content.data += sizeof("whsec_") - 1;
    content.len -= sizeof("whsec_") - 1;

    decoded.data = key;
    decoded.len = 0;

    rc = content.len <= ngx_base64_encoded_length(sizeof(key) - 2)
         ? ngx_decode_base64(&decoded, &content) : NGX_ERROR;

    OPENSSL_cleanse(content.data, content.len);

    if (rc != NGX_OK || decoded.len < NGX_HTTP_REFUND_WEBHOOK_KEY_MIN
        || decoded.len > NGX_HTTP_REFUND_WEBHOOK_KEY_MAX)
    {
        OPENSSL_cleanse(key, sizeof(key));
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the signing key in \"%V\" is not the base64 of %d "
                           "to %d bytes after \"whsec_\": make a new one with "
                           "openssl rand -base64 32", &value[1],
                           NGX_HTTP_REFUND_WEBHOOK_KEY_MIN,
                           NGX_HTTP_REFUND_WEBHOOK_KEY_MAX);
        return NGX_CONF_ERROR;
    }

    if (*keys == NGX_CONF_UNSET_PTR) {
        *keys = ngx_array_create(cf->pool, 2, sizeof(EVP_MAC_CTX *));
        if (*keys == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    ctx = ngx_array_push(*keys);
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (ctx == NULL || cln == NULL) {
        return NGX_CONF_ERROR;
    }

    *ctx = ngx_http_refund_webhook_mac(key, decoded.len);

    OPENSSL_cleanse(key, sizeof(key));

    if (*ctx == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "HMAC-SHA256 is not to be had from OpenSSL");
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_http_refund_webhook_cleanup;
    cln->data = *ctx;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_refund_webhook_sign(ngx_array_t *keys, ngx_str_t *id,
    ngx_str_t *timestamp, ngx_str_t *body, ngx_pool_t *pool,
    ngx_str_t *signature)
{
    size_t         len;
    u_char        *p, mac[NGX_HTTP_REFUND_WEBHOOK_MAC_LEN];
    ngx_str_t      src, dst;
    ngx_uint_t     i, ok;
    EVP_MAC_CTX   *copy, **ctx;

    ctx = keys->elts;

    p = ngx_pnalloc(pool, keys->nelts
                          * (sizeof(" v1,") - 1
                             + ngx_base64_encoded_length(sizeof(mac))));
    if (p == NULL) {
        return NGX_ERROR;
    }

    signature->data = p;

    for (i = 0; i < keys->nelts; i++) {

        /*
         * A copy, for the key's own context cannot be started anew without its
         * key before OpenSSL 3.0.3.
         */

        copy = EVP_MAC_CTX_dup(ctx[i]);
        if (copy == NULL) {
            return NGX_ERROR;
        }

        len = 0;

        ok = EVP_MAC_update(copy, id->data, id->len) == 1
             && EVP_MAC_update(copy, (u_char *) ".", 1) == 1
             && EVP_MAC_update(copy, timestamp->data, timestamp->len) == 1
             && EVP_MAC_update(copy, (u_char *) ".", 1) == 1
             && EVP_MAC_update(copy, body->data, body->len) == 1
             && EVP_MAC_final(copy, mac, &len, sizeof(mac)) == 1;

        EVP_MAC_CTX_free(copy);

        if (!ok) {
            return NGX_ERROR;
        }

        if (i) {
            *p++ = ' ';
        }

        p = ngx_cpymem(p, "v1,", sizeof("v1,") - 1);

        src.data = mac;
        src.len = len;
        dst.data = p;

        ngx_encode_base64(&dst, &src);

        p += dst.len;
    }

    signature->len = p - signature->data;

    return NGX_OK;
}


static EVP_MAC_CTX *
ngx_http_refund_webhook_mac(u_char *key, size_t len)
{
    EVP_MAC      *mac;
    OSSL_PARAM    params[2];
    EVP_MAC_CTX  *ctx;

    mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    if (mac == NULL) {
        return NULL;
    }

    ctx = EVP_MAC_CTX_new(mac);

    EVP_MAC_free(mac);

    if (ctx == NULL) {
        return NULL;
    }

    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
                                                 "SHA256", 0);
    params[1] = OSSL_PARAM_construct_end();

    if (EVP_MAC_init(ctx, key, len, params) != 1) {
        EVP_MAC_CTX_free(ctx);
        return NULL;
    }

    return ctx;
}


static void
ngx_http_refund_webhook_cleanup(void *data)
{
    EVP_MAC_CTX_free(data);
}


/*
 * Copyright (C) the refund-notify authors
 *
 * What refund_store says of TLS to a Redis.  The context is made once, while
 * the configuration is read.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_certificate.h"
#include "ngx_http_refund_secret_file.h"
#include "ngx_http_refund_store_conf.h"
#include "ngx_refund_redis_tls.h"


#if (NGX_REFUND_REDIS_TLS)

static ngx_int_t ngx_http_refund_store_tls_context(
    ngx_http_refund_store_conf_t *conf, ngx_refund_redis_tls_t *tls);
static void ngx_http_refund_store_tls_free(void *data);
static ngx_int_t ngx_http_refund_store_tls_ca(
    ngx_http_refund_store_conf_t *conf, SSL_CTX *ctx);
static ngx_int_t ngx_http_refund_store_tls_ca_dates(
    ngx_http_refund_store_conf_t *conf, SSL_CTX *ctx);
static ngx_int_t ngx_http_refund_store_tls_certificate(
    ngx_http_refund_store_conf_t *conf, SSL_CTX *ctx);
static ngx_int_t ngx_http_refund_store_tls_key(
    ngx_http_refund_store_conf_t *conf, SSL_CTX *ctx);
static int ngx_http_refund_store_tls_no_password(char *buf, int size,
    int writing, void *data);
static ngx_int_t ngx_http_refund_store_tls_dates(
    ngx_http_refund_store_conf_t *conf, ngx_uint_t param, X509 *x509,
    ngx_uint_t ours);
static ngx_int_t ngx_http_refund_store_tls_file_error(
    ngx_http_refund_store_conf_t *conf, ngx_uint_t param, const char *what);

#endif


ngx_int_t
ngx_http_refund_store_tls(ngx_http_refund_store_conf_t *conf,
    ngx_refund_redis_conf_t *redis)
{
#if (NGX_REFUND_REDIS_TLS)
    ngx_str_t               *name;
    ngx_refund_redis_tls_t  *tls;
#endif

    if (!conf->tls) {
        return ngx_http_refund_store_without(conf, NGX_HTTP_REFUND_STORE_CA,
                                             NGX_HTTP_REFUND_STORE_SERVER_NAME,
                                             "this URL");
    }

#if (NGX_REFUND_REDIS_TLS)

    if (redis->addresses->port == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "refund_store \"%V\" asks for TLS on a Unix "
                           "socket, which Redis has not: use "
                           "\"redis://unix:/PATH\"", &conf->store->name);
        return NGX_ERROR;
    }

    tls = ngx_pcalloc(conf->cf->pool, sizeof(ngx_refund_redis_tls_t));
    if (tls == NULL) {
        return NGX_ERROR;
    }

    name = &conf->values[NGX_HTTP_REFUND_STORE_SERVER_NAME];

    if (name->len > NGX_REFUND_REDIS_TLS_NAME_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "\"server_name=\" in refund_store \"%V\" is longer "
                           "than %d characters", &conf->store->name,
                           NGX_REFUND_REDIS_TLS_NAME_MAX);
        return NGX_ERROR;
    }

    tls->name = *name;

    if (ngx_http_refund_store_tls_context(conf, tls) != NGX_OK) {
        ERR_clear_error();
        return NGX_ERROR;
    }

    redis->server.tls = tls;

    return NGX_OK;

#else

    ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                       "TLS in the URL of refund_store \"%V\" needs hiredis "
                       "1.0 or newer with its TLS library, which this module "
                       "was built without: build it where that is, as on "
                       "Debian 13, or have a TLS proxy on this machine, e.g. "
                       "stunnel, talk to Redis, and name that with "
                       "\"redis:\"", &conf->store->name);

    return NGX_ERROR;

#endif
}


#if (NGX_REFUND_REDIS_TLS)

static ngx_int_t
ngx_http_refund_store_tls_context(ngx_http_refund_store_conf_t *conf,
    ngx_refund_redis_tls_t *tls)
{
    SSL_CTX             *ctx;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(conf->cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_refund_store_tls_free;
    cln->data = ctx;
    tls->ctx = ctx;

    SSL_CTX_set_default_passwd_cb(ctx, ngx_http_refund_store_tls_no_password);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);

    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
        return NGX_ERROR;
    }

    if (ngx_http_refund_store_tls_ca(conf, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_refund_store_tls_certificate(conf, ctx);
}


static void
ngx_http_refund_store_tls_free(void *data)
{
    SSL_CTX_free(data);
}


static ngx_int_t
ngx_http_refund_store_tls_ca(ngx_http_refund_store_conf_t *conf, SSL_CTX *ctx)
{
    ngx_str_t        *file;
    ngx_file_info_t   fi;

    file = &conf->values[NGX_HTTP_REFUND_STORE_CA];

    if (file->data == NULL) {

        if (SSL_CTX_set_default_verify_paths(ctx) == 1) {
            return NGX_OK;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "the certificate authorities of this system cannot "
                           "be read: name a file in \"ca=\" of refund_store "
                           "\"%V\"", &conf->store->name);
        return NGX_ERROR;
    }

    if (ngx_conf_full_name(conf->cf->cycle, file, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    /* a bundle is larger than what is read as a secret; and a FIFO blocks */

    if (ngx_file_info(file->data, &fi) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, ngx_errno,
                           ngx_file_info_n " \"%V\" failed", file);
        return NGX_ERROR;
    }

    if (!ngx_is_file(&fi)) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "\"%V\" is not a regular file", file);
        return NGX_ERROR;
    }

    if (SSL_CTX_load_verify_locations(ctx, (char *) file->data, NULL) != 1) {
        return ngx_http_refund_store_tls_file_error(conf,
                                               NGX_HTTP_REFUND_STORE_CA,
                                               "holds no certificate in PEM");
    }

    return ngx_http_refund_store_tls_ca_dates(conf, ctx);
}


static ngx_int_t
ngx_http_refund_store_tls_ca_dates(ngx_http_refund_store_conf_t *conf,
    SSL_CTX *ctx)
{
    int              i;
    ngx_int_t        rc;
    STACK_OF(X509)  *all;

    all = X509_STORE_get1_all_certs(SSL_CTX_get_cert_store(ctx));
    if (all == NULL) {
        return NGX_ERROR;
    }

    rc = NGX_OK;

    for (i = 0; i < sk_X509_num(all) && rc == NGX_OK; i++) {
        rc = ngx_http_refund_store_tls_dates(conf, NGX_HTTP_REFUND_STORE_CA,
                                             sk_X509_value(all, i), 0);
    }

    sk_X509_pop_free(all, X509_free);

    return rc;
}


static ngx_int_t
ngx_http_refund_store_tls_certificate(ngx_http_refund_store_conf_t *conf,
    SSL_CTX *ctx)
{
    ngx_str_t  *file, *key, pem;

    file = &conf->values[NGX_HTTP_REFUND_STORE_CERT];
    key = &conf->values[NGX_HTTP_REFUND_STORE_KEY];

    if (file->data == NULL && key->data == NULL) {
        return NGX_OK;
    }

    if (file->data == NULL || key->data == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                           "refund_store \"%V\" has only one of \"cert=\" and "
                           "\"key=\": give both, or none", &conf->store->name);
        return NGX_ERROR;
    }

    /* which tells what is wrong with the file better than OpenSSL does */

    if (ngx_http_refund_public_file_read(conf->cf, file, &pem) != NGX_OK) {
        return NGX_ERROR;
    }

    if (SSL_CTX_use_certificate_chain_file(ctx, (char *) file->data) != 1) {
        return ngx_http_refund_store_tls_file_error(conf,
                                              NGX_HTTP_REFUND_STORE_CERT,
                                              "holds no certificate in PEM");
    }

    if (ngx_http_refund_store_tls_dates(conf, NGX_HTTP_REFUND_STORE_CERT,
                                        SSL_CTX_get0_certificate(ctx), 1)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_refund_store_tls_key(conf, ctx);
}


static ngx_int_t
ngx_http_refund_store_tls_key(ngx_http_refund_store_conf_t *conf, SSL_CTX *ctx)
{
    int         ok;
    BIO        *bio;
    EVP_PKEY   *key;
    ngx_str_t  *file, pem;

    file = &conf->values[NGX_HTTP_REFUND_STORE_KEY];

    if (ngx_http_refund_secret_file_read(conf->cf, file, &pem) != NGX_OK) {
        return NGX_ERROR;
    }

    key = NULL;
    bio = BIO_new_mem_buf(pem.data, (int) pem.len);

    if (bio) {
        key = PEM_read_bio_PrivateKey(bio, NULL,
                                      ngx_http_refund_store_tls_no_password,
                                      NULL);
        BIO_free(bio);
    }

    /* it lives on in the context only */

    OPENSSL_cleanse(pem.data, pem.len);

    if (key == NULL) {
        return ngx_http_refund_store_tls_file_error(conf,
                                        NGX_HTTP_REFUND_STORE_KEY,
                                        "holds no private key in PEM, or one "
                                        "with a password: store it without");
    }

    ok = SSL_CTX_use_PrivateKey(ctx, key);
    EVP_PKEY_free(key);

    if (ok != 1) {
        return ngx_http_refund_store_tls_file_error(conf,
                                         NGX_HTTP_REFUND_STORE_KEY,
                                         "is not the key of the certificate "
                                         "in \"cert=\"");
    }

    return NGX_OK;
}


/* Nobody is there to be asked. */

static int
ngx_http_refund_store_tls_no_password(char *buf, int size, int writing,
    void *data)
{
    return 0;
}


static ngx_int_t
ngx_http_refund_store_tls_dates(ngx_http_refund_store_conf_t *conf,
    ngx_uint_t param, X509 *x509, ngx_uint_t ours)
{
    char       *rv;
    struct tm   from, to;

    if (ASN1_TIME_to_tm(X509_get0_notBefore(x509), &from) != 1
        || ASN1_TIME_to_tm(X509_get0_notAfter(x509), &to) != 1)
    {
        return ngx_http_refund_store_tls_file_error(conf, param,
                                             "has a date that cannot be read");
    }

    rv = ngx_http_refund_certificate_dates(conf->cf, &conf->values[param],
                                           timegm(&from), timegm(&to), ours);

    return (rv == NGX_CONF_OK) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_refund_store_tls_file_error(ngx_http_refund_store_conf_t *conf,
    ngx_uint_t param, const char *what)
{
    ngx_conf_log_error(NGX_LOG_EMERG, conf->cf, 0,
                       "\"%V%V\" in refund_store \"%V\": the file %s",
                       &ngx_http_refund_store_param_names[param],
                       &conf->values[param], &conf->store->name, what);

    return NGX_ERROR;
}

#endif

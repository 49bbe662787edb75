
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_refund_redis_tls.h"


#if (NGX_REFUND_REDIS_TLS)

#include <hiredis/hiredis_ssl.h>
#include <openssl/x509v3.h>


const char *
ngx_refund_redis_tls_start(ngx_refund_redis_tls_t *tls,
    ngx_refund_redis_adapter_t *adapter, ngx_str_t *host, u_char *detail,
    size_t size, ngx_uint_t *refused)
{
    SSL                      *ssl;
    char                     *name;
    const char               *reason;
    redisContext             *c;
    X509_VERIFY_PARAM        *param;
    const redisContextFuncs  *funcs;

    c = &adapter->context->c;
    name = (char *) (tls->name.len ? tls->name.data : host->data);

    ERR_clear_error();

    ssl = SSL_new(tls->ctx);
    if (ssl == NULL) {
        ERR_clear_error();
        return "out of memory";
    }

    param = SSL_get0_param(ssl);

    if (X509_VERIFY_PARAM_set1_ip_asc(param, name) != 1) {

        X509_VERIFY_PARAM_set_hostflags(param,
                                        X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);

        if (X509_VERIFY_PARAM_set1_host(param, name, 0) != 1
            || SSL_set_tlsext_host_name(ssl, name) != 1)
        {
            SSL_free(ssl);
            ERR_clear_error();
            return "the name of Redis cannot be verified";
        }
    }

    ERR_clear_error();
    funcs = c->funcs;

    /* where Redis is quick, all of the handshake is made here already */

    if (redisInitiateSSL(c, ssl) != REDIS_OK) {
        reason = ngx_refund_redis_tls_reason(ssl, detail, size, refused);

        /* hiredis has set those which need what it has not made */

        c->funcs = funcs;
        SSL_free(ssl);
        ERR_clear_error();

        return reason ? reason : "TLS with Redis failed";
    }

    adapter->ssl = ssl;

    return NULL;
}


const char *
ngx_refund_redis_tls_reason(SSL *ssl, u_char *detail, size_t size,
    ngx_uint_t *refused)
{
    long            verify;
    const char     *text;
    unsigned long   error;

    error = ERR_peek_error();

    if (error == 0 || ERR_SYSTEM_ERROR(error)) {
        return NULL;
    }

    verify = SSL_get_verify_result(ssl);

    if (verify != X509_V_OK) {
        *refused = 1;
        (void) ngx_cpystrn(detail,
                           (u_char *) X509_verify_cert_error_string(verify),
                           size);

        return "the certificate of Redis was refused";
    }

#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING

    if (ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        return "Redis closed the connection";
    }

#endif

    text = ERR_reason_error_string(error);

    if (text) {
        (void) ngx_cpystrn(detail, (u_char *) text, size);
    }

    return "TLS with Redis failed";
}

#endif

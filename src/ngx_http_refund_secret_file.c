
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <openssl/crypto.h>

#include "ngx_http_refund_secret_file.h"


static ngx_int_t ngx_http_refund_file_read(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *content, ngx_uint_t secret);
static ngx_int_t ngx_http_refund_file_content(ngx_conf_t *cf, ngx_str_t *name,
    ngx_fd_t fd, ngx_str_t *content, ngx_uint_t secret);
static void ngx_http_refund_secret_file_wipe(void *data);


ngx_int_t
ngx_http_refund_secret_file_read(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *content)
{
    return ngx_http_refund_file_read(cf, name, content, 1);
}


ngx_int_t
ngx_http_refund_public_file_read(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *content)
{
    return ngx_http_refund_file_read(cf, name, content, 0);
}


static ngx_int_t
ngx_http_refund_file_read(ngx_conf_t *cf, ngx_str_t *name, ngx_str_t *content,
    ngx_uint_t secret)
{
    ngx_fd_t   fd;
    ngx_int_t  rc;

    if (name->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the name of a file is empty: say where it is");
        return NGX_ERROR;
    }

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    /* without O_NONBLOCK a FIFO would hold up the start for ever */

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    rc = ngx_http_refund_file_content(cf, name, fd, content, secret);

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", name);
    }

    return rc;
}


static ngx_int_t
ngx_http_refund_file_content(ngx_conf_t *cf, ngx_str_t *name, ngx_fd_t fd,
    ngx_str_t *content, ngx_uint_t secret)
{
    size_t               size;
    ssize_t              n;
    ngx_str_t           *wipe;
    ngx_file_info_t      fi;
    ngx_pool_cleanup_t  *cln;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_fd_info_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    if (!ngx_is_file(&fi)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is not a regular file: name the one that "
                           "holds the key or certificate", name);
        return NGX_ERROR;
    }

    if (ngx_file_size(&fi) > NGX_HTTP_REFUND_SECRET_FILE_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is larger than %d bytes, which no key or "
                           "certificate is: name another file",
                           name, NGX_HTTP_REFUND_SECRET_FILE_MAX);
        return NGX_ERROR;
    }

    if (secret && (ngx_file_access(&fi) & S_IROTH)) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "secret file \"%V\" can be read by every user of "
                           "this machine: take the permission away from "
                           "others (chmod o-r)", name);
    }

    cln = ngx_pool_cleanup_add(cf->pool, sizeof(ngx_str_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    wipe = cln->data;
    size = (size_t) ngx_file_size(&fi);

    wipe->data = ngx_pnalloc(cf->pool, size + 1);
    if (wipe->data == NULL) {
        return NGX_ERROR;
    }

    wipe->len = size;
    cln->handler = ngx_http_refund_secret_file_wipe;

    content->data = wipe->data;
    content->len = 0;

    while (content->len < size) {
        n = ngx_read_fd(fd, content->data + content->len,
                        size - content->len);

        if (n == -1) {
            if (ngx_errno == NGX_EINTR) {
                continue;
            }

            ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                               ngx_read_fd_n " \"%V\" failed", name);
            return NGX_ERROR;
        }

        if (n == 0) {
            break;
        }

        content->len += n;
    }

    if (content->len && content->data[content->len - 1] == '\n') {
        content->len--;

        if (content->len && content->data[content->len - 1] == '\r') {
            content->len--;
        }
    }

    if (content->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is empty: put the key, password or "
                           "certificate into it", name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_refund_secret_file_wipe(void *data)
{
    ngx_str_t  *secret = data;

    OPENSSL_cleanse(secret->data, secret->len);
}


/*
 * Copyright (C) the refund-notify authors
 *
 * Secrets come from files only.
 */


#ifndef _NGX_HTTP_REFUND_SECRET_FILE_H_INCLUDED_
#define _NGX_HTTP_REFUND_SECRET_FILE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_REFUND_SECRET_FILE_MAX  65536      /* bytes */


/*
 * Reads the whole of a regular file of 1 to NGX_HTTP_REFUND_SECRET_FILE_MAX
 * bytes while the configuration is read.  A relative name is taken from the
 * directory of nginx.conf, as ssl_certificate takes it; name becomes the full
 * path, and is terminated by a NUL before and after.  content gets the bytes,
 * less one "\n" or "\r\n" at the end, in cf->pool; they are wiped when the pool
 * goes.  A file that others can read draws a warning.  NGX_OK, or NGX_ERROR
 * after a message that names the file.
 */

ngx_int_t ngx_http_refund_secret_file_read(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *content);


/* The same for what anybody may read: public keys and certificates. */

ngx_int_t ngx_http_refund_public_file_read(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *content);


#endif /* _NGX_HTTP_REFUND_SECRET_FILE_H_INCLUDED_ */

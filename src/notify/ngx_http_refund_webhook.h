
/*
 * Copyright (C) the refund-notify authors
 *
 * Standard Webhooks: the signature by which a business app knows that a
 * delivery comes from this nginx.
 */


#ifndef _NGX_HTTP_REFUND_WEBHOOK_H_INCLUDED_
#define _NGX_HTTP_REFUND_WEBHOOK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * refund_notify_signing_key_file file; a key file holds "whsec_" and the base64
 * of 24 to 64 bytes.  The directive's offset is that of an ngx_array_t *, which
 * is made with the first key.
 */

char *ngx_http_refund_webhook_key_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/*
 * signature: "v1,<base64>" for each key, separated by a space, in pool; it
 * covers id, "." timestamp (seconds, decimal), "." body.
 */

ngx_int_t ngx_http_refund_webhook_sign(ngx_array_t *keys, ngx_str_t *id,
    ngx_str_t *timestamp, ngx_str_t *body, ngx_pool_t *pool,
    ngx_str_t *signature);


#endif /* _NGX_HTTP_REFUND_WEBHOOK_H_INCLUDED_ */

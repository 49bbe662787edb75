
/*
 * Copyright (C) the refund-notify authors
 *
 * The dates of a certificate that the configuration names.
 */


#ifndef _NGX_HTTP_REFUND_CERTIFICATE_H_INCLUDED_
#define _NGX_HTTP_REFUND_CERTIFICATE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * While the configuration is read: a message names the file where the
 * certificate is not valid now or not for 30 days more.  NGX_CONF_OK, or
 * NGX_CONF_ERROR if it is ours, to be shown to others, and not valid.
 */

char *ngx_http_refund_certificate_dates(ngx_conf_t *cf, ngx_str_t *file,
    time_t not_before, time_t not_after, ngx_uint_t ours);


#endif /* _NGX_HTTP_REFUND_CERTIFICATE_H_INCLUDED_ */

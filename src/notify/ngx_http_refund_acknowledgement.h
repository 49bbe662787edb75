
/*
 * Copyright (C) the refund-notify authors
 *
 * "refund_notify_ack code": a business app that accepts says so in its answer,
 * a JSON object with "code":"SUCCESS".
 */


#ifndef _NGX_HTTP_REFUND_ACKNOWLEDGEMENT_H_INCLUDED_
#define _NGX_HTTP_REFUND_ACKNOWLEDGEMENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * NULL: accepted; else a static phrase that says why not.  An answer longer than
 * NGX_HTTP_REFUND_DELIVERY_ANSWER_SIZE is not looked into.
 */

const char *ngx_http_refund_acknowledgement(ngx_str_t *answer);


#endif /* _NGX_HTTP_REFUND_ACKNOWLEDGEMENT_H_INCLUDED_ */

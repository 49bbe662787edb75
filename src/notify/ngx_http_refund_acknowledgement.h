
/*
 * Copyright (C) the refund-notify authors
 *
 * Whether a business app has accepted what was delivered to it.
 */


#ifndef _NGX_HTTP_REFUND_ACKNOWLEDGEMENT_H_INCLUDED_
#define _NGX_HTTP_REFUND_ACKNOWLEDGEMENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_delivery.h"


/* what is kept of an answer, for NGX_HTTP_REFUND_ACK_CODE */
#define NGX_HTTP_REFUND_ACK_ANSWER_MAX  4096


typedef enum {
    NGX_HTTP_REFUND_ACK_STATUS = 0,     /* any 2xx accepts */
    NGX_HTTP_REFUND_ACK_CODE            /* 2xx and JSON "code":"SUCCESS" */
} ngx_http_refund_ack_e;


typedef enum {
    NGX_HTTP_REFUND_ACCEPTED = 0,
    NGX_HTTP_REFUND_REFUSED,            /* for certain not accepted */
    NGX_HTTP_REFUND_UNKNOWN             /* it may have been accepted */
} ngx_http_refund_outcome_e;


/*
 * Judges a delivery that has ended; for NGX_HTTP_REFUND_ACK_CODE it has kept
 * NGX_HTTP_REFUND_ACK_ANSWER_MAX bytes of its answer.  reason: a static phrase,
 * or NULL for one that was accepted.
 */

ngx_http_refund_outcome_e ngx_http_refund_acknowledgement(
    ngx_http_refund_delivery_t *delivery, ngx_http_refund_ack_e ack,
    const char **reason);


#endif /* _NGX_HTTP_REFUND_ACKNOWLEDGEMENT_H_INCLUDED_ */

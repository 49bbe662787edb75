
/*
 * Copyright (C) the refund-notify authors
 *
 * One target of an event: claim, deliver, then commit or release.
 */


#ifndef _NGX_HTTP_REFUND_TARGET_H_INCLUDED_
#define _NGX_HTTP_REFUND_TARGET_H_INCLUDED_


#include "ngx_http_refund_event.h"


/*
 * Asks the store.  NGX_OK: it is to be delivered now, by the call below (its
 * flag claimed is set); NGX_DONE: it is settled; NGX_AGAIN: it goes on by
 * itself when the store has answered.
 */

ngx_int_t ngx_http_refund_target_claim(ngx_http_refund_target_t *target);


void ngx_http_refund_target_deliver(ngx_http_refund_target_t *target);


/* The target that a delivery is for, or NULL: it is another's. */

ngx_http_refund_target_t *ngx_http_refund_target_of(
    ngx_http_refund_delivery_t *delivery);


/* Says in the log what this worker could not tell the stores. */

void ngx_http_refund_target_exit_process(void);


#endif /* _NGX_HTTP_REFUND_TARGET_H_INCLUDED_ */

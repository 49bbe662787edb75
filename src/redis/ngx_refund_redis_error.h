
/*
 * Copyright (C) the refund-notify authors
 *
 * What Redis' error replies mean, and what becomes of the connection.
 */


#ifndef _NGX_REFUND_REDIS_ERROR_H_INCLUDED_
#define _NGX_REFUND_REDIS_ERROR_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


typedef enum {
    NGX_REFUND_REDIS_KEEP = 0,          /* the command failed, no more */
    NGX_REFUND_REDIS_RECONNECT,         /* this peer serves us no more */
    NGX_REFUND_REDIS_REFUSED            /* likewise, until ops mend it */
} ngx_refund_redis_action_e;


/* Redis says of the command that it was not run: where to try it again */

typedef enum {
    NGX_REFUND_REDIS_NOWHERE = 0,
    NGX_REFUND_REDIS_MOVED,             /* on the node that it names */
    NGX_REFUND_REDIS_ASK,               /* likewise, this once */
    NGX_REFUND_REDIS_LATER,             /* here, in a moment */
    NGX_REFUND_REDIS_ELSEWHERE          /* on whichever node it is by now */
} ngx_refund_redis_again_e;


typedef struct {
    const char                 *prefix; /* of the reply, without the "-" */
    size_t                      len;
    const char                 *phrase; /* for logs */
    ngx_refund_redis_action_e   action;
    ngx_refund_redis_again_e    again;
} ngx_refund_redis_error_t;


/*
 * The class of an error reply, told by its first word; text is the reply
 * without "-" and CRLF.  Static, never NULL: what is not in the table is one
 * class.
 */

const ngx_refund_redis_error_t *ngx_refund_redis_error(const char *text,
    size_t len);


/* Does the user lack the permission, or Redis the command? */

ngx_uint_t ngx_refund_redis_error_no_command(
    const ngx_refund_redis_error_t *error);


#endif /* _NGX_REFUND_REDIS_ERROR_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 *
 * What is an address by its text, and what is a name.  Nothing here needs more
 * of nginx than its types.
 */


#ifndef _NGX_REFUND_REDIS_NUMERIC_H_INCLUDED_
#define _NGX_REFUND_REDIS_NUMERIC_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Is it a numeric IPv4 or IPv6 address?  Whatever is not has to be looked up:
 * hiredis must not be given it, whose getaddrinfo() would wait for the answer.
 * What that takes for an address is what is one here, while ngx_inet_addr()
 * takes "1.2.3." and "08.1.1.1", too.
 */

ngx_uint_t ngx_refund_redis_numeric(const ngx_str_t *host);


#endif /* _NGX_REFUND_REDIS_NUMERIC_H_INCLUDED_ */

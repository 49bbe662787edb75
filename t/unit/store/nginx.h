
/*
 * Copyright (C) the refund-notify authors
 *
 * Stand-ins for what the store calls of nginx.
 */


#ifndef TEST_NGINX_H
#define TEST_NGINX_H


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Lays a zone out anew as nginx would: memory that fork() shares.  Its table is
 * made by the caller of the module's own function before.
 */

void test_zone_init(ngx_shm_zone_t *zone);
void test_zone_done(ngx_shm_zone_t *zone);

/* What runs before the configuration's memory goes. */

void test_cleanup(void);

extern ngx_uint_t  test_warnings;           /* that were logged */


#endif /* TEST_NGINX_H */

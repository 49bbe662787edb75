
/*
 * Copyright (C) the refund-notify authors
 *
 * Records in shared memory: the embedded store, the cache in front of Redis.
 * A worker that is killed in the midst of a change leaves nothing broken: the
 * next one to take the lock finds it out and links all records anew.
 */


#ifndef _NGX_HTTP_REFUND_STORE_TABLE_H_INCLUDED_
#define _NGX_HTTP_REFUND_STORE_TABLE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_refund_store_record.h"


#define NGX_HTTP_REFUND_STORE_TABLE_MIN  (64 * 1024)    /* bytes of a zone */


typedef struct ngx_http_refund_store_table_s  ngx_http_refund_store_table_t;


typedef enum {
    NGX_HTTP_REFUND_STORE_TABLE_OK = 0,
    NGX_HTTP_REFUND_STORE_TABLE_DONE,           /* accepted before */
    NGX_HTTP_REFUND_STORE_TABLE_IN_FLIGHT,      /* another holds the lease */
    NGX_HTTP_REFUND_STORE_TABLE_LOST,           /* no longer this owner's */
    NGX_HTTP_REFUND_STORE_TABLE_FULL,           /* and nothing may be dropped */
    NGX_HTTP_REFUND_STORE_TABLE_ERROR           /* the key cannot be hashed */
} ngx_http_refund_store_table_result_e;


/* One record: times are milliseconds. */

typedef struct {
    ngx_str_t     key;
    u_char       *owner;        /* NGX_HTTP_REFUND_STORE_OWNER_LEN bytes */
    ngx_uint_t    attempt;      /* set by claim */
    ngx_msec_t    lease;
    ngx_msec_t    retain;
    unsigned      mine:1;       /* a mark, see ngx_http_refund_store_op_t */
    unsigned      again:1;      /* set by claim */
} ngx_http_refund_store_entry_t;


/*
 * Adds a zone of size bytes, at least NGX_HTTP_REFUND_STORE_TABLE_MIN, to the
 * configuration; its data is the table.  forgets: a reload empties it, and
 * what it drops for want of room is nothing to warn of.  NULL: an error,
 * which was logged.
 */

ngx_shm_zone_t *ngx_http_refund_store_table_add(ngx_conf_t *cf,
    ngx_str_t *name, size_t size, ngx_uint_t forgets);


/*
 * All of these take O(1).  Where there is no room the oldest accepted record
 * goes first, one that is not accepted never before its time.
 */

ngx_http_refund_store_table_result_e ngx_http_refund_store_table_claim(
    ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry);
ngx_http_refund_store_table_result_e ngx_http_refund_store_table_renew(
    ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry);
ngx_http_refund_store_table_result_e ngx_http_refund_store_table_release(
    ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry);
ngx_http_refund_store_table_result_e ngx_http_refund_store_table_commit(
    ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry);
ngx_http_refund_store_table_result_e ngx_http_refund_store_table_keep(
    ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry);


/* Is the key known to be accepted? */

ngx_uint_t ngx_http_refund_store_table_done(
    ngx_http_refund_store_table_t *table, ngx_str_t *key);


/*
 * What fills the zone: records, those whose time is over included; what it has
 * room for; and how many accepted ones were dropped before their time, since
 * the start.
 */

typedef struct {
    ngx_uint_t          records;
    ngx_uint_t          capacity;
    ngx_atomic_uint_t   evicted;
} ngx_http_refund_store_fill_t;

void ngx_http_refund_store_table_fill(ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_fill_t *fill);


#endif /* _NGX_HTTP_REFUND_STORE_TABLE_H_INCLUDED_ */

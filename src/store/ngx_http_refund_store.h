
/*
 * Copyright (C) the refund-notify authors
 *
 * Idempotency: one record for each (event id, target), which says whether the
 * target has accepted the event, and who may deliver it now.  The interface
 * that the handlers see; they do not know which backend is behind it.
 */


#ifndef _NGX_HTTP_REFUND_STORE_H_INCLUDED_
#define _NGX_HTTP_REFUND_STORE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_refund_store_record.h"
#include "ngx_refund_counters.h"


typedef struct ngx_http_refund_store_s      ngx_http_refund_store_t;
typedef struct ngx_http_refund_store_op_s   ngx_http_refund_store_op_t;

typedef struct ngx_http_refund_store_batch_s  ngx_http_refund_store_batch_t;


typedef enum {
    NGX_HTTP_REFUND_STORE_OK = 0,       /* claim: ours; else: done */
    NGX_HTTP_REFUND_STORE_DONE,         /* claim: was accepted before */
    NGX_HTTP_REFUND_STORE_IN_FLIGHT,    /* claim: another holds the lease */
    NGX_HTTP_REFUND_STORE_LOST,         /* renew, release: no longer ours */
    NGX_HTTP_REFUND_STORE_ERROR         /* not known to be done: see reason */
} ngx_http_refund_store_result_e;


/*
 * One operation.  The caller owns it and fills in what is above "set by the
 * store"; the memory, the key's too, must live until the operation ended.  An
 * operation ends exactly once: either the call returns NGX_OK and result is
 * set, or it returns NGX_AGAIN and handler is called later (never from within
 * the call), at the latest after the store's timeout and a bit (a claim of a
 * record that another has had: twice that), and also when the worker exits.
 * The handler may start another operation with the same op, or free it.
 */

typedef void (*ngx_http_refund_store_handler_pt)(
    ngx_http_refund_store_op_t *op);

struct ngx_http_refund_store_op_s {
    ngx_http_refund_store_t           *store;
    ngx_str_t                          key;     /* "{id}target", no prefix */
    ngx_msec_t                         lease;
    ngx_msec_t                         retain;
    ngx_http_refund_store_handler_pt   handler;
    void                              *data;

    /*
     * claim sets both, with a fresh random owner; renew and release take them,
     * with the lease and retain of the claim.  Where mine is set the owner is
     * the caller's, and the claim no lease but a mark that stays: who finds his
     * own gets it again, with its attempt; release takes it away; and a
     * store that is full may forget it.
     */
    u_char                             owner[NGX_HTTP_REFUND_STORE_OWNER_LEN];
    ngx_uint_t                         attempt;
    unsigned                           mine:1;

    /* set by the store */
    unsigned                           again:1; /* claim: it was there */
    ngx_http_refund_store_result_e     result;
    const char                        *reason;  /* static phrase on ERROR */

    /* the backend's own, while the operation is under way */
    ngx_uint_t                         state;
    ngx_queue_t                        queue;
    ngx_msec_t                         deadline;
    ngx_http_refund_store_batch_t     *batch;

    /* for the counters */
    ngx_refund_store_operation_e       operation;
    uint64_t                           started;
    ngx_msec_t                         timeout; /* when it would be one */
};


/* How the worker stands with the store, for refund_status. */

typedef struct {
    ngx_refund_reach_e                 reach;
    ngx_uint_t                         connections; /* that are ready */
} ngx_http_refund_store_state_t;


typedef struct {
    ngx_str_t    name;                  /* "shm", "redis" */

    ngx_int_t  (*init_process)(ngx_http_refund_store_t *store,
                               ngx_cycle_t *cycle);
    void       (*exit_process)(ngx_http_refund_store_t *store);

    ngx_int_t  (*claim)(ngx_http_refund_store_op_t *op);
    ngx_int_t  (*renew)(ngx_http_refund_store_op_t *op);
    ngx_int_t  (*release)(ngx_http_refund_store_op_t *op);
    ngx_int_t  (*commit)(ngx_http_refund_store_op_t *op);
    ngx_int_t  (*keep)(ngx_http_refund_store_op_t *op);

    /* never waits; state is zeroed; NULL: always within reach */
    void       (*state)(ngx_http_refund_store_t *store,
                        ngx_http_refund_store_state_t *state);
} ngx_http_refund_store_ops_t;


struct ngx_http_refund_store_s {
    ngx_str_t                           name;
    ngx_str_t                           url;
    ngx_msec_t                          timeout;    /* of each call; 0: shm */
    const ngx_http_refund_store_ops_t  *ops;
    void                               *data;       /* the backend's */
    ngx_shm_zone_t                     *cache;      /* NULL: off */
    ngx_str_t                           file;       /* it was configured in */
    ngx_uint_t                          line;
    ngx_uint_t                          used;       /* by a location */
    ngx_refund_store_counters_t        *counters;   /* NULL: none */
};


/* refund_store name url [parameters]; conf is the array of stores below */

char *ngx_http_refund_store_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* stores: ngx_array_t of ngx_http_refund_store_t * */

ngx_http_refund_store_t *ngx_http_refund_store_find(ngx_array_t *stores,
    ngx_str_t *name);

/* The embedded store of all locations that name none: shm:10m. */

ngx_http_refund_store_t *ngx_http_refund_store_default(ngx_conf_t *cf,
    ngx_array_t *stores);

/*
 * After the configuration was read, for by then it is known whether http has a
 * "resolver": tells the stores, and refuses host names that are never found.
 */

ngx_int_t ngx_http_refund_stores_init_names(ngx_conf_t *cf,
    ngx_array_t *stores);

/*
 * In the master, when the configuration is about to be used: warns of records
 * that a reload or a binary upgrade forgets.
 */

ngx_int_t ngx_http_refund_stores_init_module(ngx_cycle_t *cycle);

ngx_int_t ngx_http_refund_stores_init_process(ngx_array_t *stores,
    ngx_cycle_t *cycle);
void ngx_http_refund_stores_exit_process(ngx_array_t *stores);


/*
 * claim: OK (ours; attempt is set), DONE, IN_FLIGHT or ERROR.  What is known on
 * this machine to be accepted is answered without asking.
 */
ngx_int_t ngx_http_refund_store_claim(ngx_http_refund_store_op_t *op);

/* renew: the lease starts anew; OK, LOST or ERROR */
ngx_int_t ngx_http_refund_store_renew(ngx_http_refund_store_op_t *op);

/* release: the delivery failed for certain, the next may claim at once */
ngx_int_t ngx_http_refund_store_release(ngx_http_refund_store_op_t *op);

/*
 * commit: the target accepted, whoever holds the lease; OK or ERROR.  This
 * machine's cache remembers it from this call on, whatever the backend says.
 */
ngx_int_t ngx_http_refund_store_commit(ngx_http_refund_store_op_t *op);

/* keep: writes the claim, with op's attempt, whoever holds it; OK or ERROR */
ngx_int_t ngx_http_refund_store_keep(ngx_http_refund_store_op_t *op);


#endif /* _NGX_HTTP_REFUND_STORE_H_INCLUDED_ */


/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <openssl/evp.h>

#include "ngx_http_refund_store_table.h"


#define NGX_HTTP_REFUND_STORE_TABLE_MAGIC    0x52464e54     /* "RFNT" */
#define NGX_HTTP_REFUND_STORE_TABLE_VERSION  3

#define NGX_HTTP_REFUND_STORE_TABLE_KEY_LEN  16     /* 128 bits of SHA-256 */
#define NGX_HTTP_REFUND_STORE_TABLE_EXPIRE   2      /* records an insertion */
#define NGX_HTTP_REFUND_STORE_TABLE_WARN     60000  /* ms between warnings */


/* The states of a node; memory that was never used is 0. */

#define NGX_HTTP_REFUND_STORE_NODE_FREE       0
#define NGX_HTTP_REFUND_STORE_NODE_UNDER_WAY  1
#define NGX_HTTP_REFUND_STORE_NODE_FAILED     2
#define NGX_HTTP_REFUND_STORE_NODE_DONE       3
#define NGX_HTTP_REFUND_STORE_NODE_MARK       4


/*
 * Links are numbers of nodes from 1, and 0 is none.  What a node says by itself
 * is enough to rebuild them; its state is written last when it comes to life,
 * and first when it goes.
 */

typedef struct {
    u_char      key[NGX_HTTP_REFUND_STORE_TABLE_KEY_LEN];
    u_char      owner[NGX_HTTP_REFUND_STORE_OWNER_LEN];
    uint64_t    lease;          /* when it ends, by ngx_current_msec */
    uint64_t    expires;
    uint32_t    attempt;
    uint32_t    state;
    uint32_t    bucket;         /* the next in the hash bucket, or free */
    uint32_t    prev;
    uint32_t    next;
} ngx_http_refund_store_node_t;


typedef struct {
    uint32_t    head;
    uint32_t    tail;
} ngx_http_refund_store_list_t;


/*
 * Marks and what has been accepted may be forgotten, in this order, the rest
 * not; of each the longest untouched first.
 */

enum {
    NGX_HTTP_REFUND_STORE_LIST_MARK = 0,
    NGX_HTTP_REFUND_STORE_LIST_DONE,
    NGX_HTTP_REFUND_STORE_LIST_OPEN,
    NGX_HTTP_REFUND_STORE_LISTS
};


typedef struct {
    uint32_t                       magic;
    uint32_t                       version;
    uint32_t                       node_size;
    uint32_t                       dirty;

    uint32_t                       nodes;       /* there is room for */
    uint32_t                       used;        /* those after it: never */
    uint32_t                       records;     /* used and not free */
    uint32_t                       mask;        /* of the hash buckets */
    uint32_t                       free;
    ngx_http_refund_store_list_t   lists[NGX_HTTP_REFUND_STORE_LISTS];

    uint64_t                       warned;      /* when last; 0: never */
    uint64_t                       unwarned;    /* evicted since then */
    ngx_atomic_t                   evicted;
} ngx_http_refund_store_shared_t;


struct ngx_http_refund_store_table_s {
    ngx_http_refund_store_shared_t  *shared;
    uint32_t                        *buckets;
    ngx_http_refund_store_node_t    *nodes;     /* nodes[0] is number 1 */
    ngx_slab_pool_t                 *shpool;
    ngx_shm_zone_t                  *zone;
    EVP_MD_CTX                      *context;
    EVP_MD                          *sha256;
    ngx_uint_t                       forgets;
};


#define ngx_http_refund_store_node(table, n)  (&(table)->nodes[(n) - 1])


static void ngx_http_refund_store_table_cleanup(void *data);
static ngx_int_t ngx_http_refund_store_table_init(ngx_shm_zone_t *zone,
    void *data);
static void ngx_http_refund_store_table_layout(
    ngx_http_refund_store_table_t *table);

static ngx_int_t ngx_http_refund_store_table_hash(
    ngx_http_refund_store_table_t *table, ngx_str_t *key, u_char *hash);
static void ngx_http_refund_store_table_lock(
    ngx_http_refund_store_table_t *table);
static void ngx_http_refund_store_table_unlock(
    ngx_http_refund_store_table_t *table);

static ngx_http_refund_store_table_result_e ngx_http_refund_store_table_set(
    ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry, ngx_uint_t state);

static uint32_t *ngx_http_refund_store_table_bucket(
    ngx_http_refund_store_table_t *table, u_char *hash);
static uint32_t ngx_http_refund_store_table_find(
    ngx_http_refund_store_table_t *table, u_char *hash);
static uint32_t ngx_http_refund_store_table_owned(
    ngx_http_refund_store_table_t *table, u_char *hash,
    ngx_http_refund_store_entry_t *entry);
static uint32_t ngx_http_refund_store_table_insert(
    ngx_http_refund_store_table_t *table, u_char *hash);
static void ngx_http_refund_store_table_remove(
    ngx_http_refund_store_table_t *table, uint32_t n);
static void ngx_http_refund_store_table_expire(
    ngx_http_refund_store_table_t *table);
static void ngx_http_refund_store_table_state(
    ngx_http_refund_store_table_t *table, uint32_t n, uint32_t state);

static ngx_http_refund_store_list_t *ngx_http_refund_store_list(
    ngx_http_refund_store_table_t *table, uint32_t n);
static void ngx_http_refund_store_list_append(
    ngx_http_refund_store_table_t *table, uint32_t n);
static void ngx_http_refund_store_list_remove(
    ngx_http_refund_store_table_t *table, uint32_t n);

static void ngx_http_refund_store_table_rebuild(
    ngx_http_refund_store_table_t *table);
static uint32_t ngx_http_refund_store_table_sort(
    ngx_http_refund_store_table_t *table, uint32_t list, uint32_t n,
    uint32_t *rest);


extern ngx_module_t  ngx_http_refund_notify_module;


ngx_shm_zone_t *
ngx_http_refund_store_table_add(ngx_conf_t *cf, ngx_str_t *name, size_t size,
    ngx_uint_t forgets)
{
    ngx_shm_zone_t                 *zone;
    ngx_pool_cleanup_t             *cln;
    ngx_http_refund_store_table_t  *table;

    cln = ngx_pool_cleanup_add(cf->pool,
                               sizeof(ngx_http_refund_store_table_t));
    if (cln == NULL) {
        return NULL;
    }

    table = cln->data;
    ngx_memzero(table, sizeof(ngx_http_refund_store_table_t));

    cln->handler = ngx_http_refund_store_table_cleanup;

    table->context = EVP_MD_CTX_new();
    table->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);

    if (table->context == NULL || table->sha256 == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "OpenSSL has no SHA-256");
        return NULL;
    }

    zone = ngx_shared_memory_add(cf, name, size,
                                 &ngx_http_refund_notify_module);
    if (zone == NULL) {
        return NULL;
    }

    zone->init = ngx_http_refund_store_table_init;
    zone->data = table;
    zone->noreuse = forgets;

    table->zone = zone;
    table->forgets = forgets;

    return zone;
}


static void
ngx_http_refund_store_table_cleanup(void *data)
{
    ngx_http_refund_store_table_t  *table = data;

    EVP_MD_CTX_free(table->context);
    EVP_MD_free(table->sha256);
}


static ngx_int_t
ngx_http_refund_store_table_init(ngx_shm_zone_t *zone, void *data)
{
    void                            *p;
    size_t                           size, left;
    uint32_t                         nodes, buckets;
    ngx_slab_pool_t                 *shpool;
    ngx_http_refund_store_table_t   *table;
    ngx_http_refund_store_shared_t  *shared;

    table = zone->data;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;
    table->shpool = shpool;

    if (data || zone->shm.exists) {
        shared = shpool->data;

        if (shared->magic != NGX_HTTP_REFUND_STORE_TABLE_MAGIC
            || shared->version != NGX_HTTP_REFUND_STORE_TABLE_VERSION
            || shared->node_size != sizeof(ngx_http_refund_store_node_t))
        {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "shared memory zone \"%V\" was laid out by another "
                          "version of the module: restart nginx",
                          &zone->shm.name);
            return NGX_ERROR;
        }

        table->shared = shared;
        ngx_http_refund_store_table_layout(table);

        return NGX_OK;
    }

    /* one run of all the pages there are, zeroed by the system */

    size = shpool->pfree << ngx_pagesize_shift;

    p = ngx_slab_alloc(shpool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    shared = p;
    left = ngx_min(size - sizeof(ngx_http_refund_store_shared_t),
                   (size_t) NGX_MAX_INT32_VALUE
                   * sizeof(ngx_http_refund_store_node_t));

    /* as many buckets as nodes, or more: the next power of two */

    nodes = (uint32_t) (left / (sizeof(ngx_http_refund_store_node_t)
                                + sizeof(uint32_t)));

    for (buckets = 1; buckets < nodes; buckets <<= 1) {
        /* void */
    }

    nodes = (uint32_t) ((left - buckets * sizeof(uint32_t))
                        / sizeof(ngx_http_refund_store_node_t));

    ngx_memzero(shared, sizeof(ngx_http_refund_store_shared_t));

    shared->magic = NGX_HTTP_REFUND_STORE_TABLE_MAGIC;
    shared->version = NGX_HTTP_REFUND_STORE_TABLE_VERSION;
    shared->node_size = sizeof(ngx_http_refund_store_node_t);
    shared->nodes = nodes;
    shared->mask = buckets - 1;

    shpool->data = shared;
    table->shared = shared;

    ngx_http_refund_store_table_layout(table);

    ngx_memzero(table->buckets, buckets * sizeof(uint32_t));

    ngx_log_error(NGX_LOG_NOTICE, zone->shm.log, 0,
                  "shared memory zone \"%V\" has room for %uD notifies",
                  &zone->shm.name, nodes);

    return NGX_OK;
}


/* Nodes, whose numbers of 64 bits want to be aligned, before the buckets. */

static void
ngx_http_refund_store_table_layout(ngx_http_refund_store_table_t *table)
{
    table->nodes = (ngx_http_refund_store_node_t *) (table->shared + 1);
    table->buckets = (uint32_t *) (table->nodes + table->shared->nodes);
}


ngx_http_refund_store_table_result_e
ngx_http_refund_store_table_claim(ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry)
{
    u_char                                 hash[EVP_MAX_MD_SIZE];
    uint32_t                               n, state;
    ngx_http_refund_store_node_t          *node;
    ngx_http_refund_store_table_result_e   result;

    if (ngx_http_refund_store_table_hash(table, &entry->key, hash) != NGX_OK) {
        return NGX_HTTP_REFUND_STORE_TABLE_ERROR;
    }

    ngx_http_refund_store_table_lock(table);

    n = ngx_http_refund_store_table_find(table, hash);

    if (n == 0) {
        n = ngx_http_refund_store_table_insert(table, hash);
    }

    if (n == 0) {
        result = NGX_HTTP_REFUND_STORE_TABLE_FULL;
        goto done;
    }

    node = ngx_http_refund_store_node(table, n);

    if (node->state == NGX_HTTP_REFUND_STORE_NODE_DONE) {
        result = NGX_HTTP_REFUND_STORE_TABLE_DONE;

    } else if (node->state == NGX_HTTP_REFUND_STORE_NODE_UNDER_WAY
               && node->lease > ngx_current_msec)
    {
        result = NGX_HTTP_REFUND_STORE_TABLE_IN_FLIGHT;

    } else if (node->state == NGX_HTTP_REFUND_STORE_NODE_MARK) {

        if (ngx_memcmp(node->owner, entry->owner,
                       NGX_HTTP_REFUND_STORE_OWNER_LEN)
            == 0)
        {
            entry->attempt = node->attempt;
            entry->again = 1;
            result = NGX_HTTP_REFUND_STORE_TABLE_OK;

        } else {
            result = NGX_HTTP_REFUND_STORE_TABLE_IN_FLIGHT;
        }

    } else {
        node->attempt++;
        ngx_memcpy(node->owner, entry->owner, NGX_HTTP_REFUND_STORE_OWNER_LEN);
        node->lease = ngx_current_msec + entry->lease;
        node->expires = ngx_current_msec + entry->retain;

        state = entry->mine ? NGX_HTTP_REFUND_STORE_NODE_MARK
                            : NGX_HTTP_REFUND_STORE_NODE_UNDER_WAY;

        ngx_http_refund_store_table_state(table, n, state);

        entry->attempt = node->attempt;
        result = NGX_HTTP_REFUND_STORE_TABLE_OK;
    }

done:

    ngx_http_refund_store_table_unlock(table);

    return result;
}


ngx_http_refund_store_table_result_e
ngx_http_refund_store_table_renew(ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry)
{
    u_char                         hash[EVP_MAX_MD_SIZE];
    uint32_t                       n;
    ngx_http_refund_store_node_t  *node;

    if (ngx_http_refund_store_table_hash(table, &entry->key, hash) != NGX_OK) {
        return NGX_HTTP_REFUND_STORE_TABLE_ERROR;
    }

    ngx_http_refund_store_table_lock(table);

    n = ngx_http_refund_store_table_owned(table, hash, entry);

    if (n) {
        node = ngx_http_refund_store_node(table, n);
        node->lease = ngx_current_msec + entry->lease;
        node->expires = ngx_current_msec + entry->retain;

        ngx_http_refund_store_table_state(table, n,
                                         NGX_HTTP_REFUND_STORE_NODE_UNDER_WAY);
    }

    ngx_http_refund_store_table_unlock(table);

    return n ? NGX_HTTP_REFUND_STORE_TABLE_OK
             : NGX_HTTP_REFUND_STORE_TABLE_LOST;
}


ngx_http_refund_store_table_result_e
ngx_http_refund_store_table_release(ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry)
{
    u_char    hash[EVP_MAX_MD_SIZE];
    uint32_t  n;

    if (ngx_http_refund_store_table_hash(table, &entry->key, hash) != NGX_OK) {
        return NGX_HTTP_REFUND_STORE_TABLE_ERROR;
    }

    ngx_http_refund_store_table_lock(table);

    n = ngx_http_refund_store_table_owned(table, hash, entry);

    if (n && entry->mine) {
        ngx_http_refund_store_table_remove(table, n);

    } else if (n) {
        ngx_http_refund_store_node(table, n)->expires = ngx_current_msec
                                                        + entry->retain;

        ngx_http_refund_store_table_state(table, n,
                                          NGX_HTTP_REFUND_STORE_NODE_FAILED);
    }

    ngx_http_refund_store_table_unlock(table);

    return n ? NGX_HTTP_REFUND_STORE_TABLE_OK
             : NGX_HTTP_REFUND_STORE_TABLE_LOST;
}


ngx_http_refund_store_table_result_e
ngx_http_refund_store_table_commit(ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry)
{
    return ngx_http_refund_store_table_set(table, entry,
                                           NGX_HTTP_REFUND_STORE_NODE_DONE);
}


ngx_http_refund_store_table_result_e
ngx_http_refund_store_table_keep(ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry)
{
    return ngx_http_refund_store_table_set(table, entry,
                                           NGX_HTTP_REFUND_STORE_NODE_MARK);
}


/* Whoever holds it. */

static ngx_http_refund_store_table_result_e
ngx_http_refund_store_table_set(ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_entry_t *entry, ngx_uint_t state)
{
    u_char                         hash[EVP_MAX_MD_SIZE];
    uint32_t                       n;
    ngx_http_refund_store_node_t  *node;

    if (ngx_http_refund_store_table_hash(table, &entry->key, hash) != NGX_OK) {
        return NGX_HTTP_REFUND_STORE_TABLE_ERROR;
    }

    ngx_http_refund_store_table_lock(table);

    n = ngx_http_refund_store_table_find(table, hash);

    if (n == 0) {
        n = ngx_http_refund_store_table_insert(table, hash);
    }

    if (n) {
        node = ngx_http_refund_store_node(table, n);
        node->expires = ngx_current_msec + entry->retain;

        if (state == NGX_HTTP_REFUND_STORE_NODE_MARK) {
            ngx_memcpy(node->owner, entry->owner,
                       NGX_HTTP_REFUND_STORE_OWNER_LEN);
            node->attempt = entry->attempt;
            node->lease = ngx_current_msec + entry->lease;
        }

        ngx_http_refund_store_table_state(table, n, state);
    }

    ngx_http_refund_store_table_unlock(table);

    return n ? NGX_HTTP_REFUND_STORE_TABLE_OK
             : NGX_HTTP_REFUND_STORE_TABLE_FULL;
}


ngx_uint_t
ngx_http_refund_store_table_done(ngx_http_refund_store_table_t *table,
    ngx_str_t *key)
{
    u_char      hash[EVP_MAX_MD_SIZE];
    uint32_t    n;
    ngx_uint_t  done;

    if (ngx_http_refund_store_table_hash(table, key, hash) != NGX_OK) {
        return 0;
    }

    ngx_http_refund_store_table_lock(table);

    n = ngx_http_refund_store_table_find(table, hash);

    done = n && ngx_http_refund_store_node(table, n)->state
                == NGX_HTTP_REFUND_STORE_NODE_DONE;

    ngx_http_refund_store_table_unlock(table);

    return done;
}


void
ngx_http_refund_store_table_fill(ngx_http_refund_store_table_t *table,
    ngx_http_refund_store_fill_t *fill)
{
    ngx_http_refund_store_table_lock(table);

    fill->records = table->shared->records;
    fill->capacity = table->shared->nodes;
    fill->evicted = table->shared->evicted;

    ngx_http_refund_store_table_unlock(table);
}


static ngx_int_t
ngx_http_refund_store_table_hash(ngx_http_refund_store_table_t *table,
    ngx_str_t *key, u_char *hash)
{
    if (EVP_DigestInit_ex2(table->context, table->sha256, NULL) != 1
        || EVP_DigestUpdate(table->context, key->data, key->len) != 1
        || EVP_DigestFinal_ex(table->context, hash, NULL) != 1)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_refund_store_table_lock(ngx_http_refund_store_table_t *table)
{
    ngx_shmtx_lock(&table->shpool->mutex);

    if (table->shared->dirty) {
        ngx_http_refund_store_table_rebuild(table);
    }

    table->shared->dirty = 1;
    ngx_memory_barrier();
}


static void
ngx_http_refund_store_table_unlock(ngx_http_refund_store_table_t *table)
{
    uint64_t                         evicted;
    ngx_http_refund_store_shared_t  *shared;

    shared = table->shared;
    evicted = 0;

    if (shared->unwarned
        && (shared->warned == 0
            || ngx_current_msec - shared->warned
               >= NGX_HTTP_REFUND_STORE_TABLE_WARN))
    {
        evicted = shared->unwarned;
        shared->unwarned = 0;
        shared->warned = ngx_current_msec;
    }

    ngx_memory_barrier();
    shared->dirty = 0;

    ngx_shmtx_unlock(&table->shpool->mutex);

    if (evicted) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "shared memory zone \"%V\" is full: %uL accepted "
                      "notifies were forgotten before their time, make it "
                      "larger", &table->zone->shm.name, evicted);
    }
}


static uint32_t *
ngx_http_refund_store_table_bucket(ngx_http_refund_store_table_t *table,
    u_char *hash)
{
    uint32_t  n;

    ngx_memcpy(&n, hash, sizeof(uint32_t));

    return &table->buckets[n & table->shared->mask];
}


/* The number of a record that lives, or 0. */

static uint32_t
ngx_http_refund_store_table_find(ngx_http_refund_store_table_t *table,
    u_char *hash)
{
    uint32_t                       n;
    ngx_http_refund_store_node_t  *node;

    for (n = *ngx_http_refund_store_table_bucket(table, hash);
         n;
         n = node->bucket)
    {
        node = ngx_http_refund_store_node(table, n);

        if (ngx_memcmp(node->key, hash, NGX_HTTP_REFUND_STORE_TABLE_KEY_LEN)
            != 0)
        {
            continue;
        }

        if (node->expires > ngx_current_msec) {
            return n;
        }

        ngx_http_refund_store_table_remove(table, n);

        return 0;
    }

    return 0;
}


static uint32_t
ngx_http_refund_store_table_owned(ngx_http_refund_store_table_t *table,
    u_char *hash, ngx_http_refund_store_entry_t *entry)
{
    uint32_t                       n;
    ngx_http_refund_store_node_t  *node;

    n = ngx_http_refund_store_table_find(table, hash);

    if (n == 0) {
        return 0;
    }

    node = ngx_http_refund_store_node(table, n);

    if ((node->state != NGX_HTTP_REFUND_STORE_NODE_UNDER_WAY
         && node->state != NGX_HTTP_REFUND_STORE_NODE_MARK)
        || node->attempt != entry->attempt
        || ngx_memcmp(node->owner, entry->owner,
                      NGX_HTTP_REFUND_STORE_OWNER_LEN)
           != 0)
    {
        return 0;
    }

    return n;
}


/* A node for a new record, with all but the state, that makes it one; or 0. */

static uint32_t
ngx_http_refund_store_table_insert(ngx_http_refund_store_table_t *table,
    u_char *hash)
{
    uint32_t                         n, *bucket;
    ngx_http_refund_store_node_t    *node;
    ngx_http_refund_store_shared_t  *shared;

    shared = table->shared;

    ngx_http_refund_store_table_expire(table);

    if (shared->free == 0 && shared->used == shared->nodes) {

        n = shared->lists[NGX_HTTP_REFUND_STORE_LIST_MARK].head;

        if (n == 0) {
            n = shared->lists[NGX_HTTP_REFUND_STORE_LIST_DONE].head;

            if (n == 0) {
                return 0;
            }

            shared->evicted++;
            shared->unwarned += !table->forgets;
        }

        ngx_http_refund_store_table_remove(table, n);
    }

    if (shared->free) {
        n = shared->free;
        shared->free = ngx_http_refund_store_node(table, n)->bucket;

    } else {
        n = ++shared->used;
    }

    node = ngx_http_refund_store_node(table, n);
    bucket = ngx_http_refund_store_table_bucket(table, hash);

    ngx_memzero(node, sizeof(ngx_http_refund_store_node_t));
    ngx_memcpy(node->key, hash, NGX_HTTP_REFUND_STORE_TABLE_KEY_LEN);

    node->bucket = *bucket;
    *bucket = n;

    shared->records++;

    return n;
}


static void
ngx_http_refund_store_table_remove(ngx_http_refund_store_table_t *table,
    uint32_t n)
{
    uint32_t                      *link;
    ngx_http_refund_store_node_t  *node;

    ngx_http_refund_store_list_remove(table, n);

    node = ngx_http_refund_store_node(table, n);

    node->state = NGX_HTTP_REFUND_STORE_NODE_FREE;
    ngx_memory_barrier();

    link = ngx_http_refund_store_table_bucket(table, node->key);

    while (*link != n) {
        link = &ngx_http_refund_store_node(table, *link)->bucket;
    }

    *link = node->bucket;

    node->bucket = table->shared->free;
    table->shared->free = n;

    table->shared->records--;
}


static void
ngx_http_refund_store_table_expire(ngx_http_refund_store_table_t *table)
{
    uint32_t    n;
    ngx_uint_t  i, k;

    for (i = 0; i < NGX_HTTP_REFUND_STORE_LISTS; i++) {

        for (k = 0; k < NGX_HTTP_REFUND_STORE_TABLE_EXPIRE; k++) {

            n = table->shared->lists[i].head;

            if (n == 0
                || ngx_http_refund_store_node(table, n)->expires
                   > ngx_current_msec)
            {
                break;
            }

            ngx_http_refund_store_table_remove(table, n);
        }
    }
}


/* Sets the state, after all else is written, and makes it the last touched. */

static void
ngx_http_refund_store_table_state(ngx_http_refund_store_table_t *table,
    uint32_t n, uint32_t state)
{
    ngx_http_refund_store_node_t  *node;

    node = ngx_http_refund_store_node(table, n);

    if (node->state != NGX_HTTP_REFUND_STORE_NODE_FREE) {
        ngx_http_refund_store_list_remove(table, n);
    }

    ngx_memory_barrier();
    node->state = state;
    ngx_memory_barrier();

    ngx_http_refund_store_list_append(table, n);
}


static ngx_http_refund_store_list_t *
ngx_http_refund_store_list(ngx_http_refund_store_table_t *table, uint32_t n)
{
    uint32_t    state;
    ngx_uint_t  list;

    state = ngx_http_refund_store_node(table, n)->state;

    list = (state == NGX_HTTP_REFUND_STORE_NODE_MARK)
           ? NGX_HTTP_REFUND_STORE_LIST_MARK
           : (state == NGX_HTTP_REFUND_STORE_NODE_DONE)
             ? NGX_HTTP_REFUND_STORE_LIST_DONE
             : NGX_HTTP_REFUND_STORE_LIST_OPEN;

    return &table->shared->lists[list];
}


static void
ngx_http_refund_store_list_append(ngx_http_refund_store_table_t *table,
    uint32_t n)
{
    ngx_http_refund_store_list_t  *list;
    ngx_http_refund_store_node_t  *node;

    list = ngx_http_refund_store_list(table, n);
    node = ngx_http_refund_store_node(table, n);

    node->prev = list->tail;
    node->next = 0;

    if (list->tail) {
        ngx_http_refund_store_node(table, list->tail)->next = n;

    } else {
        list->head = n;
    }

    list->tail = n;
}


static void
ngx_http_refund_store_list_remove(ngx_http_refund_store_table_t *table,
    uint32_t n)
{
    ngx_http_refund_store_list_t  *list;
    ngx_http_refund_store_node_t  *node;

    list = ngx_http_refund_store_list(table, n);
    node = ngx_http_refund_store_node(table, n);

    if (node->prev) {
        ngx_http_refund_store_node(table, node->prev)->next = node->next;

    } else {
        list->head = node->next;
    }

    if (node->next) {
        ngx_http_refund_store_node(table, node->next)->prev = node->prev;

    } else {
        list->tail = node->prev;
    }
}


/*
 * The last holder of the lock was killed: no link can be trusted, while the
 * nodes can.  Whoever is killed here leaves it to the next.
 */

static void
ngx_http_refund_store_table_rebuild(ngx_http_refund_store_table_t *table)
{
    uint32_t                         n, i, rest, *bucket;
    uint32_t                         found[NGX_HTTP_REFUND_STORE_LISTS];
    uint32_t                         count[NGX_HTTP_REFUND_STORE_LISTS];
    ngx_http_refund_store_node_t    *node;
    ngx_http_refund_store_shared_t  *shared;

    shared = table->shared;

    ngx_memzero(table->buckets, (shared->mask + 1) * sizeof(uint32_t));
    ngx_memzero(shared->lists, sizeof(shared->lists));
    ngx_memzero(found, sizeof(found));
    ngx_memzero(count, sizeof(count));

    shared->free = 0;
    shared->records = 0;

    for (n = shared->used; n; n--) {
        node = ngx_http_refund_store_node(table, n);

        if (node->state == NGX_HTTP_REFUND_STORE_NODE_FREE) {
            node->bucket = shared->free;
            shared->free = n;
            continue;
        }

        bucket = ngx_http_refund_store_table_bucket(table, node->key);
        node->bucket = *bucket;
        *bucket = n;

        i = ngx_http_refund_store_list(table, n) - shared->lists;

        node->next = found[i];
        found[i] = n;
        count[i]++;
        shared->records++;
    }

    /* the last touched is about the last to expire */

    for (i = 0; i < NGX_HTTP_REFUND_STORE_LISTS; i++) {
        n = ngx_http_refund_store_table_sort(table, found[i], count[i], &rest);

        while (n) {
            rest = ngx_http_refund_store_node(table, n)->next;
            ngx_http_refund_store_list_append(table, n);
            n = rest;
        }
    }
}


/*
 * Sorts the first n of a list, linked by next, by the time of expiry: a merge
 * sort, which recurses 31 times at most.  rest gets what follows them.
 */

static uint32_t
ngx_http_refund_store_table_sort(ngx_http_refund_store_table_t *table,
    uint32_t list, uint32_t n, uint32_t *rest)
{
    uint32_t                       a, b, head, *link;
    ngx_http_refund_store_node_t  *node;

    if (n == 0) {
        *rest = list;
        return 0;
    }

    if (n == 1) {
        node = ngx_http_refund_store_node(table, list);
        *rest = node->next;
        node->next = 0;
        return list;
    }

    a = ngx_http_refund_store_table_sort(table, list, n / 2, &b);
    b = ngx_http_refund_store_table_sort(table, b, n - n / 2, rest);

    head = 0;
    link = &head;

    while (a && b) {

        if (ngx_http_refund_store_node(table, b)->expires
            < ngx_http_refund_store_node(table, a)->expires)
        {
            *link = b;
            node = ngx_http_refund_store_node(table, b);
            b = node->next;

        } else {
            *link = a;
            node = ngx_http_refund_store_node(table, a);
            a = node->next;
        }

        link = &node->next;
    }

    *link = a ? a : b;

    return head;
}

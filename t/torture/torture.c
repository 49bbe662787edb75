
/*
 * Copyright (C) the refund-notify authors
 *
 * Preloaded into nginx, makes calls of the module fail that can fail: what it
 * calls of nginx, OpenSSL, libxml2, Jansson, hiredis and libc, and what these
 * libraries allocate.  It needs no other build of the module: when nginx has
 * loaded it, each such function's entry in its table of addresses (the GOT) is
 * replaced by a few instructions that ask here first whether the call is to
 * fail, and else go where the entry had pointed, with the stack as it was.
 *
 * REFUND_NOTIFY_TORTURE names a file of TORTURE_SIZE bytes, through which the
 * test says what is to fail, and reads which calls there are: torture_t.
 * A call is named by its symbol and where it returns to.  It is for x86-64.
 */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>


#define TORTURE_SITES    8192
#define TORTURE_SLOTS    1024
#define TORTURE_THUNK    32         /* bytes of code each */
#define TORTURE_SYMBOLS  256
#define TORTURE_FRAME    65536      /* bytes that a frame may have */

#define TORTURE_ERROR    ((uintptr_t) -1)

/* NGX_HTTP_REFUND_STORE_TABLE_ERROR */
#define TORTURE_STORE_ERROR  5


/* One for each place that calls; key: 0 where it is free. */

typedef struct {
    uint64_t              key;      /* object, symbol, offset: 4, 12, 48 bits */
    uint32_t              hits;
    uint32_t              fails;
} torture_site_t;


/* The file.  While armed calls are counted; first to last fail; 0: none. */

typedef struct {
    uint32_t              objects;  /* to be looked at: a bit each; 0: off */
    uint32_t              unused;
    uint32_t              calls;
    uint32_t              first;
    uint32_t              last;
    uint32_t              failed;   /* so many did */
    uint64_t              key;      /* the first that did */
    uint8_t               patched[TORTURE_SYMBOLS]; /* in the first object */
    torture_site_t        sites[TORTURE_SITES];
} torture_t;


typedef struct {
    void                 *real;
    uintptr_t             value;    /* what a call that fails returns */
    uint64_t              key;
    uintptr_t             start;
    uintptr_t             end;
    int                   above;    /* named by who called its caller */
} torture_slot_t;


typedef struct {
    const char           *name;
    uintptr_t             value;
} torture_symbol_t;


void *dlopen(const char *file, int mode);

int torture_decide(torture_slot_t *slot, uintptr_t where, uintptr_t *frame)
    __attribute__((visibility("hidden")));

extern char  torture_ask[] __attribute__((visibility("hidden")));


/* The test reads this list; the place in it is the number of an object. */

static const char  *torture_objects[] = {
    "ngx_http_refund_notify_module.so",
    "libxml2.so",
    "libjansson.so",
    "libhiredis.so",
    "libcrypto.so",
    NULL
};

static const char  torture_phrase[] = "made to fail";

/* by which a store's claim, renewal, release and commit all go to Redis */

static const char  torture_above[] = "ngx_refund_redis_send";


/*
 * The test reads this list, too.  What owns what it is given when it fails
 * (ngx_resolve_name, json_object_set_new) is not in it, nor what cannot fail in
 * a way that its caller could tell.
 */

static const torture_symbol_t  torture_symbols[] = {
    { "malloc", 0 },
    { "calloc", 0 },
    { "realloc", 0 },
    { "reallocarray", 0 },
    { "strdup", 0 },
    { "strndup", 0 },

    { "ngx_alloc", 0 },
    { "ngx_calloc", 0 },
    { "ngx_palloc", 0 },
    { "ngx_pnalloc", 0 },
    { "ngx_pcalloc", 0 },
    { "ngx_create_pool", 0 },
    { "ngx_pool_cleanup_add", 0 },
    { "ngx_list_push", 0 },
    { "ngx_array_create", 0 },
    { "ngx_array_push", 0 },
    { "ngx_create_temp_buf", 0 },
    { "ngx_alloc_chain_link", 0 },
    { "ngx_slab_alloc", 0 },
    { "ngx_slab_calloc", 0 },
    { "ngx_shared_memory_add", 0 },
    { "ngx_get_connection", 0 },
    { "ngx_connection_local_sockaddr", TORTURE_ERROR },
    { "ngx_resolve_start", 0 },
    { "ngx_thread_task_alloc", 0 },
    { "ngx_thread_task_post", TORTURE_ERROR },
    { "ngx_thread_pool_add", 0 },
    { "ngx_conf_full_name", TORTURE_ERROR },
    { "ngx_parse_url", TORTURE_ERROR },
    { "ngx_inet_resolve_host", TORTURE_ERROR },
    { "ngx_read_file", TORTURE_ERROR },
    { "ngx_http_add_variable", 0 },
    { "ngx_http_cleanup_add", 0 },
    { "ngx_http_create_request", 0 },
    { "ngx_http_complex_value", TORTURE_ERROR },
    { "ngx_http_compile_complex_value", TORTURE_ERROR },
    { "ngx_http_get_indexed_variable", 0 },
    { "ngx_http_read_client_request_body", 500 },
    { "ngx_http_send_header", TORTURE_ERROR },
    { "ngx_http_send_response", 500 },
    { "ngx_http_output_filter", TORTURE_ERROR },
    { "open", TORTURE_ERROR },
    { "open64", TORTURE_ERROR },
    { "read", TORTURE_ERROR },
    { "fstat", TORTURE_ERROR },
    { "fstat64", TORTURE_ERROR },

    { "ngx_refund_redis_send", (uintptr_t) torture_phrase },
    { "ngx_http_refund_store_table_claim", TORTURE_STORE_ERROR },
    { "ngx_http_refund_store_table_renew", TORTURE_STORE_ERROR },
    { "ngx_http_refund_store_table_release", TORTURE_STORE_ERROR },
    { "ngx_http_refund_store_table_commit", TORTURE_STORE_ERROR },
    { "ngx_http_refund_store_table_keep", TORTURE_STORE_ERROR },

    { "redisAsyncConnect", 0 },
    { "redisAsyncConnectUnix", 0 },
    { "redisAsyncFormattedCommand", TORTURE_ERROR },
    { "redisEnableKeepAlive", TORTURE_ERROR },

    { "xmlNewParserCtxt", 0 },
    { "xmlCtxtReadMemory", 0 },

    { "json_object", 0 },
    { "json_stringn", 0 },
    { "json_dumpb", 0 },

    { "BIO_new_mem_buf", 0 },
    { "BN_bn2hex", 0 },
    { "ASN1_INTEGER_to_BN", 0 },
    { "ASN1_TIME_to_tm", 0 },
    { "EVP_CIPHER_CTX_ctrl", 0 },
    { "EVP_CIPHER_CTX_new", 0 },
    { "EVP_CIPHER_CTX_set_padding", 0 },
    { "EVP_DecryptInit_ex", 0 },
    { "EVP_DecryptUpdate", 0 },
    { "EVP_Digest", 0 },
    { "EVP_DigestFinal_ex", 0 },
    { "EVP_DigestInit_ex", 0 },
    { "EVP_DigestInit_ex2", 0 },
    { "EVP_DigestUpdate", 0 },
    { "EVP_MAC_CTX_dup", 0 },
    { "EVP_MAC_CTX_new", 0 },
    { "EVP_MAC_fetch", 0 },
    { "EVP_MAC_final", 0 },
    { "EVP_MAC_init", 0 },
    { "EVP_MAC_update", 0 },
    { "EVP_MD_CTX_new", 0 },
    { "EVP_MD_fetch", 0 },
    { "EVP_PKEY_CTX_dup", 0 },
    { "EVP_PKEY_CTX_new", 0 },
    { "EVP_PKEY_CTX_set_rsa_oaep_md", 0 },
    { "EVP_PKEY_CTX_set_rsa_padding", 0 },
    { "EVP_PKEY_CTX_set_signature_md", 0 },
    { "EVP_PKEY_encrypt", 0 },
    { "EVP_PKEY_encrypt_init", 0 },
    { "EVP_PKEY_sign", 0 },
    { "EVP_PKEY_sign_init", 0 },
    { "EVP_PKEY_verify", TORTURE_ERROR },
    { "EVP_PKEY_verify_init", 0 },
    { "HMAC", 0 },
    { "SHA256", 0 },
    { "PEM_read_bio_PUBKEY", 0 },
    { "PEM_read_bio_PrivateKey", 0 },
    { "PEM_read_bio_X509", 0 },
    { "RAND_bytes", 0 },
    { "X509_get_pubkey", 0 },

    { NULL, 0 }
};


static torture_t       *torture;
static torture_slot_t  *torture_slots;
static unsigned char   *torture_code;
static unsigned         torture_nslots;


/*
 * A call that was redirected comes here with its slot in r11, the caller's
 * address on the stack, and its arguments in registers, which are kept.
 */

__asm__ (
    "        .text\n"
    "        .hidden torture_ask\n"
    "        .globl  torture_ask\n"
    "torture_ask:\n"
    "        push    %rdi\n"
    "        push    %rsi\n"
    "        push    %rdx\n"
    "        push    %rcx\n"
    "        push    %r8\n"
    "        push    %r9\n"
    "        push    %r11\n"
    "        mov     %r11, %rdi\n"
    "        mov     56(%rsp), %rsi\n"
    "        mov     %rbp, %rdx\n"
    "        call    torture_decide\n"
    "        test    %eax, %eax\n"
    "        pop     %r11\n"
    "        pop     %r9\n"
    "        pop     %r8\n"
    "        pop     %rcx\n"
    "        pop     %rdx\n"
    "        pop     %rsi\n"
    "        pop     %rdi\n"
    "        jnz     1f\n"
    "        xor     %eax, %eax\n"      /* no vector registers, for open() */
    "        jmp     *(%r11)\n"
    "1:      mov     8(%r11), %rax\n"
    "        ret\n"
);


int
torture_decide(torture_slot_t *slot, uintptr_t where, uintptr_t *frame)
{
    uint32_t         call;
    uint64_t         key;
    unsigned         i, n;
    torture_site_t  *site;

    if (!(torture->objects & (1u << (slot->key >> 60)))) {
        return 0;
    }

    key = slot->key;

    /* where the module is compiled with frame pointers, as with sanitizers */

    if (slot->above
        && (uintptr_t) frame - (uintptr_t) __builtin_frame_address(0)
           < TORTURE_FRAME
        && ((uintptr_t) frame & 7) == 0)
    {
        where = frame[1];
    }

    if (where >= slot->start && where < slot->end) {
        key |= where - slot->start;
    }

    i = (key ^ (key >> 17)) % TORTURE_SITES;

    for (n = 0; n < TORTURE_SITES; n++) {
        site = &torture->sites[i];

        if (site->key == 0) {
            site->key = key;
        }

        if (site->key == key) {
            break;
        }

        i = (i + 1) % TORTURE_SITES;
    }

    site->hits++;
    call = ++torture->calls;

    if (call < torture->first || call > torture->last) {
        return 0;
    }

    if (torture->failed++ == 0) {
        torture->key = key;
    }

    site->fails++;
    errno = ENOMEM;

    return 1;
}


static void
torture_replace(ElfW(Addr) *entry, unsigned object, unsigned symbol,
    uintptr_t start, uintptr_t end)
{
    long             page;
    uint64_t         address;
    unsigned char   *code;
    torture_slot_t  *slot;

    if (torture_nslots == TORTURE_SLOTS || *entry == 0) {
        return;
    }

    slot = &torture_slots[torture_nslots];
    code = torture_code + torture_nslots * TORTURE_THUNK;

    slot->real = (void *) *entry;
    slot->value = torture_symbols[symbol].value;
    slot->key = (uint64_t) object << 60 | (uint64_t) (symbol + 1) << 48;
    slot->start = start;
    slot->end = end;
    slot->above = strcmp(torture_symbols[symbol].name, torture_above) == 0;

    /* mov $slot, %r11; mov $torture_ask, %r10; jmp *%r10 */

    address = (uint64_t) (uintptr_t) slot;
    memcpy(code, "\x49\xbb", 2);
    memcpy(code + 2, &address, 8);

    address = (uint64_t) (uintptr_t) torture_ask;
    memcpy(code + 10, "\x49\xba", 2);
    memcpy(code + 12, &address, 8);

    memcpy(code + 20, "\x41\xff\xe2", 3);

    page = sysconf(_SC_PAGESIZE);

    if (mprotect((void *) ((uintptr_t) entry & ~(uintptr_t) (page - 1)),
                 (size_t) page, PROT_READ|PROT_WRITE)
        != 0)
    {
        perror("torture: mprotect()");
        _exit(1);
    }

    *entry = (ElfW(Addr)) code;
    torture_nslots++;

    if (object == 0) {
        torture->patched[symbol] = 1;
    }
}


static void
torture_relocations(ElfW(Rela) *rela, size_t size, ElfW(Addr) base,
    const ElfW(Sym) *symbols, const char *strings, unsigned object,
    uintptr_t end)
{
    size_t       n;
    unsigned     i;
    const char  *name;

    for (n = size / sizeof(ElfW(Rela)); n; n--, rela++) {

        switch (ELF64_R_TYPE(rela->r_info)) {

        case R_X86_64_JUMP_SLOT:
        case R_X86_64_GLOB_DAT:
        case R_X86_64_64:
            break;

        default:
            continue;
        }

        name = strings + symbols[ELF64_R_SYM(rela->r_info)].st_name;

        for (i = 0; torture_symbols[i].name; i++) {
            if (strcmp(torture_symbols[i].name, name) == 0) {
                torture_replace((ElfW(Addr) *) (base + rela->r_offset), object,
                                i, base, end);
            }
        }
    }
}


static int
torture_object(struct dl_phdr_info *info, size_t size, void *data)
{
    int                i;
    size_t             rela_size, jump_size;
    unsigned           object;
    uintptr_t          end;
    const char        *name, *strings;
    ElfW(Dyn)         *dyn;
    ElfW(Sym)         *symbols;
    ElfW(Rela)        *rela, *jump;
    const ElfW(Phdr)  *phdr;

    (void) size;
    (void) data;

    name = strrchr(info->dlpi_name, '/');
    name = name ? name + 1 : info->dlpi_name;

    for (object = 0; torture_objects[object]; object++) {
        if (strncmp(name, torture_objects[object],
                    strlen(torture_objects[object]))
            == 0)
        {
            break;
        }
    }

    if (torture_objects[object] == NULL) {
        return 0;
    }

    dyn = NULL;
    end = 0;

    for (i = 0; i < info->dlpi_phnum; i++) {
        phdr = &info->dlpi_phdr[i];

        if (phdr->p_type == PT_DYNAMIC) {
            dyn = (ElfW(Dyn) *) (info->dlpi_addr + phdr->p_vaddr);
        }

        if (phdr->p_type == PT_LOAD
            && info->dlpi_addr + phdr->p_vaddr + phdr->p_memsz > end)
        {
            end = info->dlpi_addr + phdr->p_vaddr + phdr->p_memsz;
        }
    }

    rela = jump = NULL;
    rela_size = jump_size = 0;
    symbols = NULL;
    strings = NULL;

    for ( /* void */ ; dyn && dyn->d_tag != DT_NULL; dyn++) {

        switch (dyn->d_tag) {

        case DT_SYMTAB:
            symbols = (ElfW(Sym) *) dyn->d_un.d_ptr;
            break;

        case DT_STRTAB:
            strings = (const char *) dyn->d_un.d_ptr;
            break;

        case DT_RELA:
            rela = (ElfW(Rela) *) dyn->d_un.d_ptr;
            break;

        case DT_RELASZ:
            rela_size = dyn->d_un.d_val;
            break;

        case DT_JMPREL:
            jump = (ElfW(Rela) *) dyn->d_un.d_ptr;
            break;

        case DT_PLTRELSZ:
            jump_size = dyn->d_un.d_val;
            break;
        }
    }

    if (symbols == NULL || strings == NULL) {
        return 0;
    }

    torture_relocations(rela, rela_size, info->dlpi_addr, symbols, strings,
                        object, end);
    torture_relocations(jump, jump_size, info->dlpi_addr, symbols, strings,
                        object, end);

    return 0;
}


static void
torture_init(void)
{
    int          fd;
    const char  *file;

    file = getenv("REFUND_NOTIFY_TORTURE");

    if (file == NULL) {
        return;
    }

    fd = open(file, O_RDWR);
    torture = mmap(NULL, sizeof(torture_t), PROT_READ|PROT_WRITE, MAP_SHARED,
                   fd, 0);
    torture_slots = mmap(NULL, TORTURE_SLOTS * sizeof(torture_slot_t),
                         PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS,
                         -1, 0);
    torture_code = mmap(NULL, TORTURE_SLOTS * TORTURE_THUNK,
                        PROT_READ|PROT_WRITE|PROT_EXEC,
                        MAP_PRIVATE|MAP_ANONYMOUS, -1, 0);

    if (torture == MAP_FAILED || torture_slots == MAP_FAILED
        || torture_code == MAP_FAILED)
    {
        perror("torture: mmap()");
        _exit(1);
    }

    (void) close(fd);
    (void) dl_iterate_phdr(torture_object, NULL);
}


/* nginx' load_module */

void *
dlopen(const char *file, int mode)
{
    void         *handle;
    static void  *(*next)(const char *, int);

    if (next == NULL) {
        *(void **) &next = dlsym(RTLD_NEXT, "dlopen");
    }

    handle = next(file, mode);

    if (handle && torture == NULL && file
        && strstr(file, torture_objects[0]))
    {
        torture_init();
    }

    return handle;
}

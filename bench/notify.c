
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "notify.h"


#define BENCH_BLOCK    16
#define BENCH_GCM_TAG  16


static void bench_read(const char *directory, const char *name, char *text,
    size_t size);
static void bench_append(bench_notify_t *notify, const char *text);
static void bench_encrypt(bench_merchant_t *merchant,
    const EVP_CIPHER *cipher, const char *key, const char *nonce,
    const char *aad, const char *text, size_t len, bench_notify_t *notify);
static void bench_v3_sign(bench_merchant_t *merchant, bench_notify_t *notify);
static void bench_digits(uint64_t n, char *nonce, size_t len);
static void bench_extra(char *p, size_t len);


static char           bench_text[2 * BENCH_NOTIFY_EXTRA_MAX];
static unsigned char  bench_cipher[sizeof(bench_text) + 2 * BENCH_BLOCK];


void
bench_die(const char *format, ...)
{
    va_list  args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);

    fputc('\n', stderr);
    ERR_print_errors_fp(stderr);

    exit(1);
}


void
bench_merchant_read(bench_merchant_t *merchant, const char *directory)
{
    FILE  *file;
    char   path[4096];

    bench_read(directory, "mch_id", merchant->mch_id,
               sizeof(merchant->mch_id));
    bench_read(directory, "v2.key", merchant->v2_key,
               sizeof(merchant->v2_key));
    bench_read(directory, "v3.key", merchant->v3_key,
               sizeof(merchant->v3_key));
    bench_read(directory, "serial", merchant->serial,
               sizeof(merchant->serial));

    if (strlen(merchant->v2_key) != 32 || strlen(merchant->v3_key) != 32) {
        bench_die("the keys in %s have not 32 characters", directory);
    }

    snprintf(path, sizeof(path), "%s/wechatpay.key", directory);

    file = fopen(path, "r");
    if (file == NULL) {
        bench_die("%s cannot be opened", path);
    }

    merchant->key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);

    merchant->cipher = EVP_CIPHER_CTX_new();

    if (merchant->key == NULL || merchant->cipher == NULL) {
        bench_die("%s is no private key", path);
    }
}


void
bench_merchant_free(bench_merchant_t *merchant)
{
    EVP_PKEY_free(merchant->key);
    EVP_CIPHER_CTX_free(merchant->cipher);
}


static void
bench_read(const char *directory, const char *name, char *text, size_t size)
{
    FILE  *file;
    char   path[4096];

    snprintf(path, sizeof(path), "%s/%s", directory, name);

    file = fopen(path, "r");

    if (file == NULL || fgets(text, (int) size, file) == NULL) {
        bench_die("%s cannot be read", path);
    }

    fclose(file);

    text[strcspn(text, "\n")] = '\0';
}


void
bench_v2_notify(bench_merchant_t *merchant, bench_bend_e bend, uint64_t n,
    size_t extra, bench_notify_t *notify)
{
    char          *p, *last;
    char           nonce[33], key[33];
    unsigned       i, len;
    unsigned char  md[EVP_MAX_MD_SIZE];

    p = bench_text;
    last = p + sizeof(bench_text);

    p += snprintf(p, last - p,
        "<root>\n"
        "<out_refund_no><![CDATA[1318%018llu]]></out_refund_no>\n"
        "<out_trade_no><![CDATA[7110%019llu]]></out_trade_no>\n"
        "<refund_account><![CDATA[REFUND_SOURCE_RECHARGE_FUNDS]]>"
        "</refund_account>\n"
        "%s"
        "<refund_id><![CDATA[503004089420%017llu]]></refund_id>\n"
        "<refund_recv_accout><![CDATA[支付用户零钱]]>"
        "</refund_recv_accout>\n"
        "<refund_request_source><![CDATA[API]]></refund_request_source>\n"
        "<refund_status><![CDATA[SUCCESS]]></refund_status>\n"
        "<settlement_refund_fee><![CDATA[3960]]></settlement_refund_fee>\n"
        "<settlement_total_fee><![CDATA[3960]]></settlement_total_fee>\n"
        "<success_time><![CDATA[2018-11-19 16:24:13]]></success_time>\n"
        "<total_fee><![CDATA[3960]]></total_fee>\n"
        "<transaction_id><![CDATA[42000002152%017llu]]></transaction_id>\n",
        (unsigned long long) n, (unsigned long long) n,
        bend == BENCH_NO_FEE ? ""
        : bend == BENCH_BAD_FEE
          ? "<refund_fee><![CDATA[39.60]]></refund_fee>\n"
          : "<refund_fee><![CDATA[3960]]></refund_fee>\n",
        (unsigned long long) n, (unsigned long long) n);

    if (extra != 0) {
        p += snprintf(p, last - p, "<remark><![CDATA[");
        bench_extra(p, extra);
        p += extra;
        p += snprintf(p, last - p, "]]></remark>\n");
    }

    p += snprintf(p, last - p, "</root>");

    /* the key of the cipher is the MD5 of the APIv2 key in lower-case hex */

    if (EVP_Digest(merchant->v2_key, strlen(merchant->v2_key), md, &len,
                   EVP_md5(), NULL)
        != 1)
    {
        bench_die("MD5 failed");
    }

    for (i = 0; i < len; i++) {
        snprintf(key + 2 * i, 3, "%02x", md[i]);
    }

    if (bend == BENCH_OTHER_KEY) {
        key[0] ^= 1;
    }

    bench_digits(n, nonce, 32);

    notify->len = (size_t) snprintf(notify->body, BENCH_NOTIFY_MAX,
        "<xml><return_code>SUCCESS</return_code>"
        "<appid><![CDATA[wx2421b1c4370ec43b]]></appid>"
        "<mch_id><![CDATA[%s]]></mch_id>"
        "<nonce_str><![CDATA[%s]]></nonce_str>", merchant->mch_id, nonce);

    if (bend != BENCH_NO_REQ_INFO) {
        bench_append(notify, "<req_info><![CDATA[");
        bench_encrypt(merchant, EVP_aes_256_ecb(), key, NULL, NULL,
                      bench_text, p - bench_text, notify);
        bench_append(notify, "]]></req_info>");
    }

    bench_append(notify, "</xml>");
}


void
bench_v3_notify(bench_merchant_t *merchant, bench_bend_e bend, uint64_t n,
    size_t extra, time_t time, bench_notify_t *notify)
{
    char  *p, *last;
    char   nonce[13];

    p = bench_text;
    last = p + sizeof(bench_text);

    p += snprintf(p, last - p,
        "{\"mchid\":\"%s\",\"out_trade_no\":\"7110%019llu\","
        "\"transaction_id\":\"42000002152%017llu\","
        "\"out_refund_no\":\"1318%018llu\","
        "\"refund_id\":\"503004089420%017llu\","
        "\"refund_status\":\"SUCCESS\","
        "\"success_time\":\"2018-06-08T10:34:56+08:00\","
        "\"user_received_account\":\"招商银行信用卡0403\","
        "\"amount\":{\"total\":999,%s\"payer_total\":999,"
        "\"payer_refund\":999}",
        merchant->mch_id, (unsigned long long) n, (unsigned long long) n,
        (unsigned long long) n, (unsigned long long) n,
        bend == BENCH_NO_FEE ? ""
        : bend == BENCH_BAD_FEE ? "\"refund\":\"999\"," : "\"refund\":999,");

    if (extra != 0) {
        p += snprintf(p, last - p, ",\"remark\":\"");
        bench_extra(p, extra);
        p += extra;
        *p++ = '"';
    }

    *p++ = '}';

    bench_digits(n, nonce, 12);

    notify->len = (size_t) snprintf(notify->body, BENCH_NOTIFY_MAX,
        "{\"id\":\"EV-20180225112233%016llu\","
        "\"create_time\":\"2018-06-08T10:34:56+08:00\","
        "\"resource_type\":\"encrypt-resource\","
        "\"event_type\":\"REFUND.SUCCESS\",\"summary\":\"退款成功\","
        "\"resource\":{\"original_type\":\"refund\","
        "\"algorithm\":\"AEAD_AES_256_GCM\",\"ciphertext\":\"",
        (unsigned long long) n);

    bench_encrypt(merchant, EVP_aes_256_gcm(), merchant->v3_key, nonce,
                  "refund", bench_text, p - bench_text, notify);

    bench_append(notify, "\",\"associated_data\":\"refund\",\"nonce\":\"");
    bench_append(notify, nonce);
    bench_append(notify, "\"}}");

    snprintf(notify->timestamp, sizeof(notify->timestamp), "%lld",
             (long long) time);
    snprintf(notify->serial, sizeof(notify->serial), "%s",
             bend == BENCH_OTHER_SERIAL ? "PUB_KEY_ID_0" : merchant->serial);
    bench_digits(n, notify->nonce, 32);

    bench_v3_sign(merchant, notify);

    if (bend == BENCH_FORGED) {
        p = &notify->signature[100];
        *p = (*p == 'A') ? 'B' : 'A';
    }
}


static void
bench_append(bench_notify_t *notify, const char *text)
{
    size_t  len;

    len = strlen(text);

    memcpy(notify->body + notify->len, text, len + 1);
    notify->len += len;
}


/* Appends in base64; with a nonce the tag stands behind. */

static void
bench_encrypt(bench_merchant_t *merchant, const EVP_CIPHER *cipher,
    const char *key, const char *nonce, const char *aad, const char *text,
    size_t len, bench_notify_t *notify)
{
    int              n, size;
    EVP_CIPHER_CTX  *ctx;

    ctx = merchant->cipher;

    if (EVP_EncryptInit_ex(ctx, cipher, NULL, (const unsigned char *) key,
                           (const unsigned char *) nonce)
        != 1
        || (aad && EVP_EncryptUpdate(ctx, NULL, &n,
                                     (const unsigned char *) aad,
                                     (int) strlen(aad))
                   != 1)
        || EVP_EncryptUpdate(ctx, bench_cipher, &size,
                             (const unsigned char *) text, (int) len)
           != 1
        || EVP_EncryptFinal_ex(ctx, bench_cipher + size, &n) != 1)
    {
        bench_die("the encryption failed");
    }

    size += n;

    if (nonce) {
        if (EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, BENCH_GCM_TAG,
                                bench_cipher + size)
            != 1)
        {
            bench_die("the encryption has no tag");
        }

        size += BENCH_GCM_TAG;
    }

    notify->len += (size_t) EVP_EncodeBlock((unsigned char *) notify->body
                                            + notify->len,
                                            bench_cipher, size);
}


/* What is signed: timestamp, nonce and body, each with a newline behind. */

static void
bench_v3_sign(bench_merchant_t *merchant, bench_notify_t *notify)
{
    char           head[64];
    size_t         size;
    EVP_MD_CTX    *ctx;
    unsigned char  bytes[512];

    snprintf(head, sizeof(head), "%s\n%s\n", notify->timestamp,
             notify->nonce);

    size = sizeof(bytes);
    ctx = EVP_MD_CTX_new();

    if (ctx == NULL
        || EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, merchant->key)
           != 1
        || EVP_DigestSignUpdate(ctx, head, strlen(head)) != 1
        || EVP_DigestSignUpdate(ctx, notify->body, notify->len) != 1
        || EVP_DigestSignUpdate(ctx, "\n", 1) != 1
        || EVP_DigestSignFinal(ctx, bytes, &size) != 1)
    {
        bench_die("the signature failed");
    }

    EVP_MD_CTX_free(ctx);

    EVP_EncodeBlock((unsigned char *) notify->signature, bytes, (int) size);
}


/* A nonce has to be new, and no more than that: it is the refund's number. */

static void
bench_digits(uint64_t n, char *nonce, size_t len)
{
    snprintf(nonce, len + 1, "%0*llu", (int) len, (unsigned long long) n);
}


static void
bench_extra(char *p, size_t len)
{
    size_t  i;

    if (len > BENCH_NOTIFY_EXTRA_MAX) {
        bench_die("%zu bytes are more than a notify may have", len);
    }

    for (i = 0; i < len; i++) {
        p[i] = (char) ('a' + i % 26);
    }
}

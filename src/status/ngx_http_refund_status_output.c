
/*
 * Copyright (C) the refund-notify authors
 *
 * Prometheus' format is that of "Exposition formats", text-based, version
 * 0.0.4 (prometheus.io/docs/instrumenting).  JSON has the same metrics, labels
 * and buckets.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_http_refund_span.h"
#include "ngx_http_refund_status_output.h"
#include "wechatpay_utf8.h"


static void ngx_http_refund_status_sample_start(
    ngx_http_refund_status_output_t *out, const char *suffix,
    ngx_http_refund_status_label_t *labels, const char *le);
static void ngx_http_refund_status_value(ngx_http_refund_status_output_t *out,
    ngx_str_t *value);
static void ngx_http_refund_status_number(ngx_http_refund_status_output_t *out,
    const char *format, ngx_atomic_uint_t n, ngx_atomic_uint_t m);
static void ngx_http_refund_status_text(ngx_http_refund_status_output_t *out,
    const char *text);
static void ngx_http_refund_status_bytes(ngx_http_refund_status_output_t *out,
    const u_char *data, size_t len);


static const char  *const ngx_http_refund_status_buckets[] = {
#define X(microseconds, seconds)  seconds,
    NGX_REFUND_BUCKETS(X)
#undef X
    "+Inf"
};


void
ngx_http_refund_status_begin(ngx_http_refund_status_output_t *out)
{
    out->last = &out->chain;

    if (out->json) {
        ngx_http_refund_status_text(out, "{\"metrics\":{");
    }
}


void
ngx_http_refund_status_metric(ngx_http_refund_status_output_t *out,
    const char *name, const char *type, const char *help)
{
    if (!out->json) {
        ngx_http_refund_status_text(out, "# HELP ");
        ngx_http_refund_status_text(out, name);
        ngx_http_refund_status_text(out, " ");
        ngx_http_refund_status_text(out, help);
        ngx_http_refund_status_text(out, "\n# TYPE ");
        ngx_http_refund_status_text(out, name);
        ngx_http_refund_status_text(out, " ");
        ngx_http_refund_status_text(out, type);
        ngx_http_refund_status_text(out, "\n");

    } else {
        ngx_http_refund_status_text(out, out->name ? "]},\n\"" : "\n\"");
        ngx_http_refund_status_text(out, name);
        ngx_http_refund_status_text(out, "\":{\"type\":\"");
        ngx_http_refund_status_text(out, type);
        ngx_http_refund_status_text(out, "\",\"help\":\"");
        ngx_http_refund_status_text(out, help);
        ngx_http_refund_status_text(out, "\",\"samples\":[");
    }

    out->name = name;
    out->samples = 0;
}


void
ngx_http_refund_status_put_sample(ngx_http_refund_status_output_t *out,
    ngx_http_refund_status_label_t *labels, ngx_atomic_uint_t value)
{
    ngx_http_refund_status_sample_start(out, "", labels, NULL);

    ngx_http_refund_status_number(out, out->json ? ",\"value\":%uA}"
                                                 : " %uA\n", value, 0);
}


/*
 * The count is that of the buckets as they are read here, whatever is added to
 * them meanwhile.
 */

void
ngx_http_refund_status_put_histogram(ngx_http_refund_status_output_t *out,
    ngx_http_refund_status_label_t *labels, ngx_refund_cells_t cells)
{
    ngx_uint_t         i;
    ngx_atomic_uint_t  sum, count;

    count = 0;
    sum = cells[NGX_REFUND_BUCKET_SUM];

    if (out->json) {
        ngx_http_refund_status_sample_start(out, "", labels, NULL);
        ngx_http_refund_status_text(out, ",\"buckets\":{");
    }

    for (i = 0; i <= NGX_REFUND_BUCKET_INF; i++) {
        count += cells[i];

        if (out->json) {
            ngx_http_refund_status_text(out, i ? ",\"" : "\"");
            ngx_http_refund_status_text(out,
                                        ngx_http_refund_status_buckets[i]);
            ngx_http_refund_status_number(out, "\":%uA", count, 0);

        } else {
            ngx_http_refund_status_sample_start(out, "_bucket", labels,
                                            ngx_http_refund_status_buckets[i]);
            ngx_http_refund_status_number(out, " %uA\n", count, 0);
        }
    }

    if (!out->json) {
        ngx_http_refund_status_sample_start(out, "_sum", labels, NULL);
    }

    ngx_http_refund_status_number(out, out->json ? "},\"sum\":%uA.%06uA"
                                                 : " %uA.%06uA\n",
                                  sum / 1000000, sum % 1000000);

    if (!out->json) {
        ngx_http_refund_status_sample_start(out, "_count", labels, NULL);
    }

    ngx_http_refund_status_number(out, out->json ? ",\"count\":%uA}"
                                                 : " %uA\n", count, 0);
}


ngx_int_t
ngx_http_refund_status_end(ngx_http_refund_status_output_t *out)
{
    if (out->json) {
        ngx_http_refund_status_text(out, "]}\n}}\n");
    }

    return out->failed ? NGX_ERROR : NGX_OK;
}


static void
ngx_http_refund_status_sample_start(ngx_http_refund_status_output_t *out,
    const char *suffix, ngx_http_refund_status_label_t *labels, const char *le)
{
    ngx_uint_t                       n;
    ngx_http_refund_status_label_t  *label;

    if (out->json) {
        ngx_http_refund_status_text(out, out->samples++ ? ",\n{\"labels\":{"
                                                        : "\n{\"labels\":{");

    } else {
        ngx_http_refund_status_text(out, out->name);
        ngx_http_refund_status_text(out, suffix);
    }

    n = 0;

    for (label = labels; label->name; label++) {

        if (label->value.len == 0) {
            continue;
        }

        if (out->json) {
            ngx_http_refund_status_text(out, n++ ? ",\"" : "\"");
            ngx_http_refund_status_text(out, label->name);
            ngx_http_refund_status_text(out, "\":\"");

        } else {
            ngx_http_refund_status_text(out, n++ ? "," : "{");
            ngx_http_refund_status_text(out, label->name);
            ngx_http_refund_status_text(out, "=\"");
        }

        ngx_http_refund_status_value(out, &label->value);
        ngx_http_refund_status_text(out, "\"");
    }

    if (le) {
        ngx_http_refund_status_text(out, n++ ? ",le=\"" : "{le=\"");
        ngx_http_refund_status_text(out, le);
        ngx_http_refund_status_text(out, "\"");
    }

    if (out->json || n) {
        ngx_http_refund_status_text(out, "}");
    }
}


/*
 * Both formats escape a quote and a backslash, and are UTF-8; what else could
 * be in the name of a file is replaced.
 */

static void
ngx_http_refund_status_value(ngx_http_refund_status_output_t *out,
    ngx_str_t *value)
{
    int      utf8;
    u_char   ch, *p, *plain, *last;

    utf8 = wechatpay_utf8_text(ngx_http_refund_span(value));
    last = value->data + value->len;
    plain = value->data;

    for (p = value->data; p < last; p++) {
        ch = *p;

        if (ch == '"' || ch == '\\') {
            ngx_http_refund_status_bytes(out, plain, p - plain);
            ngx_http_refund_status_text(out, "\\");
            plain = p;

        } else if (ch < 0x20 || ch == 0x7f || (ch >= 0x80 && !utf8)) {
            ngx_http_refund_status_bytes(out, plain, p - plain);
            ngx_http_refund_status_text(out, "?");
            plain = p + 1;
        }
    }

    ngx_http_refund_status_bytes(out, plain, p - plain);
}


static void
ngx_http_refund_status_number(ngx_http_refund_status_output_t *out,
    const char *format, ngx_atomic_uint_t n, ngx_atomic_uint_t m)
{
    u_char  *p, text[sizeof("},\"sum\":.") + 2 * NGX_ATOMIC_T_LEN];

    p = ngx_snprintf(text, sizeof(text), format, n, m);

    ngx_http_refund_status_bytes(out, text, p - text);
}


static void
ngx_http_refund_status_text(ngx_http_refund_status_output_t *out,
    const char *text)
{
    ngx_http_refund_status_bytes(out, (const u_char *) text,
                                 ngx_strlen(text));
}


static void
ngx_http_refund_status_bytes(ngx_http_refund_status_output_t *out,
    const u_char *data, size_t len)
{
    size_t        n;
    ngx_chain_t  *cl;

    while (len && !out->failed) {

        if (out->buf == NULL || out->buf->last == out->buf->end) {
            out->buf = ngx_create_temp_buf(out->pool,
                                           NGX_HTTP_REFUND_STATUS_BUFFER);
            cl = ngx_alloc_chain_link(out->pool);

            if (out->buf == NULL || cl == NULL) {
                out->failed = 1;
                return;
            }

            cl->buf = out->buf;
            cl->next = NULL;

            *out->last = cl;
            out->last = &cl->next;
        }

        n = ngx_min(len, (size_t) (out->buf->end - out->buf->last));

        out->buf->last = ngx_cpymem(out->buf->last, data, n);
        out->size += n;
        data += n;
        len -= n;
    }
}

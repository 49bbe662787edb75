
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_refund_acknowledgement.h"
#include "ngx_http_refund_span.h"
#include "wechatpay_json.h"


static ngx_http_refund_outcome_e ngx_http_refund_acknowledgement_status(
    ngx_http_refund_delivery_t *delivery, ngx_http_refund_ack_e ack,
    const char **reason);
static ngx_http_refund_outcome_e ngx_http_refund_acknowledgement_code(
    ngx_str_t *answer, const char **reason);


ngx_http_refund_outcome_e
ngx_http_refund_acknowledgement(ngx_http_refund_delivery_t *delivery,
    ngx_http_refund_ack_e ack, const char **reason)
{
    ngx_http_refund_outcome_e  outcome;

    if (delivery->peer == NGX_HTTP_REFUND_DELIVERY_NOBODY) {

        if (delivery->silent) {
            *reason = "it did not answer";
            return NGX_HTTP_REFUND_UNKNOWN;
        }

        *reason = delivery->passed ? "it could not be reached"
                                   : "the location did not pass the request on";
        return NGX_HTTP_REFUND_REFUSED;
    }

    if (!delivery->complete) {
        *reason = delivery->timedout ? "its answer did not end in time"
                                     : "its answer was cut short";
        return NGX_HTTP_REFUND_UNKNOWN;
    }

    outcome = ngx_http_refund_acknowledgement_status(delivery, ack, reason);

    /* an earlier peer of the same delivery may have accepted in silence */

    if (outcome == NGX_HTTP_REFUND_REFUSED && delivery->silent) {
        return NGX_HTTP_REFUND_UNKNOWN;
    }

    return outcome;
}


static ngx_http_refund_outcome_e
ngx_http_refund_acknowledgement_status(ngx_http_refund_delivery_t *delivery,
    ngx_http_refund_ack_e ack, const char **reason)
{
    /* nginx before 1.29 takes it for the answer, which is yet to come */

    if (delivery->peer_status < 200) {
        *reason = "its answer is an interim one (1xx)";
        return NGX_HTTP_REFUND_UNKNOWN;
    }

    if (delivery->peer_status > 299
        || delivery->status < 200 || delivery->status > 299)
    {
        *reason = "its answer is no acceptance";
        return NGX_HTTP_REFUND_REFUSED;
    }

    if (delivery->peer == NGX_HTTP_REFUND_DELIVERY_GRPC) {
        *reason = "grpc_pass cannot take deliveries";
        return NGX_HTTP_REFUND_UNKNOWN;
    }

    if (ack == NGX_HTTP_REFUND_ACK_CODE) {
        return ngx_http_refund_acknowledgement_code(&delivery->answer, reason);
    }

    /*
     * FastCGI and uwsgi do not show that an answer was cut short, nor does SCGI
     * without a length, and PHP answers 200 when it dies.
     */

    if (delivery->peer == NGX_HTTP_REFUND_DELIVERY_SCGI && !delivery->sized
        && delivery->peer_status != NGX_HTTP_NO_CONTENT)
    {
        *reason = "scgi_pass without a Content-Length needs "
                  "\"refund_notify_ack code\"";
        return NGX_HTTP_REFUND_UNKNOWN;
    }

    if (delivery->peer == NGX_HTTP_REFUND_DELIVERY_FASTCGI) {
        *reason = "fastcgi_pass and uwsgi_pass need \"refund_notify_ack code\"";
        return NGX_HTTP_REFUND_UNKNOWN;
    }

    *reason = NULL;

    return NGX_HTTP_REFUND_ACCEPTED;
}


static ngx_http_refund_outcome_e
ngx_http_refund_acknowledgement_code(ngx_str_t *answer, const char **reason)
{
    json_t  *root, *code;

    if (answer->len > NGX_HTTP_REFUND_ACK_ANSWER_MAX) {
        *reason = "its answer is longer than 4096 bytes";
        return NGX_HTTP_REFUND_REFUSED;
    }

    if (answer->len == 0) {
        *reason = "its answer is empty";
        return NGX_HTTP_REFUND_REFUSED;
    }

    switch (wechatpay_json_parse(ngx_http_refund_span(answer), &root)) {

    case WECHATPAY_OK:
        break;

    case WECHATPAY_ERROR_NO_MEMORY:

        /* it may have accepted, which nobody can read now */

        *reason = "there is no memory to read its answer";
        return NGX_HTTP_REFUND_UNKNOWN;

    case WECHATPAY_ERROR_JSON_NOT_OBJECT:
        *reason = "its answer has no \"code\"";
        return NGX_HTTP_REFUND_REFUSED;

    case WECHATPAY_ERROR_JSON_TOO_DEEP:
        *reason = "its answer has more than 32 levels";
        return NGX_HTTP_REFUND_REFUSED;

    default:
        *reason = "its answer is not JSON";
        return NGX_HTTP_REFUND_REFUSED;
    }

    code = json_object_get(root, "code");

    if (code == NULL) {
        *reason = "its answer has no \"code\"";

    } else if (!json_is_string(code)
               || ngx_strcmp(json_string_value(code), "SUCCESS") != 0)
    {
        *reason = "its answer's \"code\" is not \"SUCCESS\"";

    } else {
        *reason = NULL;
    }

    json_decref(root);

    return *reason ? NGX_HTTP_REFUND_REFUSED : NGX_HTTP_REFUND_ACCEPTED;
}

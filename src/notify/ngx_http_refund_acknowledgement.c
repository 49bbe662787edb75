
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <jansson.h>
#include "ngx_http_refund_acknowledgement.h"


static ngx_http_refund_outcome_e ngx_http_refund_acknowledgement_status(
    ngx_http_refund_delivery_t *delivery, ngx_http_refund_ack_e ack,
    const char **reason);
static const char *ngx_http_refund_acknowledgement_code(ngx_str_t *answer);


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
        *reason = ngx_http_refund_acknowledgement_code(&delivery->answer);

        return *reason ? NGX_HTTP_REFUND_REFUSED : NGX_HTTP_REFUND_ACCEPTED;
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


static const char *
ngx_http_refund_acknowledgement_code(ngx_str_t *answer)
{
    json_t      *root, *code;
    const char  *reason;

    if (answer->len > NGX_HTTP_REFUND_ACK_ANSWER_MAX) {
        return "its answer is longer than 4096 bytes";
    }

    if (answer->len == 0) {
        return "its answer is empty";
    }

    root = json_loadb((char *) answer->data, answer->len,
                      JSON_REJECT_DUPLICATES, NULL);
    if (root == NULL) {
        return "its answer is not JSON";
    }

    code = json_object_get(root, "code");

    if (code == NULL) {
        reason = "its answer has no \"code\"";

    } else if (!json_is_string(code)
               || strcmp(json_string_value(code), "SUCCESS") != 0)
    {
        reason = "its answer's \"code\" is not \"SUCCESS\"";

    } else {
        reason = NULL;
    }

    json_decref(root);

    return reason;
}

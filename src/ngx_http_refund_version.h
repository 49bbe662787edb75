
/*
 * Copyright (C) the refund-notify authors
 */


#ifndef _NGX_HTTP_REFUND_VERSION_H_INCLUDED_
#define _NGX_HTTP_REFUND_VERSION_H_INCLUDED_


#define NGX_HTTP_REFUND_VERSION  "0.1.0"


#endif /* _NGX_HTTP_REFUND_VERSION_H_INCLUDED_ */

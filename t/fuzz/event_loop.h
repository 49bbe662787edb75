
/*
 * Copyright (C) the refund-notify authors
 *
 * Stand-ins for what src/redis calls of nginx and of the system: an event loop
 * that is told when to turn, a clock that goes when it is told to, and servers
 * that say what the fuzzer gives them.  There is no network.
 */


#ifndef FUZZ_EVENT_LOOP_H
#define FUZZ_EVENT_LOOP_H


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "fuzz.h"


/* A new world: no event, no connection, and the same random numbers. */

void fuzz_loop_begin(void);

/* That nothing is left of what was opened in it. */

void fuzz_loop_end(void);


/* Turns the event loop until nothing happens any more. */

void fuzz_loop_run(void);

/* Lets time pass until the next timer, and runs it; 0: there is none. */

ngx_uint_t fuzz_loop_wait(void);


/*
 * The server at the other end of connection i, or of the one so many later,
 * sends bytes, or closes; those that are opened later are refused, or no
 * longer.  Honest bytes answer what fuzz_loop_asked() returned.
 */

void fuzz_loop_send(ngx_uint_t i, const uint8_t *data, size_t size,
    ngx_uint_t honest);

/*
 * What that server has been sent since it was last asked, *size bytes until the
 * loop turns; *honest: it never had to send what the fuzzer said.
 */

const uint8_t *fuzz_loop_asked(ngx_uint_t i, size_t *size,
    ngx_uint_t *honest);

void fuzz_loop_close(ngx_uint_t i);
void fuzz_loop_refuse(void);


#endif /* FUZZ_EVENT_LOOP_H */

/*
 * Copyright (C) the refund-notify authors
 *
 * A model of one event on its way to one target: WeChat Pay's tries, some of
 * them at the same time and in different workers, the record in the store, and
 * a business app, while workers die, replies get lost and commands arrive after
 * their sender has given them up.  The states of a try are those of
 * src/notify/ngx_http_refund_target.h, the operations those of
 * src/store/ngx_http_refund_store.h.
 *
 * What spin looks for in every interleaving:
 *
 *     accepted   SUCCESS is answered only where the business app has accepted
 *     live       at most one delivery is under way at a time
 *     attempt    each delivery has a higher number than any before it
 *     settled    after the last fault one more try ends in SUCCESS
 *
 * Beyond what the promise holds under (live is then refuted, as it must be, and
 * numbers start anew with a record):
 *
 *     FORGETS         the store loses the record, as Redis can
 *     STOPS           a worker is stopped for longer than its lease
 *
 * Mutations, to see that the model can fail:
 *
 *     COMMITS_FIRST   the record says accepted before the delivery
 *     RELEASES_ANY    a release does not look at the owner
 *     RENEWS_ANY      nor does a renewal
 *     TAKES_LIVE      a take-over does not look at the lease
 *     REMOVES         a release removes the record, and its number with it
 *     NEVER_EXPIRES   a lease does not run out
 *
 * Time is left out but for one fact: the lease of a delivery that is under way
 * does not run out, for it is renewed.  A delivery is live from its claim until
 * its try knows how it ended; an app that goes on after its connection was cut
 * is not counted.
 */

#ifndef TRIES
#define TRIES  3        /* WeChat Pay's, that may meet each other */
#endif

#ifndef LATE
#define LATE   2        /* commands that can be on their way at a time */
#endif

#define LAST   TRIES    /* the one after the last fault */
#define NOBODY 255

#ifdef STOPS
#define MAY_RUN_OUT  true
#else
#define MAY_RUN_OUT  (state[owner] != DELIVER)
#endif


mtype = { NONE, P, F, D };                              /* the record */
mtype = { CLAIM, DELIVER, COMMIT, RELEASE, END };       /* a target's state */
mtype = { set_nx, take_over, renew, release, commit };  /* commands */
mtype = { OK, DONE, IN_FLIGHT, TAKE_OVER, LOST, ERROR };/* their results */
mtype = { SUCCESS, FAIL, NOTHING };                     /* answers */


/* the store */

mtype record = NONE;
byte  owner = NOBODY;
byte  attempts = 0;             /* the record's */
bool  expired = false;          /* the lease of a P */

chan  late = [LATE] of { mtype, byte, byte };

/* the tries */

mtype state[TRIES + 1] = END;
byte  begun = 0;
byte  ended = 0;

/* what is true, and what no process looks at */

bool  accepted = false;
byte  live = 0;
byte  highest = 0;


inline claimed(me)
{
    record = P;
    owner = me;
    expired = false;
}


/* What the store does for a command, all at once. */

inline execute(command, me, number, result)
{
    if
    :: command == set_nx ->
        if
        :: record == NONE ->
            attempts = 1;
            claimed(me);
            number = 1;
            result = OK
        :: record == D -> result = DONE
        :: record == F || (record == P && expired) -> result = TAKE_OVER
        :: else -> result = IN_FLIGHT
        fi

    :: command == take_over ->
        if
#ifdef TAKES_LIVE
        :: record != D ->
#else
        :: record == NONE || record == F || (record == P && expired) ->
#endif
            attempts++;
            claimed(me);
            number = attempts;
            result = OK
        :: record == D -> result = DONE
        :: else -> result = IN_FLIGHT
        fi

    :: command == renew ->
        if
#ifdef RENEWS_ANY
        :: record == P || record == NONE ->
#else
        :: (record == P && owner == me) || record == NONE ->
#endif
            attempts = number;
            claimed(me);
            result = OK
        :: else -> result = LOST
        fi

    :: command == release ->
        if
#ifdef RELEASES_ANY
        :: record == P ->
#else
        :: record == P && owner == me ->
#endif
#ifdef REMOVES
            record = NONE;
#else
            record = F;
#endif
            owner = NOBODY;
            expired = false;
            result = OK
        :: else -> result = LOST
        fi

    :: command == commit ->
        record = D;
        owner = NOBODY;
        expired = false;
        result = OK
    fi
}


/*
 * A command and its reply: in time; done, but the reply is lost; or given up,
 * and then done later or never.
 */

inline ask(command, me, number, result)
{
    if
    :: execute(command, me, number, result)
    :: faults ->
           lost = number;
           execute(command, me, lost, result);
           lost = 0;
           result = ERROR
    :: faults && nfull(late) -> late!command(me, number); result = ERROR
    :: faults -> result = ERROR
    fi
}


inline answer(word)
{
    if
    :: answered == NOTHING ->
        answered = word;
        assert(word == FAIL || accepted)        /* accepted */
    :: else
    fi
}


proctype notify(byte me; bool faults)
{
    mtype  result = ERROR, answered = NOTHING;
    byte   number = 0, lost = 0;
    bool   taken;

    /* the tries are alike: they may as well begin in their order */

    atomic {
        begun == me || me == LAST -> begun++;
        state[me] = CLAIM;
        ask(set_nx, me, number, result);

        if
        :: result == OK -> state[me] = DELIVER; goto deliver
        :: else
        fi
    }

    if
    :: result == TAKE_OVER ->
        atomic {
            ask(take_over, me, number, result);

            if
            :: result == OK -> state[me] = DELIVER; goto deliver
            :: else
            fi
        }
    :: else
    fi;

    if
    :: result == DONE -> atomic { answer(SUCCESS) }
    :: else -> atomic { answer(FAIL) }
    fi;

    goto end;

deliver:

    atomic {
        live++;
        assert(live <= 1);                      /* live */
#ifndef FORGETS
        assert(number > highest);               /* attempt */
#endif
        highest = number;
    }

#ifdef COMMITS_FIRST
    atomic { ask(commit, me, number, result) }
#endif

    do
    :: atomic { faults -> ask(renew, me, number, result); result = ERROR }
    :: atomic { faults -> answer(FAIL) }                /* the deadline */
    :: atomic { faults -> live--; goto end }            /* kill -9 */
    :: atomic { accepted = true; live--; goto committing }
    :: atomic { faults -> accepted = true; live--; goto unknown }
    :: atomic { faults -> live--; goto unknown }
    :: atomic { faults -> live--; goto releasing }
    od;

committing:

    atomic {
        state[me] = COMMIT;
        taken = false;
        ask(commit, me, number, result);
    }

    do
    :: atomic { result != OK && !taken ->
           answer(SUCCESS);
           taken = true;
           ask(commit, me, number, result)
       }
    :: faults -> goto end                               /* kill -9 */
    :: else -> break
    od;

    atomic { answer(SUCCESS) }
    goto end;

releasing:

    atomic {
        state[me] = RELEASE;
        ask(release, me, number, result);
    }

    if
    :: faults -> goto end                               /* kill -9 */
    :: true
    fi;

unknown:

    atomic { answer(FAIL) }

end:

    atomic {
        state[me] = END;
        ended++;
        assert(me != LAST || answered == SUCCESS)       /* settled */
    }
}


/* What happens between the tries: late commands, leases that run out. */

active proctype store()
{
    mtype  command = set_nx, result = ERROR;
    byte   me, number;

end_store:

    do
    :: atomic { late?command(me, number) ->
           execute(command, me, number, result);
           command = set_nx; me = 0; number = 0; result = ERROR
       }
#ifndef NEVER_EXPIRES
    :: atomic { record == P && !expired && MAY_RUN_OUT -> expired = true }
#endif
#ifdef FORGETS
    :: atomic { record != NONE ->
           record = NONE; owner = NOBODY; attempts = 0; expired = false
       }
#endif
    od
}


init
{
    byte  n = 0;

    do
    :: n < TRIES -> run notify(n, true); n++
    :: else -> break
    od;

    /* the faults are over, and every lease has run out that will */

#ifdef NEVER_EXPIRES
    (ended == TRIES && empty(late));
#else
    (ended == TRIES && empty(late) && (record != P || expired));
#endif

    run notify(LAST, false)
}

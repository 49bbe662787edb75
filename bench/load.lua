-- Copyright (C) the refund-notify authors
--
-- wrk's script: sends the notifies of a file, one after the other, and stops
-- at its end, so that none is sent twice.
--
--   wrk -t 1 -s load.lua URL -- file [cycle]
--
-- cycle: begins again at the end.  Prints one line: requests, microseconds,
-- the latencies p50, p99 and p99.9 in microseconds, statuses that are errors,
-- and errors of the sockets.

local ffi = require "ffi"

ffi.cdef "int getpid(void); int kill(int pid, int signal);"

local SIGINT = 2

local file, cycle
local requests, next_request = {}, 0


function init(args)
    file = assert(io.open(args[1], "rb"))
    cycle = args[2] == "cycle"

    if cycle then
        local length = file:read(8)

        while length do
            requests[#requests + 1] = file:read(tonumber(length))
            length = file:read(8)
        end
    end
end


function request()
    if cycle then
        next_request = next_request % #requests + 1
        return requests[next_request]
    end

    local length = file:read(8)

    if length then
        requests[1] = file:read(tonumber(length))

    else
        -- this thread ends now; the main one sleeps until the signal

        wrk.thread:stop()
        ffi.C.kill(ffi.C.getpid(), SIGINT)
    end

    return requests[1]
end


function done(summary, latency)
    local errors = summary.errors

    io.write(string.format("result %d %d %d %d %d %d %d\n",
                           summary.requests, summary.duration,
                           latency:percentile(50), latency:percentile(99),
                           latency:percentile(99.9), errors.status,
                           errors.connect + errors.read + errors.write
                           + errors.timeout))
end

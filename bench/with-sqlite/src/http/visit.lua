local requests = {}
local threads = 0
at = 0

-- Threads begin at different sessions, so that they do not go through them in step.
function setup(thread)
   thread:set("at", threads * 97)
   threads = threads + 1
end

function init(args)
   for number, cookie in ipairs(cookies) do
      requests[number] = wrk.format("GET", args[1], { ["Cookie"] = cookie, ["User-Agent"] = args[2] })
   end
end

function request()
   at = at % #requests + 1
   return requests[at]
end

function done(summary, latency)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format("figures: %d %d %d %d %d\n", summary.requests - errors.status, summary.duration,
      latency:percentile(50), latency:percentile(99), failed))
end

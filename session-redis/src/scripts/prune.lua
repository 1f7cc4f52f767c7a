-- Forgets sessions that were found to be gone, but for those that were noted late: a session is noted before its record is
-- written, and may have been on its way. A point in time and no age, so that a call which arrives late forgets no more.
--   KEYS[1] the index   ARGV[1] the newest note that may go, in ms since 1970   ARGV[2…] the sessions
local newest = tonumber(ARGV[1])
local pruned = 0
for at = 2, #ARGV do
    local noted = redis.call('ZSCORE', KEYS[1], ARGV[at])
    if noted and tonumber(noted) <= newest then
        pruned = pruned + redis.call('ZREM', KEYS[1], ARGV[at])
    end
end
return pruned

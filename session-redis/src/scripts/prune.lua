-- Forgets sessions that were found to be gone, but for those that were noted of late: a session is noted before its
-- record is written, and may be on its way.
--   KEYS[1] the index   ARGV[1] when a note must have been made, in ms; a time of day and no age, because a request that
--   arrives late knows nothing of what was written since   ARGV[2…] the sessions
local pruned = 0
for at = 2, #ARGV do
    local noted = redis.call('ZSCORE', KEYS[1], ARGV[at])
    if noted and tonumber(noted) <= tonumber(ARGV[1]) then
        pruned = pruned + redis.call('ZREM', KEYS[1], ARGV[at])
    end
end
return pruned

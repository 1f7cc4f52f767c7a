-- Forgets sessions that were found to be gone, but for those of the last minute: a session is noted before its record
-- is written, and may be on its way.
--   KEYS[1] the index   ARGV[2…] the sessions   ARGV[1] how old a note must be, in ms
local time = redis.call('TIME')
local newest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local pruned = 0
for at = 2, #ARGV do
    local noted = redis.call('ZSCORE', KEYS[1], ARGV[at])
    if noted and tonumber(noted) <= newest then
        pruned = pruned + redis.call('ZREM', KEYS[1], ARGV[at])
    end
end
return pruned

-- Notes a session in the index of its subject. Answers which one, and how many are noted.
--   KEYS[1] the index   ARGV[1] the session   ARGV[2] its life in ms   ARGV[3] its absolute end in ms, 0: none
local before = redis.call('PTTL', KEYS[1])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
if ARGV[3] == '0' then
    -- A session without an absolute end may be touched for ever.
    redis.call('PERSIST', KEYS[1])
elseif before ~= -1 then
    if before == -2 then
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
    else
        redis.call('PEXPIRE', KEYS[1], ARGV[2], 'GT')
    end
    redis.call('PEXPIREAT', KEYS[1], ARGV[3], 'GT')
end
return {ARGV[1], redis.call('ZCARD', KEYS[1])}

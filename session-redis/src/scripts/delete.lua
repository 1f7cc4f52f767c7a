--   ARGV[1] the record's mark   ARGV[2] the version that is expected
local refusal, _, version = check(KEYS[1], ARGV[1])
if refusal then return refusal end
if version ~= ARGV[2] then return 2 end
redis.call('DEL', KEYS[1])
return version

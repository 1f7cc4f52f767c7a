if version ~= ARGV[2] then return 2 end
redis.call('DEL', KEYS[1])
return version

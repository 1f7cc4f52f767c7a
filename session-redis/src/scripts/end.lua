-- Deletes the record under KEYS[1] if it is still the subject's: it may have gone to another since it was listed. One of a
-- newer format cannot be looked into, and is taken for it.
--   ARGV[1] magic, format and the record's own key (bytes 0 to 20)   ARGV[2] the subject
local begin = redis.call('GETRANGE', KEYS[1], 0, 49 + #ARGV[2])
local newer = #begin >= 4 and string.sub(begin, 1, 3) == string.sub(ARGV[1], 1, 3)
    and string.byte(begin, 4) > string.byte(ARGV[1], 4)
local theirs = #begin == 50 + #ARGV[2] and string.sub(begin, 1, 20) == ARGV[1]
    and struct.unpack('<I2', string.sub(begin, 45, 46)) == #ARGV[2] and string.sub(begin, 51) == ARGV[2]
if newer or theirs then return redis.call('DEL', KEYS[1]) end
return 0

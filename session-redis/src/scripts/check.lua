-- The record under KEYS[1], checked as session_core::head does; then the version.
--   ARGV[1] magic, format and the record's own key (bytes 0 to 20)   ARGV[2] the version that is expected
-- EXISTS, because an empty value is not an absent one.
local size = redis.call('STRLEN', KEYS[1])
if size == 0 and redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local head = redis.call('GETRANGE', KEYS[1], 0, 49)
if string.sub(head, 1, 3) ~= string.sub(ARGV[1], 1, 3) or #head < 4 then return 4 end
if string.byte(head, 4) > string.byte(ARGV[1], 4) then return 5 end
if #head < 50 or string.sub(head, 1, 20) ~= ARGV[1] then return 4 end
local subject_len, data_len = struct.unpack('<I2I4', string.sub(head, 45, 50))
if size ~= 50 + subject_len + data_len then return 4 end
local version = string.sub(head, 21, 36)

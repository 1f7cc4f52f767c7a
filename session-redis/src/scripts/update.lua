--   ARGV[3] the new value   ARGV[4] its life in milliseconds   ARGV[5] '1': the index knows the new subject
-- The version that this call writes: an earlier try of it has arrived.
local written = string.sub(ARGV[3], 21, 36)
if version == written then return written end
if version ~= ARGV[2] then return 2 end
if ARGV[5] ~= '1' then
    -- The index is written before the record, and only when subject or absolute end change.
    local new_len = struct.unpack('<I2', string.sub(ARGV[3], 45, 46))
    if new_len > 0 and (string.sub(head, 37, 46) ~= string.sub(ARGV[3], 37, 46)
        or redis.call('GETRANGE', KEYS[1], 50, 49 + new_len) ~= string.sub(ARGV[3], 51, 50 + new_len)) then
        return 3
    end
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
-- A success names what was written: no other call takes it for its own.
return written

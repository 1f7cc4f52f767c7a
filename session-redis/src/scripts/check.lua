-- The record under a key, checked as session_core::head does: a refusal; or none, its head and its version.
--   mark: magic, format and the record's own key (bytes 0 to 20)
local function check(key, mark)
    -- EXISTS, because an empty value is not an absent one.
    local size = redis.call('STRLEN', key)
    if size == 0 and redis.call('EXISTS', key) == 0 then return 0 end
    local head = redis.call('GETRANGE', key, 0, 49)
    if string.sub(head, 1, 3) ~= string.sub(mark, 1, 3) or #head < 4 then return 4 end
    if string.byte(head, 4) > string.byte(mark, 4) then return 5 end
    if #head < 50 or string.sub(head, 1, 20) ~= mark then return 4 end
    local subject_len, data_len = struct.unpack('<I2I4', string.sub(head, 45, 50))
    if size ~= 50 + subject_len + data_len then return 4 end
    return nil, head, string.sub(head, 21, 36)
end

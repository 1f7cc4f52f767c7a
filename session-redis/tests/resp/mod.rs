//! Where a reply of the server's protocol ends, in its second version and in its third.

/// The length of the first whole reply in `bytes`.
pub(crate) fn reply_len(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|end| end == b"\r\n")?;
    let (kind, end) = (bytes.first()?, line + 2);
    let count = std::str::from_utf8(&bytes[1..line])
        .ok()
        .and_then(|text| text.parse::<usize>().ok());
    let elements = match (kind, count) {
        // Bytes, and a line's end after them.
        (b'$' | b'=' | b'!', Some(count)) => {
            let end = end + count + 2;
            return (bytes.len() >= end).then_some(end);
        }
        (b'*' | b'~' | b'>', Some(count)) => count,
        (b'%', Some(count)) => count * 2,
        // What is told of a reply, and the reply.
        (b'|', Some(count)) => count * 2 + 1,
        // A line; and -1, which is nothing.
        _ => 0,
    };
    (0..elements).try_fold(end, |end, _| Some(end + reply_len(&bytes[end..])?))
}

//! What a server sends.

/// How many bytes a server says until it waits for the client: messages (a letter, and the length of the rest in four
/// bytes) up to `ReadyForQuery`, a question about the password, or a refusal that ends the connection:
/// <https://www.postgresql.org/docs/17/protocol-message-formats.html>
pub(crate) fn reply_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let head = bytes.get(at..at + 5)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let end = at + 1 + length;
        let message = bytes.get(at..end)?;
        at = end;
        match message[0] {
            b'Z' => return Some(end),
            // 0 is AuthenticationOk and 12 AuthenticationSASLFinal, after which the server goes on by itself.
            b'R' if !matches!(message.get(5..9), Some([0, 0, 0, 0 | 12])) => return Some(end),
            // The connection ends with it.
            b'E' if message.windows(7).any(|part| part == b"SFATAL\0") => return Some(end),
            _ => {}
        }
    }
}

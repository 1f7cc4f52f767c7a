//! What caches may do with a response that depends on a session.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, COOKIE, VARY},
};

/// The response depends on the session: it varies by the fields that a session may come in, and no shared cache may keep
/// it (CVE-2023-30861).
///
/// If it hands a session out, `Cache-Control` is `no-store`, whatever the handler wrote. If it does not, a handler's own
/// `Cache-Control` stands when it holds `no-store`, or `private` and not `public`; anything else becomes `no-store`.
pub(crate) fn depends_on_session(
    headers: &mut HeaderMap,
    fields: impl Iterator<Item = HeaderName>,
    hands_out: bool,
) {
    for field in fields {
        vary_by(headers, &field);
    }
    let has = |word| has_directive(headers, CACHE_CONTROL, word);
    let kept = headers.contains_key(CACHE_CONTROL)
        && (has("no-store") || (!hands_out && has("private") && !has("public")));
    if !kept {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// Adds a field to `Vary`, in one line: some caches read only the first.
fn vary_by(headers: &mut HeaderMap, added: &HeaderName) {
    // As everybody writes it.
    let text = match *added {
        COOKIE => HeaderValue::from_static("Cookie"),
        ref other => other.clone().into(),
    };
    if !headers.contains_key(VARY) {
        headers.insert(VARY, text);
        return;
    }
    if has_directive(headers, VARY, "*") || has_directive(headers, VARY, added.as_str()) {
        return;
    }
    let mut merged = Vec::new();
    for field in headers.get_all(VARY) {
        let field = field.as_bytes().trim_ascii();
        if !field.is_empty() {
            merged.extend_from_slice(field);
            merged.extend_from_slice(b", ");
        }
    }
    merged.extend_from_slice(text.as_bytes());
    match HeaderValue::from_bytes(&merged) {
        Ok(value) => headers.insert(VARY, value),
        // Parts of header values are header values; were it otherwise, `*` is the safe answer.
        Err(_) => headers.insert(VARY, HeaderValue::from_static("*")),
    };
}

/// Whether a comma-separated header holds this word alone: `private`, but not `private="set-cookie"`, which restricts
/// one field only, nor a word within quotes.
fn has_directive(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    headers.get_all(name).into_iter().any(|field| {
        let mut quoted = false;
        field
            .as_bytes()
            .split(|&byte| {
                quoted ^= byte == b'"';
                byte == b',' && !quoted
            })
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(fields: &[(&'static str, &str)], sets_cookie: bool) -> (Vec<String>, Vec<String>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        depends_on_session(&mut headers, [COOKIE].into_iter(), sets_cookie);
        let all = |name| {
            let values = headers.get_all(name).into_iter();
            values.map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        (all(VARY), all(CACHE_CONTROL))
    }

    #[test]
    fn vary_is_merged_and_not_repeated() {
        let vary = |fields: &[_]| after(fields, false).0;
        assert_eq!(vary(&[]), ["Cookie"]);
        assert_eq!(vary(&[("vary", "Accept")]), ["Accept, Cookie"]);
        assert_eq!(
            vary(&[("vary", "Accept"), ("vary", ""), ("vary", "Origin, Range")]),
            ["Accept, Origin, Range, Cookie"]
        );
        assert_eq!(vary(&[("vary", "accept,COOKIE")]), ["accept,COOKIE"]);
        assert_eq!(vary(&[("vary", "*")]), ["*"]);
        assert_eq!(vary(&[("vary", "x-cookie")]), ["x-cookie, Cookie"]);
    }

    #[test]
    fn handlers_own_cache_control_stands_only_if_it_is_safe() {
        let read = |value| after(&[("cache-control", value)], false).1;
        assert_eq!(after(&[], false).1, ["no-store"]);
        assert_eq!(read("private, max-age=60"), ["private, max-age=60"]);
        assert_eq!(read("No-Store"), ["No-Store"]);
        assert_eq!(read("public, max-age=60"), ["no-store"]);
        assert_eq!(read("max-age=60, private=\"set-cookie\""), ["no-store"]);
        assert_eq!(read("no-cache"), ["no-store"]);
        assert_eq!(read("private, public, max-age=60"), ["no-store"]);
        assert_eq!(read("max-age=60, no-cache=\"a, private, b\""), ["no-store"]);
        assert_eq!(read("no-cache=\"a, b\", private"), ["no-cache=\"a, b\", private"]);
        assert_eq!(
            after(
                &[("cache-control", "max-age=1"), ("cache-control", "public")],
                false
            )
            .1,
            ["no-store"]
        );
    }

    #[test]
    fn response_with_the_cookie_is_never_stored() {
        let set = |value| after(&[("cache-control", value)], true).1;
        assert_eq!(after(&[], true).1, ["no-store"]);
        assert_eq!(set("private, max-age=60"), ["no-store"]);
        assert_eq!(set("no-store, must-revalidate"), ["no-store, must-revalidate"]);
    }
}

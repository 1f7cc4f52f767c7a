//! What was written comes back.

use std::sync::Arc;

use session_core::{ErrorKind, Record, SessionKey, Subject, Timestamp, Version};

use crate::{
    Cx, Stop, Verdict,
    callers::callers,
    expect::{Answer, loads, refused, same},
    table::table,
};

table! { "round trip":
    created_session_is_loaded_whole;
    empty_data_is_kept;
    binary_data_is_kept;
    unicode_subject_is_kept;
    subject_is_kept_by_every_store;
    absent_session_is_none_not_an_error;
    deleting_an_absent_session_is_false_not_an_error;
    parallel_loads_return_their_own_data;
}

/// Data, subject, absolute end and version come back as `create` and `update` left them.
async fn created_session_is_loaded_whole(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    let end = Timestamp::from_millis(1_900_000_000_123);
    let first = Record::new("one").with_subject(cx.subject()).with_not_after(end);
    let version = store.create(&key, &first, Cx::LONG).await?;
    loads(&cx, &key, &first, version).await?;
    let second = Record::new("two, and longer").with_subject(cx.subject());
    let version = store.update(&key, version, &second, Cx::LONG).await?;
    loads(&cx, &key, &second, version).await?;
    let third = Record::new("3").with_not_after(end);
    let version = store.update(&key, version, &third, Cx::LONG).await?;
    loads(&cx, &key, &third, version).await
}

/// A record of no bytes is a record: it is loaded, refused to `create`, updated and deleted like any other.
async fn empty_data_is_kept(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    let empty = Record::new("");
    let version = store.create(&key, &empty, Cx::LONG).await?;
    loads(&cx, &key, &empty, version).await?;
    let again = store.create(&key, &empty, Cx::LONG).await;
    refused("create over an empty record", again, ErrorKind::AlreadyExists)?;
    let version = store.update(&key, version, &empty, Cx::LONG).await?;
    loads(&cx, &key, &empty, version).await?;
    store.touch(&key, Cx::LONG).await?;
    let gone = store.delete(&key, Some(version)).await.answer();
    same("delete(empty record)", gone, Ok(true))
}

/// All 256 byte values, NUL and line ends among them, and bytes that are no UTF-8 come back as they were.
async fn binary_data_is_kept(cx: Cx) -> Verdict {
    let every: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let awkward: [&[u8]; 7] = [
        &every,
        b"\0",
        b"before\0after",
        b"\r\n",
        b"END\r\nget other\r\n",
        b"\xff\xfe\xc0\x80\xed\xa0\x80",
        b"$6\r\nfoobar\r\n",
    ];
    for data in awkward {
        let (key, record) = (cx.key(), Record::new(data.to_vec()));
        let version = cx.store().create(&key, &record, Cx::LONG).await?;
        loads(&cx, &key, &record, version).await?;
    }
    Ok(())
}

/// A subject of any characters, NUL included, and of the largest length comes back byte by byte: neither folded,
/// normalised, trimmed nor cut.
async fn unicode_subject_is_kept(cx: Cx) -> Verdict {
    let longest = "é".repeat(Subject::MAX_LEN / 2);
    // The second and third differ only in their normal form, the fourth and fifth only in case.
    let awkward = [
        "1",
        "zoë",
        "zoe\u{308}",
        "STRASSE",
        "straße",
        " padded ",
        "nul\0inside",
        "a:b/c*?[x]",
        "\u{202e}rtl",
        "💳",
        &longest,
    ];
    for text in awkward {
        let subject = Subject::new(text).map_err(|error| Stop::Broken(error.to_string()))?;
        let (key, record) = (cx.key(), Record::new("data").with_subject(subject));
        let version = cx.store().create(&key, &record, Cx::LONG).await?;
        let seen = cx
            .store()
            .load(&key)
            .await?
            .and_then(|stored| stored.record.subject);
        // `Debug` of a subject hides its text.
        let seen = seen.as_ref().map(Subject::as_str);
        same("subject after create", seen, Some(text))?;
        cx.store().update(&key, version, &record, Cx::LONG).await?;
        let seen = cx
            .store()
            .load(&key)
            .await?
            .and_then(|stored| stored.record.subject);
        same(
            "subject after update",
            seen.as_ref().map(Subject::as_str),
            Some(text),
        )?;
    }
    Ok(())
}

/// A store without an index keeps and returns the subject all the same, through create, update and touch; and an
/// update without subject takes it away.
async fn subject_is_kept_by_every_store(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    let owned = Record::new("data").with_subject(cx.subject());
    let version = store.create(&key, &owned, Cx::LONG).await?;
    store.touch(&key, Cx::LONG / 2).await?;
    loads(&cx, &key, &owned, version).await?;
    let other = Record::new("data").with_subject(cx.subject());
    let version = store.update(&key, version, &other, Cx::LONG).await?;
    loads(&cx, &key, &other, version).await?;
    let nobody = Record::new("data");
    let version = store.update(&key, version, &nobody, Cx::LONG).await?;
    loads(&cx, &key, &nobody, version).await
}

/// `load` of a key that was never written is `None`.
async fn absent_session_is_none_not_an_error(cx: Cx) -> Verdict {
    same(
        "load(absent)",
        cx.store().load(&cx.key()).await.answer(),
        Ok(None),
    )
}

/// `delete` of a key that was never written is `false`, with and without an expected version.
async fn deleting_an_absent_session_is_false_not_an_error(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    same(
        "delete(absent)",
        store.delete(&key, None).await.answer(),
        Ok(false),
    )?;
    let seen = store.delete(&key, Some(Version::random()?)).await.answer();
    same("delete(absent, version)", seen, Ok(false))
}

/// 64 callers load 10,000 sessions at once, and each gets the data of the key that it asked for (CVE-2023-28858:
/// a reply that went to the next caller of a pooled connection).
async fn parallel_loads_return_their_own_data(cx: Cx) -> Verdict {
    const CALLERS: usize = 64;
    let keys: Arc<[SessionKey]> = cx.keys(10_000).into();
    let data = |key: &SessionKey| Record::new(key.as_bytes().to_vec());
    callers(CALLERS, |caller| {
        let (store, keys) = (cx.store(), Arc::clone(&keys));
        async move {
            for key in keys.iter().skip(caller).step_by(CALLERS) {
                store.create(key, &data(key), Cx::LONG).await?;
            }
            Ok(())
        }
    })
    .await?;
    callers(CALLERS, |caller| {
        let (store, keys) = (cx.store(), Arc::clone(&keys));
        async move {
            // Each begins elsewhere, so that all keys are in flight beside all others.
            for at in 0..keys.len() / CALLERS * 2 {
                let key = &keys[(caller * 7_919 + at * CALLERS) % keys.len()];
                let seen = store.load(key).await?.map(|stored| stored.record);
                same(format!("load({key})"), seen, Some(data(key)))?;
            }
            Ok(())
        }
    })
    .await
    .map(drop)
}

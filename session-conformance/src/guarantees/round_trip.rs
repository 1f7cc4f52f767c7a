//! What was written comes back.

use session_core::{ErrorKind, Record, Timestamp, Version};

use crate::{
    Cx, Verdict,
    expect::{Answer, loads, refused, same},
    table::table,
};

table! { "round trip":
    created_session_is_loaded_whole;
    empty_data_is_kept;
    binary_data_is_kept;
    absent_session_is_none_not_an_error;
    deleting_an_absent_session_is_false_not_an_error;
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
    loads(&cx, &key, &second, version).await
}

/// A record of no bytes is a record: it is loaded, refused to `create`, updated and deleted like any other.
async fn empty_data_is_kept(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    let empty = Record::new("");
    let version = store.create(&key, &empty, Cx::LONG).await?;
    loads(&cx, &key, &empty, version).await?;
    refused(
        "create over an empty record",
        store.create(&key, &empty, Cx::LONG).await,
        ErrorKind::AlreadyExists,
    )?;
    let version = store.update(&key, version, &empty, Cx::LONG).await?;
    loads(&cx, &key, &empty, version).await?;
    store.touch(&key, Cx::LONG).await?;
    same(
        "delete(empty record)",
        store.delete(&key, Some(version)).await.answer(),
        Ok(true),
    )
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
    let version = Version::random()?;
    same(
        "delete(absent, version)",
        store.delete(&key, Some(version)).await.answer(),
        Ok(false),
    )
}

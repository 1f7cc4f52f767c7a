//! The statements.
//!
//! Each is one round trip and one transaction, and **none waits for a lock on a row**: what another transaction has
//! locked is passed over (`SKIP LOCKED`), answered as busy, and tried again by its caller. A statement that waits would
//! keep its connection, and a process of the server, beyond the deadline of its caller, and everybody else's calls in
//! the batch with it.
//!
//! The first parameter and first column are the nonce; the second column is the call's place in the batch.

use session_core::head::{self, LEN};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::schema::Table;

/// The verdicts, as the statements number them.
pub(crate) const DONE: i32 = 0;
/// Another record is there; its head tells what it is.
pub(crate) const SEEN: i32 = 1;
/// Absent or expired.
pub(crate) const ABSENT: i32 = 2;

/// Bytes at the beginning of a value that tell its format, its key and its version.
pub(crate) const HEAD: usize = head::VERSION.end;

/// So many bytes tell that a value cannot be read, and why: there is the format, and less than the key.
const SHORT: usize = head::VERSION.start - 1;

/// The statements on one table.
pub(crate) struct Statements {
    pub(crate) load: SqlStr,
    pub(crate) create: SqlStr,
    pub(crate) replace_expired: SqlStr,
    pub(crate) update: SqlStr,
    pub(crate) touch: SqlStr,
    pub(crate) delete: SqlStr,
    pub(crate) list: SqlStr,
    pub(crate) delete_all: SqlStr,
    pub(crate) sweep: SqlStr,
}

/// A life of `i.ttl` milliseconds from the beginning of the statement, by the server's clock.
const END: &str = "now() + i.ttl * interval '1 millisecond'";

/// The hour in which a life ends, rounded up, since 1970. Only it is indexed, so that a touch within the hour changes no
/// index and stays HOT: <https://www.postgresql.org/docs/17/storage-hot.html>
fn hour(time: &str) -> String {
    format!("ceil(extract(epoch FROM {time}) / 3600)::int")
}

/// The beginning of a value up to its version; less than that if the value is not as long as it says itself, so that
/// it is equal to no version's. Only the beginning of a long value is read, and its length is known without it.
fn head(value: &str) -> String {
    let begin = format!("substring({value} FROM 1 FOR {LEN})");
    let byte = |at: usize| format!("get_byte({begin}, {at})::bigint");
    let number = |places: std::ops::Range<usize>| {
        let digit = |(power, at): (u32, usize)| format!("{} * {}", byte(at), 256_u64.pow(power));
        (0..).zip(places).map(digit).collect::<Vec<_>>().join(" + ")
    };
    format!(
        "CASE WHEN octet_length({value}) < {LEN} THEN substring({value} FROM 1 FOR {SHORT})
              WHEN octet_length({value}) = {LEN} + {} + {} THEN substring({value} FROM 1 FOR {HEAD})
              ELSE substring({value} FROM 1 FOR {SHORT}) END",
        number(head::SUBJECT_LEN),
        number(head::DATA_LEN),
    )
}

impl Statements {
    pub(crate) fn on(table: &Table, relaxed_touch: bool) -> Self {
        let (table, hour_of_end) = (table.quoted(), hour(END));
        let head = head("s.value");
        let write = format!("expires_at = {END}, sweep = {hour_of_end}");
        let safe = |sql: String| AssertSqlSafe(sql).into_sql_str();

        let load = format!(
            "SELECT $1::bigint, i.at, s.value, ceil(extract(epoch FROM s.expires_at - now()) * 1000)::bigint
             FROM unnest($2::bytea[]) WITH ORDINALITY i(key, at)
             LEFT JOIN {table} s ON s.key = i.key AND s.expires_at > now()"
        );
        // What is in the way is looked at, not locked. The order keeps two that make the same keys from a deadlock.
        let create = format!(
            "WITH i AS MATERIALIZED (
                 SELECT * FROM unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[])
                     WITH ORDINALITY i(key, value, subject, ttl, at)),
             w AS (
                 INSERT INTO {table} (key, value, subject, expires_at, sweep)
                 SELECT i.key, i.value, i.subject, {END}, {hour_of_end} FROM i ORDER BY i.key
                 ON CONFLICT (key) DO NOTHING RETURNING key)
             SELECT $1::bigint, i.at,
                 CASE WHEN w.key IS NOT NULL THEN 0 WHEN s.expires_at > now() THEN 1 ELSE 3 END::int, {head}
             FROM i LEFT JOIN w ON w.key = i.key LEFT JOIN {table} s ON s.key = i.key"
        );
        let replace_expired = format!(
            "WITH i AS MATERIALIZED (
                 SELECT * FROM unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[])
                     WITH ORDINALITY i(key, value, subject, ttl, at)),
             l AS MATERIALIZED (
                 SELECT s.key FROM {table} s WHERE s.key = ANY($2) AND s.expires_at <= now()
                 FOR NO KEY UPDATE SKIP LOCKED),
             w AS (
                 UPDATE {table} s SET value = i.value, subject = i.subject, {write}
                 FROM i JOIN l ON l.key = i.key WHERE s.key = i.key RETURNING s.key)
             SELECT $1::bigint, i.at,
                 CASE WHEN w.key IS NOT NULL THEN 0 WHEN s.expires_at > now() THEN 1 ELSE 3 END::int, {head}
             FROM i LEFT JOIN w ON w.key = i.key LEFT JOIN {table} s ON s.key = i.key"
        );
        // `l` is what this statement has locked, as it is now, and `s` what was committed when it began. Who is in `s` with
        // another version than the expected one is a conflict, for a version that was replaced does not come back: such a
        // call needs no lock, waits for nobody, and writes nothing to the log. Who is as expected in `s` and not in `l` is
        // locked by another transaction, or changed by one that has just ended: which, tells the next try.
        let locked = |condition: &str| {
            format!(
                "l AS MATERIALIZED (
                     SELECT s.key FROM i JOIN {table} s ON s.key = i.key WHERE s.expires_at > now() AND {condition}
                     FOR NO KEY UPDATE OF s SKIP LOCKED)"
            )
        };
        let verdict = |condition: &str| {
            format!(
                "CASE WHEN w.key IS NOT NULL THEN 0 WHEN s.key IS NULL THEN 2 WHEN {condition} THEN 3 ELSE 1 END::int,
                 CASE WHEN w.key IS NULL THEN {head} END
                 FROM i LEFT JOIN w ON w.key = i.key
                 LEFT JOIN {table} s ON s.key = i.key AND s.expires_at > now()"
            )
        };
        let as_expected = format!("{head} = i.expected");
        let update = format!(
            "WITH i AS MATERIALIZED (
                 SELECT * FROM unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bigint[])
                     WITH ORDINALITY i(key, expected, value, subject, ttl, at)),
             {},
             w AS (
                 UPDATE {table} s SET value = i.value, subject = i.subject, {write}
                 FROM i JOIN l ON l.key = i.key WHERE s.key = i.key RETURNING s.key)
             SELECT $1::bigint, i.at, {}",
            locked(&as_expected),
            verdict(&as_expected),
        );
        // For this transaction alone, and in time: it is read when the transaction commits.
        let relaxed = match relaxed_touch {
            true => {
                " CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true) AS c) r WHERE r.c IS NOT NULL"
            }
            false => "",
        };
        let touch = format!(
            "WITH i AS MATERIALIZED (
                 SELECT * FROM unnest($2::bytea[], $3::bigint[]) WITH ORDINALITY i(key, ttl, at)),
             {},
             w AS (
                 UPDATE {table} s SET {write} FROM i JOIN l ON l.key = i.key WHERE s.key = i.key RETURNING s.key)
             SELECT $1::bigint, i.at, {}{relaxed}",
            locked("true"),
            verdict("true"),
        );
        let any_or_expected = format!("(i.expected IS NULL OR {as_expected})");
        let delete = format!(
            "WITH i AS MATERIALIZED (
                 SELECT * FROM unnest($2::bytea[], $3::bytea[]) WITH ORDINALITY i(key, expected, at)),
             {},
             w AS (DELETE FROM {table} s USING l WHERE s.key = l.key RETURNING s.key)
             SELECT $1::bigint, i.at, {}",
            locked(&any_or_expected).replace("NO KEY UPDATE", "UPDATE"),
            verdict(&any_or_expected),
        );
        // A row of its own for the nonce: a subject may have no session.
        let list = format!(
            "SELECT $1::bigint, NULL::bytea
             UNION ALL SELECT $1::bigint, s.key FROM {table} s WHERE s.subject = $2 AND s.expires_at > now()"
        );
        let of_subject = "s.subject = $2 AND s.expires_at > now() AND s.key IS DISTINCT FROM $3";
        let delete_all = format!(
            "WITH l AS MATERIALIZED (
                 SELECT s.key FROM {table} s WHERE {of_subject} LIMIT 1000 FOR UPDATE SKIP LOCKED),
             d AS (DELETE FROM {table} s USING l WHERE s.key = l.key RETURNING s.key)
             SELECT $1::bigint, (SELECT count(*) FROM d), (SELECT count(*) FROM {table} s WHERE {of_subject})"
        );
        let now = hour("now()");
        // `$3`: hours back from the one that is running.
        let sweep = format!(
            "WITH l AS MATERIALIZED (
                 SELECT s.key FROM {table} s WHERE s.sweep <= {now} - $3::int AND s.expires_at <= now()
                 ORDER BY s.sweep LIMIT $2 FOR UPDATE SKIP LOCKED),
             d AS (DELETE FROM {table} s USING l WHERE s.key = l.key RETURNING s.key)
             SELECT $1::bigint, (SELECT count(*) FROM d)"
        );
        Self {
            load: safe(load),
            create: safe(create),
            replace_expired: safe(replace_expired),
            update: safe(update),
            touch: safe(touch),
            delete: safe(delete),
            list: safe(list),
            delete_all: safe(delete_all),
            sweep: safe(sweep),
        }
    }
}

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
        let safe = |sql: String| AssertSqlSafe(sql).into_sql_str();

        // The length of an array is hidden from the planner in a query of its own: else a plan for one call looks cheaper
        // than the plan for any number, and each statement is planned anew, which costs more than its execution.
        let calls = |columns: &[(&str, &str)]| {
            let arrays = (2..)
                .zip(columns)
                .map(|(at, (_, of))| format!("(SELECT ${at}::{of}[])"));
            let (arrays, names) = (arrays.collect::<Vec<_>>(), columns.iter().map(|(name, _)| *name));
            format!(
                "unnest({}) WITH ORDINALITY i({}, at)",
                arrays.join(", "),
                names.collect::<Vec<_>>().join(", ")
            )
        };
        // A query for each call, which the planner does not make a join of: a plan from the time when the table was empty
        // would read all of it for every statement until the server's next ANALYZE.
        let each = |columns: &str, condition: &str| {
            format!("LATERAL (SELECT {columns} FROM {table} s WHERE s.key = i.key AND {condition} OFFSET 0)")
        };
        let lives = "s.expires_at > now()";

        let load = format!(
            "SELECT $1::bigint, i.at, s.value, ceil(extract(epoch FROM s.expires_at - now()) * 1000)::bigint
             FROM {} LEFT JOIN {} s ON true",
            calls(&[("key", "bytea")]),
            each("s.value, s.expires_at", lives),
        );
        let new = calls(&[
            ("key", "bytea"),
            ("value", "bytea"),
            ("subject", "bytea"),
            ("ttl", "bigint"),
        ]);
        // What is in the way is looked at, not locked.
        let created = format!(
            "SELECT $1::bigint, i.at,
                 CASE WHEN w.key IS NOT NULL THEN 0 WHEN {lives} THEN 1 ELSE 3 END::int, s.head
             FROM i LEFT JOIN w ON w.key = i.key LEFT JOIN {} s ON true",
            each(&format!("s.expires_at, {head} AS head"), "w.key IS NULL"),
        );
        // The order keeps two that make the same keys from a deadlock.
        let create = format!(
            "WITH i AS MATERIALIZED (SELECT * FROM {new}),
             w AS (
                 INSERT INTO {table} (key, value, subject, expires_at, sweep)
                 SELECT i.key, i.value, i.subject, {END}, {hour_of_end} FROM i ORDER BY i.key
                 ON CONFLICT (key) DO NOTHING RETURNING key)
             {created}"
        );
        // What is locked here by its key is written by way of the key's index, whatever the planner thinks.
        let lock = |condition: &str, strength: &str| {
            format!(
                "l AS MATERIALIZED (
                     SELECT i.at FROM i CROSS JOIN LATERAL (
                         SELECT s.key FROM {table} s WHERE s.key = i.key AND {condition}
                         FOR {strength} SKIP LOCKED) s)"
            )
        };
        let write = |value: &str, subject: &str, set: &str| {
            format!(
                "w AS (
                     INSERT INTO {table} AS s (key, value, subject, expires_at, sweep)
                     SELECT i.key, {value}, {subject}, {END}, {hour_of_end} FROM i JOIN l ON l.at = i.at
                     ON CONFLICT (key) DO UPDATE SET {set}expires_at = excluded.expires_at, sweep = excluded.sweep
                     RETURNING s.key)"
            )
        };
        let write_all = write(
            "i.value",
            "i.subject",
            "value = excluded.value, subject = excluded.subject, ",
        );
        let replace_expired = format!(
            "WITH i AS MATERIALIZED (SELECT * FROM {new}), {}, {write_all} {created}",
            lock("s.expires_at <= now()", "NO KEY UPDATE"),
        );
        // `l` is what this statement has locked, as it is now, and `s` what was committed when it began. Who is in `s` with
        // another version than the expected one is a conflict, for a version that was replaced does not come back: such a
        // call needs no lock, waits for nobody, and writes nothing to the log. Who is as expected in `s` and not in `l` is
        // locked by another transaction, or changed by one that has just ended: which, tells the next try.
        let verdict = |condition: &str| {
            format!(
                "SELECT $1::bigint, i.at,
                     CASE WHEN w.key IS NOT NULL THEN 0 WHEN s.key IS NULL THEN 2 WHEN s.is_it THEN 3 ELSE 1 END::int,
                     s.head
                 FROM i LEFT JOIN w ON w.key = i.key LEFT JOIN {} s ON true",
                each(
                    &format!("s.key, {condition} AS is_it, {head} AS head"),
                    &format!("w.key IS NULL AND {lives}"),
                ),
            )
        };
        let as_expected = format!("{head} = i.expected");
        let update = format!(
            "WITH i AS MATERIALIZED (SELECT * FROM {}), {}, {write_all} {}",
            calls(&[
                ("key", "bytea"),
                ("expected", "bytea"),
                ("value", "bytea"),
                ("subject", "bytea"),
                ("ttl", "bigint"),
            ]),
            lock(&format!("{lives} AND {as_expected}"), "NO KEY UPDATE"),
            verdict(&as_expected),
        );
        // For this transaction alone, and in time: it is read when the transaction commits.
        let relaxed = match relaxed_touch {
            true => {
                " CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true) AS c) r WHERE r.c IS NOT NULL"
            }
            false => "",
        };
        // The value is never written: the row is there.
        let touch = format!(
            "WITH i AS MATERIALIZED (SELECT * FROM {}), {}, {} {}{relaxed}",
            calls(&[("key", "bytea"), ("ttl", "bigint")]),
            lock(lives, "NO KEY UPDATE"),
            write("''", "NULL", ""),
            verdict("true"),
        );
        let any_or_expected = format!("(i.expected IS NULL OR {as_expected})");
        let delete = format!(
            "WITH i AS MATERIALIZED (SELECT * FROM {}), {},
             w AS (
                 DELETE FROM {table} s USING i JOIN l ON l.at = i.at WHERE s.key = i.key RETURNING s.key)
             {}",
            calls(&[("key", "bytea"), ("expected", "bytea")]),
            lock(&format!("{lives} AND {any_or_expected}"), "UPDATE"),
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

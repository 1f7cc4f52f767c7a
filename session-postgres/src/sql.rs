//! The statements.
//!
//! Each is one round trip and one transaction, and **none waits for a lock on a row**: what another transaction has
//! locked is passed over (`SKIP LOCKED`). A statement that waits would keep its connection, and a process of the server,
//! beyond the deadline of its caller, and everybody else's calls in the batch with it.
//!
//! A write tells the places in the batch of those that were done. Why the others were not is looked up by a statement of
//! its own, so that those that are done, nearly all, do not pay for the question.
//!
//! The first parameter and first column are the nonce. A reply is **one row**, in which the answers to a batch are arrays.
//! The server sends a large row in one piece, and many small ones in as many system calls as they fill buffers of 8 KiB,
//! each of which wakes the client.

use std::ops::Range;

use session_core::head::{self, LEN};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::schema::Table;

/// Bytes at the beginning of a value that tell its format, its key and its version.
pub(crate) const HEAD: usize = head::VERSION.end;

/// So many bytes tell that a value cannot be read, and why: there is the format, and less than the key.
const SHORT: usize = head::VERSION.start - 1;

/// The statements on one table.
pub(crate) struct Statements {
    pub(crate) load: SqlStr,
    pub(crate) look: SqlStr,
    pub(crate) create: SqlStr,
    pub(crate) replace_expired: SqlStr,
    pub(crate) update: SqlStr,
    pub(crate) touch: SqlStr,
    pub(crate) delete: SqlStr,
    pub(crate) list: SqlStr,
    pub(crate) delete_all: SqlStr,
    pub(crate) sweep: SqlStr,
    pub(crate) find_expired: SqlStr,
    pub(crate) sweep_found: SqlStr,
}

/// A life of `i.ttl` milliseconds from the beginning of the statement, by the server's clock.
const END: &str = "now() + i.ttl * interval '1 millisecond'";

/// The hour in which a life ends, rounded up, since 1970. Only it is indexed, so that a touch within the hour changes no
/// index and stays HOT: <https://www.postgresql.org/docs/17/storage-hot.html>
///
/// `date_part` counts in floating point, which is exact enough for microseconds until 2255, and much faster than the
/// decimals of `extract`.
fn hour(time: &str) -> String {
    format!("ceil(date_part('epoch', {time}) / 3600)::int")
}

/// Whether a value is as long as it says itself. Only the beginning of a long value is read, and its length is known
/// without it.
fn is_whole(value: &str) -> String {
    let begin = format!("substring({value} FROM 1 FOR {LEN})");
    let number = |places: Range<usize>| {
        let digit = |(power, at)| format!("get_byte({begin}, {at})::bigint * {}", 256_u64.pow(power));
        (0..).zip(places).map(digit).collect::<Vec<_>>().join(" + ")
    };
    // In this order: there is no byte to get from one that is too short.
    format!(
        "CASE WHEN octet_length({value}) < {LEN} THEN false ELSE octet_length({value}) = {LEN} + {} + {} END",
        number(head::SUBJECT_LEN),
        number(head::DATA_LEN),
    )
}

/// What a call on a batch is given for each of its calls, in the order of the parameters.
fn calls(columns: &[(&str, &str)]) -> String {
    // The length of an array is hidden from the planner in a query of its own: else a plan for one call looks cheaper than
    // the plan for any number, and each statement is planned anew, which costs more than its execution.
    let arrays = (2..)
        .zip(columns)
        .map(|(at, (_, of))| format!("(SELECT ${at}::{of}[])"));
    let (arrays, names) = (arrays.collect::<Vec<_>>(), columns.iter().map(|(name, _)| *name));
    format!(
        "unnest({}) WITH ORDINALITY i({}, at)",
        arrays.join(", "),
        names.collect::<Vec<_>>().join(", ")
    )
}

const KEY: (&str, &str) = ("key", "bytea");
const EXPECTED: (&str, &str) = ("expected", "bytea");
const VALUE: (&str, &str) = ("value", "bytea");
const SUBJECT: (&str, &str) = ("subject", "bytea");
const TTL: (&str, &str) = ("ttl", "bigint");

/// A live record.
const LIVES: &str = "s.expires_at > now()";

/// Nobody waits until the transaction is on disk: for it alone, and in time, because the setting is read at its commit.
const UNSYNCED: &str = "set_config('synchronous_commit', 'off', true)";

/// The places of those that are in `w`.
const DONE: &str = "SELECT $1::bigint, array_agg(w.at)";

impl Statements {
    pub(crate) fn on(table: &Table, relaxed_touch: bool) -> Self {
        let table = table.quoted();
        let safe = |sql: String| AssertSqlSafe(sql).into_sql_str();
        let is_whole = is_whole("s.value");

        // A query for each call, which the planner does not make a join of: a plan from the time when the table was empty
        // would read all of it for every statement until the server's next ANALYZE.
        let each = |columns: &str| {
            format!("LATERAL (SELECT {columns} FROM {table} s WHERE s.key = i.key AND {LIVES} OFFSET 0)")
        };
        // Of the rows of `from`, one, with their places and this column as arrays.
        let reply = |columns: &str, from: String| {
            format!("SELECT $1::bigint, array_agg(r.at), {columns} FROM ({from}) r")
        };

        // Values in one piece, and their lengths: with an array of values the statement took about a third longer (32 of
        // 1 KiB, by pgbench).
        let load = reply(
            "string_agg(r.value, ''::bytea), array_agg(octet_length(r.value)), array_agg(r.remaining)",
            format!(
                "SELECT i.at, s.value, ceil(date_part('epoch', s.expires_at - now()) * 1000)::bigint AS remaining
                 FROM {} LEFT JOIN {} s ON true",
                calls(&[KEY]),
                each("s.value, s.expires_at"),
            ),
        );
        // What there is of each: its beginning up to its version, or less than that if it is not whole, so that it is equal
        // to no version's.
        let look = reply(
            "array_agg(r.head)",
            format!(
                "SELECT i.at, s.head FROM {} LEFT JOIN {} s ON true",
                calls(&[KEY]),
                each(&format!(
                    "substring(s.value FROM 1 FOR CASE WHEN {is_whole} THEN {HEAD} ELSE {SHORT} END) AS head"
                )),
            ),
        );
        // The order keeps two that make the same keys from a deadlock.
        let create = format!(
            "WITH n AS (
                 INSERT INTO {table} (key, value, subject, expires_at, sweep)
                 SELECT i.key, i.value, i.subject, {END}, {} FROM {} ORDER BY i.key
                 ON CONFLICT (key) DO NOTHING RETURNING key),
             w AS (SELECT i.at FROM {} JOIN n ON n.key = i.key)
             {DONE} FROM w",
            hour(END),
            calls(&[KEY, VALUE, SUBJECT, TTL]),
            calls(&[KEY]),
        );
        // `l` is what this statement has locked, by its place in the table, which stays until the end: a row that was changed
        // since the statement began is not found there, and the next try sees the change. The planner does not know that
        // `at % 1` is 0, and expects few rows of it: so it looks at their places whatever it thinks of the table.
        let lock = |columns: &[(&str, &str)], of_each: &str, condition: &str, strength: &str| {
            format!(
                "l AS MATERIALIZED (
                     SELECT i.at, {of_each}s.place FROM {} CROSS JOIN LATERAL (
                         SELECT s.ctid AS place FROM {table} s WHERE s.key = i.key AND {condition}
                         FOR {strength} SKIP LOCKED) s
                     WHERE i.at % 1 = 0)",
                calls(columns),
            )
        };
        let set = |columns: &[(&str, &str)], condition: &str, more: &str| {
            let (of_each, values) = match columns.contains(&VALUE) {
                true => ("i.value, i.subject, ", "value = l.value, subject = l.subject, "),
                false => ("", ""),
            };
            format!(
                "WITH {},
                 w AS (
                     UPDATE {table} s SET {values}expires_at = l.ends, sweep = {}
                     FROM l WHERE s.ctid = l.place RETURNING l.at)
                 {DONE}{more} FROM w",
                lock(
                    columns,
                    &format!("{of_each}{END} AS ends, "),
                    condition,
                    "NO KEY UPDATE"
                ),
                hour("l.ends"),
            )
        };
        let replace_expired = set(&[KEY, VALUE, SUBJECT, TTL], "s.expires_at <= now()", "");
        let as_expected = format!("substring(s.value FROM 1 FOR {HEAD}) = i.expected AND {is_whole}");
        let update = set(
            &[KEY, EXPECTED, VALUE, SUBJECT, TTL],
            &format!("{LIVES} AND {as_expected}"),
            "",
        );
        let relaxed = match relaxed_touch {
            true => format!(", {UNSYNCED}"),
            false => String::new(),
        };
        let touch = set(&[KEY, TTL], LIVES, &relaxed);
        let delete = format!(
            "WITH {}, w AS (DELETE FROM {table} s USING l WHERE s.ctid = l.place RETURNING l.at) {DONE} FROM w",
            lock(
                &[KEY, EXPECTED],
                "",
                &format!("{LIVES} AND (i.expected IS NULL OR {as_expected})"),
                "UPDATE"
            ),
        );
        let list =
            format!("SELECT $1::bigint, array_agg(s.key) FROM {table} s WHERE s.subject = $2 AND {LIVES}");
        let delete_locked = format!(
            "d AS (DELETE FROM {table} s WHERE s.ctid = ANY (ARRAY(SELECT l.place FROM l)) RETURNING 1)"
        );
        let of_subject = format!("s.subject = $2 AND {LIVES} AND s.key IS DISTINCT FROM $3");
        let delete_all = format!(
            "WITH l AS MATERIALIZED (
                 SELECT s.ctid AS place FROM {table} s WHERE {of_subject} LIMIT 1000 FOR UPDATE SKIP LOCKED),
             {delete_locked}
             SELECT $1::bigint, (SELECT count(*) FROM d), (SELECT count(*) FROM {table} s WHERE {of_subject})"
        );
        let now = hour("now()");
        // A crash may bring back what had expired: it is removed again.
        let removed = format!("SELECT $1::bigint, (SELECT count(*) FROM d), {UNSYNCED}");
        let sweep = format!(
            "WITH l AS MATERIALIZED (
                 SELECT s.ctid AS place FROM {table} s WHERE s.sweep <= {now} AND s.expires_at <= now()
                 ORDER BY s.sweep LIMIT $2 FOR UPDATE SKIP LOCKED),
             {delete_locked}
             {removed}"
        );
        // What ended before the hour that is running: no live record is looked at.
        let find_expired = format!(
            "SELECT $1::bigint, array_agg(l.place) FROM (
                 SELECT s.ctid::text AS place FROM {table} s WHERE s.sweep <= {now} - 1 AND s.expires_at <= now()
                 ORDER BY s.sweep LIMIT $2) l"
        );
        // Another record may be at such a place by now.
        let sweep_found = format!(
            "WITH l AS MATERIALIZED (
                 SELECT s.ctid AS place FROM {table} s WHERE s.ctid = ANY ($2::text[]::tid[]) AND s.expires_at <= now()
                 FOR UPDATE SKIP LOCKED),
             {delete_locked}
             {removed}"
        );
        Self {
            load: safe(load),
            look: safe(look),
            create: safe(create),
            replace_expired: safe(replace_expired),
            update: safe(update),
            touch: safe(touch),
            delete: safe(delete),
            list: safe(list),
            delete_all: safe(delete_all),
            sweep: safe(sweep),
            find_expired: safe(find_expired),
            sweep_found: safe(sweep_found),
        }
    }
}

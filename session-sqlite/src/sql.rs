//! The statements.
//!
//! SQLite knows no arrays: each statement exists for several numbers of records, and is prepared once for each.

use std::ops::Range;

use session_core::head::{DATA_LEN, LEN, SUBJECT_LEN};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::plan::HEAD;

/// For so many records, statements are made. The last is also the most that one statement takes.
pub(crate) const SIZES: [usize; 4] = [1, 8, 32, 128];

/// The place of the smallest size that takes `count`, or of the largest there is.
fn at(count: usize) -> usize {
    SIZES
        .iter()
        .position(|size| *size >= count)
        .unwrap_or(SIZES.len() - 1)
}

/// A statement for each of [`SIZES`].
pub(crate) struct Sized([SqlStr; SIZES.len()]);

impl Sized {
    /// `make` gets what stands once for each record, `one` so many times, separated by commas.
    fn new(one: &str, make: impl Fn(&str) -> String) -> Self {
        Self(SIZES.map(|size| safe(make(&vec![one; size].join(", ")))))
    }

    /// The smallest that takes `count` records, or the largest; what it does not need, is to be `NULL`.
    pub(crate) fn padded(&self, count: usize) -> (SqlStr, usize) {
        let at = at(count);
        (self.0[at].clone(), SIZES[at])
    }

    /// The largest that `count` records fill.
    pub(crate) fn filled(&self, count: usize) -> (SqlStr, usize) {
        let at = SIZES.iter().rposition(|size| *size <= count).unwrap_or(0);
        (self.0[at].clone(), SIZES[at])
    }
}

/// One write each, if it can be done: a row if it was. Before it, a number that tells whether others have written since: were
/// it asked for after the write, it might be `Busy` when the write is done.
pub(crate) struct Alone {
    /// Key, value, subject, end and hour.
    pub(crate) create: SqlStr,
    /// Key, time, what the value begins with, then value, subject, end and hour.
    pub(crate) update: SqlStr,
    /// Key, time, end and hour.
    pub(crate) touch: SqlStr,
    /// Key, time, and what the value begins with, or `NULL`.
    pub(crate) delete: SqlStr,
}

/// Whether a value is as long as it says itself. SQLite reads no numbers from bytes: they are put together from hexadecimal
/// digits.
fn is_whole() -> String {
    let (begin, end) = (SUBJECT_LEN.start, DATA_LEN.end);
    let digit = |at: usize| format!("instr('123456789ABCDEF', substr(h, {at}, 1))");
    let number = |places: Range<usize>| {
        let byte = |(power, at): (u32, usize)| {
            let high = 2 * (at - begin) + 1;
            let (high, low) = (digit(high), digit(high + 1));
            format!("({high} * 16 + {low}) * {}", 256_u64.pow(power))
        };
        (0..).zip(places).map(byte).collect::<Vec<_>>().join(" + ")
    };
    format!(
        "length(value) = (SELECT {LEN} + {} + {} FROM (SELECT hex(substr(value, {}, {})) AS h))",
        number(SUBJECT_LEN),
        number(DATA_LEN),
        begin + 1,
        end - begin,
    )
}

impl Alone {
    fn new() -> Self {
        let begins = format!("substr(value, 1, {HEAD}) = ?3 AND {}", is_whole());
        let of = |write: String| safe(format!("PRAGMA data_version; {write} RETURNING 1"));
        let lives = "WHERE key = ?1 AND expires_at > ?2";
        Self {
            create: of(
                "INSERT INTO sessions (key, value, subject, expires_at, sweep) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (key) DO NOTHING"
                    .to_owned(),
            ),
            update: of(format!(
                "UPDATE sessions SET value = ?4, subject = ?5, expires_at = ?6, sweep = ?7 {lives} AND {begins}"
            )),
            touch: of(format!("UPDATE sessions SET expires_at = ?3, sweep = ?4 {lives}")),
            delete: of(format!(
                "DELETE FROM sessions {lives} AND (?3 IS NULL OR ({begins}))"
            )),
        }
    }
}

pub(crate) struct Statements {
    /// Keys, then the time. Key, value and end of what lives.
    pub(crate) load: Sized,
    /// Keys. Key, beginning and length of the value, and end.
    pub(crate) look: Sized,
    /// Key, value, subject, end and hour of each.
    pub(crate) put: Sized,
    /// Key, end and hour of each.
    pub(crate) touch: Sized,
    /// Keys.
    pub(crate) remove: Sized,
    /// Subject, time. Keys.
    pub(crate) list: SqlStr,
    /// Subject, time, the key that stays.
    pub(crate) delete_all: SqlStr,
    /// Hour, time, the most.
    pub(crate) sweep: SqlStr,
    pub(crate) alone: Alone,
    /// Waits for nobody. Whether others have written since is told by the number.
    pub(crate) begin: SqlStr,
    pub(crate) commit: SqlStr,
}

fn safe(sql: String) -> SqlStr {
    AssertSqlSafe(sql).into_sql_str()
}

impl Statements {
    pub(crate) fn new() -> Self {
        Self {
            load: Sized::new("?", |keys| {
                format!(
                    "SELECT key, value, expires_at FROM sessions WHERE key IN ({keys}) AND expires_at > ?"
                )
            }),
            look: Sized::new("?", |keys| {
                format!(
                    "SELECT key, substr(value, 1, {LEN}), length(value), expires_at FROM sessions WHERE key IN ({keys})"
                )
            }),
            put: Sized::new("(?, ?, ?, ?, ?)", |rows| {
                format!(
                    "INSERT INTO sessions (key, value, subject, expires_at, sweep) VALUES {rows}
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value, subject = excluded.subject,
                         expires_at = excluded.expires_at, sweep = excluded.sweep"
                )
            }),
            touch: Sized::new("(?, ?, ?)", |rows| {
                format!(
                    "UPDATE sessions SET expires_at = v.column2, sweep = v.column3
                     FROM (VALUES {rows}) v WHERE key = v.column1"
                )
            }),
            remove: Sized::new("?", |keys| format!("DELETE FROM sessions WHERE key IN ({keys})")),
            list: SqlStr::from_static("SELECT key FROM sessions WHERE subject = ? AND expires_at > ?"),
            delete_all: SqlStr::from_static(
                "DELETE FROM sessions WHERE subject = ? AND expires_at > ? AND key IS NOT ?",
            ),
            sweep: SqlStr::from_static(
                "DELETE FROM sessions WHERE rowid IN (
                     SELECT rowid FROM sessions WHERE sweep <= ? AND expires_at <= ? ORDER BY sweep LIMIT ?)",
            ),
            alone: Alone::new(),
            begin: SqlStr::from_static("BEGIN IMMEDIATE; PRAGMA data_version"),
            commit: SqlStr::from_static("COMMIT"),
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, Row, SqliteConnection};

    use super::*;

    #[tokio::test]
    async fn no_statement_reads_the_whole_table() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        crate::schema::migrate(&mut connection).await.unwrap_err();
        let all = Statements::new();
        let sized = [&all.load, &all.look, &all.put, &all.touch, &all.remove];
        let mut statements: Vec<SqlStr> = sized.iter().flat_map(|sized| sized.0.clone()).collect();
        statements.extend([all.list, all.delete_all, all.sweep]);
        let alone = all.alone;
        statements.extend([alone.create, alone.update, alone.touch, alone.delete]);
        for statement in statements {
            let (_, last) = statement
                .as_str()
                .split_once(';')
                .unwrap_or(("", statement.as_str()));
            let explain = safe(format!("EXPLAIN QUERY PLAN {last}"));
            let plan: Vec<String> = sqlx::query(explain)
                .fetch_all(&mut connection)
                .await
                .unwrap()
                .iter()
                .map(|row| row.get("detail"))
                .collect();
            let scans = plan.iter().any(|step| step.starts_with("SCAN sessions"));
            assert!(!scans, "{}: {plan:?}", statement.as_str());
        }
    }

    /// As [`session_core::head::is_whole`] does.
    #[tokio::test]
    async fn value_that_is_cut_is_told_from_a_whole_one() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let is_whole = safe(format!("SELECT {} FROM (SELECT ? AS value)", is_whole()));
        for subject in [0_u16, 1, 15, 16, 0x0102] {
            for data in [0_u32, 9, 255, 256, 0x0001_0203] {
                let mut value = vec![0xab; LEN + usize::from(subject) + data as usize];
                value[SUBJECT_LEN].copy_from_slice(&subject.to_le_bytes());
                value[DATA_LEN].copy_from_slice(&data.to_le_bytes());
                let long = [&value[..], b"x"].concat();
                for (value, whole) in [
                    (&value[..], true),
                    (&value[..value.len() - 1], false),
                    (&long, false),
                    (&value[..LEN - 1], false),
                    (&[], false),
                ] {
                    let row = sqlx::query(is_whole.clone()).bind(value.to_vec());
                    let told: bool = row.fetch_one(&mut connection).await.unwrap().get(0);
                    assert_eq!(told, whole, "{subject} {data} {}", value.len());
                    let begin = &value[..LEN.min(value.len())];
                    assert_eq!(session_core::head::is_whole(begin, value.len()), whole);
                }
            }
        }
    }

    #[test]
    fn statement_of_the_right_size_is_found() {
        let sized = Sized::new("?", |all| format!("SELECT {all}"));
        for (count, padded, filled) in [
            (1, 1, 1),
            (2, 8, 1),
            (8, 8, 8),
            (33, 128, 32),
            (128, 128, 128),
            (256, 128, 128),
        ] {
            assert_eq!(
                (sized.padded(count).1, sized.filled(count).1),
                (padded, filled),
                "{count}"
            );
        }
    }
}

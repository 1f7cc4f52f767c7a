//! The statements.
//!
//! SQLite knows no arrays: each statement exists for several numbers of records, and is prepared once for each.

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

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
    /// Waits for nobody. Whether others have written since is told by the number.
    pub(crate) begin: SqlStr,
    pub(crate) commit: SqlStr,
}

fn safe(sql: String) -> SqlStr {
    AssertSqlSafe(sql).into_sql_str()
}

impl Statements {
    pub(crate) fn new() -> Self {
        let begin = session_core::head::LEN;
        Self {
            load: Sized::new("?", |keys| {
                format!(
                    "SELECT key, value, expires_at FROM sessions WHERE key IN ({keys}) AND expires_at > ?"
                )
            }),
            look: Sized::new("?", |keys| {
                format!(
                    "SELECT key, substr(value, 1, {begin}), length(value), expires_at FROM sessions WHERE key IN ({keys})"
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
        for statement in statements {
            let explain = safe(format!("EXPLAIN QUERY PLAN {}", statement.as_str()));
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

//! The table, and how it came to be.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::ConfigError;

/// Bytes of a name: the server would cut a longer one, and ours get an ending.
const LONGEST: usize = 48;

/// The ending of the name of the table beside it.
const HISTORY: &str = "_migrations";

/// Where the records are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
}

impl Table {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let is_name = |name: &str| (1..=LONGEST).contains(&name.len()) && !name.contains('\0');
        match is_name(&self.name) && self.schema.as_deref().is_none_or(is_name) {
            true => Ok(()),
            false => Err(ConfigError::Name),
        }
    }

    /// As it stands in a statement.
    pub(crate) fn quoted(&self) -> String {
        self.beside("")
    }

    /// Where the versions of the table are noted, as it stands in a statement.
    fn history(&self) -> String {
        self.beside(HISTORY)
    }

    /// The name of what belongs to the table, in its schema.
    fn beside(&self, ending: &str) -> String {
        let name = quote(&format!("{}{ending}", self.name));
        match &self.schema {
            Some(schema) => format!("{}.{name}", quote(schema)),
            None => name,
        }
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What leads from each version of the table to the next. A released one never changes.
pub(crate) fn migrations(table: &Table, unlogged: bool) -> Vec<String> {
    let name = table.quoted();
    let unlogged = if unlogged { "UNLOGGED " } else { "" };
    let index = |ending: &str| quote(&format!("{}{ending}", table.name));
    let (subject, sweep) = (index("_subject"), index("_sweep"));
    // A quarter of each page is left to the next state of its rows, so that a touch stays on its page (HOT). Values are
    // stored as they are: they may be encrypted, and their beginning is read alone.
    vec![format!(
        "CREATE {unlogged}TABLE IF NOT EXISTS {name} (
             key bytea PRIMARY KEY,
             value bytea NOT NULL,
             subject bytea,
             expires_at timestamptz NOT NULL,
             sweep integer NOT NULL
         ) WITH (fillfactor = 75);
         ALTER TABLE {name} ALTER COLUMN value SET STORAGE EXTERNAL;
         CREATE INDEX IF NOT EXISTS {subject} ON {name} (subject) WHERE subject IS NOT NULL;
         CREATE INDEX IF NOT EXISTS {sweep} ON {name} (sweep);"
    )]
}

/// Why the table is not as it must be.
pub(crate) enum Unfit {
    Client(sqlx::Error),
    /// The table is of a version that this one does not know.
    Newer(i32),
    /// Transactions have another isolation level than the statements are made for.
    Isolation(String),
}

impl From<sqlx::Error> for Unfit {
    fn from(error: sqlx::Error) -> Self {
        Self::Client(error)
    }
}

/// Brings the table to this version. Nodes that start at once wait for each other.
pub(crate) async fn migrate(
    connection: &mut PgConnection,
    table: &Table,
    unlogged: bool,
) -> Result<(), Unfit> {
    let level: String = sqlx::query_scalar("SELECT current_setting('default_transaction_isolation')")
        .fetch_one(&mut *connection)
        .await?;
    if level != "read committed" {
        return Err(Unfit::Isolation(level));
    }
    let steps = migrations(table, unlogged);
    let latest = i32::try_from(steps.len()).unwrap_or(i32::MAX);
    // Who may not change tables can still use one that is as it must be.
    if version(connection, table).await? == latest {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    // By the name, so that other tables do not wait.
    lock(&mut transaction, table.quoted()).await?;
    if let Some(schema) = &table.schema
        && !has_schema(&mut transaction, schema).await?
    {
        // Who makes another table in it may be making it. Always locked after the table, so that no two wait for each other.
        lock(&mut transaction, format!("schema {}", quote(schema))).await?;
        if !has_schema(&mut transaction, schema).await? {
            run(&mut transaction, format!("CREATE SCHEMA {}", quote(schema))).await?;
        }
    }
    // Somebody may have been faster.
    let begun = version(&mut transaction, table).await?;
    if begun > latest {
        return Err(Unfit::Newer(begun));
    }
    let history = table.history();
    run(
        &mut transaction,
        format!(
            "CREATE TABLE IF NOT EXISTS {history} (
                 version integer PRIMARY KEY,
                 applied_at timestamptz NOT NULL DEFAULT now())"
        ),
    )
    .await?;
    for (step, at) in steps.into_iter().zip(1_i32..) {
        if at > begun {
            run(&mut transaction, step).await?;
            let noted = format!("INSERT INTO {history} (version) VALUES ({at})");
            run(&mut transaction, noted).await?;
        }
    }
    Ok(transaction.commit().await?)
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map(drop)
}

/// Until the end of the transaction, so that it works through a pooler.
async fn lock(connection: &mut PgConnection, name: String) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('session-postgres ' || $1, 0))")
        .bind(name)
        .execute(connection)
        .await
        .map(drop)
}

/// As [`version`], this reads the catalog itself. `to_regclass` and `to_regnamespace` ask a cache of the connection, which
/// still says no if somebody else made it while this transaction waited for a lock.
async fn has_schema(connection: &mut PgConnection, schema: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(connection)
        .await
}

/// 0: there is no table yet.
async fn version(connection: &mut PgConnection, table: &Table) -> Result<i32, sqlx::Error> {
    let there: bool = sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relname = $1 AND CASE WHEN $2::text IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = $2 END)",
    )
    .bind(format!("{}{HISTORY}", table.name))
    .bind(&table.schema)
    .fetch_one(&mut *connection)
    .await?;
    if !there {
        return Ok(0);
    }
    let sql = format!("SELECT coalesce(max(version), 0) FROM {}", table.history());
    let row = sqlx::query(AssertSqlSafe(sql))
        .fetch_one(&mut *connection)
        .await?;
    row.try_get(0)
}

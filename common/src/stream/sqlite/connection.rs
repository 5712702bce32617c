//! A SQLite connection as plain, blocking calls, and what its errors mean.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteRow, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Row as _, Sqlite};
use tokio::runtime::Handle;

use crate::stream::log::LogError;

/// How long a statement waits for another process's write to end.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a full disk means, and what to do.
pub(super) const DISK_FULL: &str = "the disk is full: free some space, the work then goes on by itself";

/// A SQL statement with its arguments.
pub(super) type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Where the file is and what drives the calls.
#[derive(Clone)]
pub(super) struct Place {
    pub path: Arc<Path>,
    pub runtime: Handle,
}

pub(super) struct Connection {
    inner: SqliteConnection,
    place: Place,
}

impl Connection {
    /// Opens the file for writing, creating it.
    pub fn writer(place: &Place) -> Result<Self, LogError> {
        let options = options(place)
            .create_if_missing(true)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", "4096")
            .pragma("journal_size_limit", "67108864")
            .pragma("cache_size", "-8000");
        Self::open(place, &options)
    }

    /// Opens the file for reading.
    pub fn reader(place: &Place) -> Result<Self, LogError> {
        Self::open(place, &options(place).pragma("query_only", "on").pragma("cache_size", "-512"))
    }

    fn open(place: &Place, options: &SqliteConnectOptions) -> Result<Self, LogError> {
        let inner = place.runtime.block_on(options.connect()).map_err(|e| explain(&place.path, "open", &e))?;
        Ok(Self { inner, place: place.clone() })
    }

    /// Runs statements that answer nothing.
    pub fn run(&mut self, statement: Statement<'_>) -> Result<(), LogError> {
        let done = self.place.runtime.block_on(statement.execute(&mut self.inner));
        done.map(|_| ()).map_err(|e| self.explain("write to", &e))
    }

    /// All rows of a query's answer.
    pub fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<SqliteRow>, LogError> {
        let rows = self.place.runtime.block_on(statement.fetch_all(&mut self.inner));
        rows.map_err(|e| self.explain("read", &e))
    }

    /// The first row of a query's answer.
    pub fn row(&mut self, statement: Statement<'_>) -> Result<Option<SqliteRow>, LogError> {
        let row = self.place.runtime.block_on(statement.fetch_optional(&mut self.inner));
        row.map_err(|e| self.explain("read", &e))
    }

    /// The number that a query answers with; 0 if it answers with none.
    pub fn number(&mut self, statement: Statement<'_>) -> Result<i64, LogError> {
        let row = self.row(statement)?;
        row.map_or(Ok(0), |row| self.get(&row, 0))
    }

    /// A column's value.
    pub fn get<'r, T>(&self, row: &'r SqliteRow, column: usize) -> Result<T, LogError>
    where
        T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
    {
        row.try_get(column).map_err(|e| self.explain("read", &e))
    }

    pub fn path(&self) -> &Path {
        &self.place.path
    }

    fn explain(&self, action: &str, error: &sqlx::Error) -> LogError {
        explain(&self.place.path, action, error)
    }
}

fn options(place: &Place) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&*place.path)
        .busy_timeout(BUSY_TIMEOUT)
        .thread_name(|id| format!("log-sqlite-{id}"))
        .disable_statement_logging()
}

/// SQLite's primary result codes (<https://sqlite.org/rescode.html>).
mod code {
    pub const PERM: i32 = 3;
    pub const BUSY: i32 = 5;
    pub const LOCKED: i32 = 6;
    pub const NOMEM: i32 = 7;
    pub const READONLY: i32 = 8;
    pub const IOERR: i32 = 10;
    pub const CORRUPT: i32 = 11;
    pub const FULL: i32 = 13;
    pub const CANTOPEN: i32 = 14;
    pub const NOTADB: i32 = 26;
    /// Extended: there is no room for the index of the write-ahead log, the first thing that opening needs.
    pub const IOERR_SHMSIZE: i32 = IOERR | (19 << 8);
}

/// The primary result code; of an extended one that means something else, that other.
fn meaning(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(if code == code::IOERR_SHMSIZE { code::FULL } else { code & 0xff })
}

/// Says what failed, where, and how to mend it.
pub(super) fn explain(path: &Path, action: &str, error: &sqlx::Error) -> LogError {
    let retry = |mend: &str| LogError::Retry(format!("cannot {action} the log {}: {error}; {mend}", path.display()));
    let fatal = |mend: &str| LogError::Fatal(format!("cannot {action} the log {}: {error}; {mend}", path.display()));
    match meaning(error) {
        Some(code::FULL) => retry(DISK_FULL),
        Some(code::BUSY | code::LOCKED) => {
            retry("another process has kept it locked for seconds: look for one that is stopped or holds a transaction")
        }
        Some(code::IOERR) => retry("check the disk, its mount and its quota"),
        Some(code::CANTOPEN) => retry("check that its directory exists and may be written by this user"),
        Some(code::NOMEM) => retry("memory is short"),
        Some(code::PERM | code::READONLY) => fatal("file and directory must be writable by this user"),
        Some(code::CORRUPT) => {
            fatal("the file is damaged: save what `sqlite3 FILE .recover` finds, or restore a backup")
        }
        Some(code::NOTADB) => fatal("the file is no SQLite database: check the path in the setting `log`"),
        Some(_) => fatal("this is not expected"),
        None if matches!(error, sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed) => retry("the connection is lost"),
        None => fatal("this is not expected"),
    }
}

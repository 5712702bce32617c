//! Reaching a database, and what its errors mean.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::DbError;
use crate::config::{DatabaseLocation, PostgresLocation};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a statement waits for another process's write to a SQLite file to end.
const BUSY: Duration = Duration::from_secs(5);

/// Limits of a PostgreSQL session. The last one frees what an owner that hangs in a transaction has locked.
const SESSION: &str = "set statement_timeout = '30s'; set lock_timeout = '10s'; \
                       set idle_in_transaction_session_timeout = '15s'";

/// A database that can be connected to.
#[derive(Debug, Clone)]
pub enum Database {
    Postgres(PostgresLocation),
    Sqlite(PathBuf),
}

/// A connection: of no more use after an error that is not a refusal.
#[derive(Debug)]
pub enum Connection {
    Postgres(Box<PgConnection>),
    Sqlite(Box<SqliteConnection>),
}

/// Without the password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(location) => location.fmt(f),
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
        }
    }
}

impl Database {
    /// The database at a location; `None` if there is to be none.
    #[must_use]
    pub fn at(location: &DatabaseLocation) -> Option<Self> {
        match location {
            DatabaseLocation::None => None,
            DatabaseLocation::Sqlite(file) => Some(Self::Sqlite(file.clone())),
            DatabaseLocation::Postgres(location) => Some(Self::Postgres(location.clone())),
        }
    }

    /// Connects; a SQLite file is created.
    ///
    /// # Errors
    /// What is wrong, and what to check.
    pub async fn connect(&self) -> Result<Connection, DbError> {
        let connecting = async {
            match self {
                Self::Postgres(location) => {
                    let mut connection = postgres_options(location).connect().await?;
                    connection.execute(SESSION).await?;
                    Ok(Connection::Postgres(Box::new(connection)))
                }
                Self::Sqlite(file) => {
                    Ok(Connection::Sqlite(Box::new(sqlite_options(file).create_if_missing(true).connect().await?)))
                }
            }
        };
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(|error| self.explain("connect to", &error)),
            Err(_) => Err(DbError::Unavailable(format!(
                "cannot connect to the database {self}: no answer within {} s; check that it runs and that host and \
                 port are right",
                CONNECT.as_secs()
            ))),
        }
    }

    /// Says what failed, where, and how to mend it.
    pub(super) fn explain(&self, doing: &str, error: &sqlx::Error) -> DbError {
        let (text, mend, schema) = match self {
            Self::Postgres(_) => explain_postgres(error),
            Self::Sqlite(_) => explain_sqlite(error),
        };
        let text = format!("cannot {doing} the database {self}: {text}; {mend}");
        if schema { DbError::Schema(text) } else { DbError::Unavailable(text) }
    }
}

impl Connection {
    /// Says goodbye, as far as the other side still listens.
    pub async fn close(self) {
        let _ = match self {
            Self::Postgres(connection) => connection.close().await,
            Self::Sqlite(connection) => connection.close().await,
        };
    }
}

/// How PostgreSQL is connected to: without TLS, which this build does not speak.
pub(super) fn postgres_options(location: &PostgresLocation) -> PgConnectOptions {
    // Everything that libpq's variables could say is said here: settings come from the configuration alone.
    let password = location.password.as_ref().map_or("", |password| password.expose_secret());
    PgConnectOptions::new_without_pgpass()
        .host(&location.host)
        .port(location.port)
        .username(&location.user)
        .password(password)
        .database(&location.database)
        .ssl_mode(PgSslMode::Disable)
        .application_name("traffic")
        .disable_statement_logging()
}

/// How the file is opened. A commit that a power cut undoes takes its offsets along and is made again from the
/// log, so not every one is synced to the disk.
pub(super) fn sqlite_options(file: &std::path::Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY)
        .pragma("journal_size_limit", "67108864")
        .thread_name(|id| format!("database-sqlite-{id}"))
        .disable_statement_logging()
}

const RUNS: &str = "check that it runs and that host and port are right";
const MIGRATE: &str = "run `traffic migrate up`";

/// The server's or the system's words, how to mend it, and whether the tables are to blame.
fn explain_postgres(error: &sqlx::Error) -> (String, &'static str, bool) {
    let Some(refusal) = error.as_database_error() else {
        return (error.to_string(), RUNS, false);
    };
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    let code = refusal.code().unwrap_or_default();
    let (mend, schema) = match &*code {
        "28P01" => ("check user and password (TRAFFIC_DATABASE, POSTGRES_USER, POSTGRES_PASSWORD)", false),
        "28000" => ("check user and password, and that pg_hba.conf allows connections without TLS", false),
        "3D000" => ("create it, or check its name (TRAFFIC_DATABASE, POSTGRES_DB)", false),
        "3F000" | "42P01" | "42703" | "42883" => (MIGRATE, true),
        "23514" => ("a day's partition was dropped meanwhile, or a row is not as the tables demand", false),
        "42501" => ("grant the user what it needs: the owner of the schema traffic has it all", false),
        "53100" => ("free some space on its disk; the work then goes on by itself", false),
        "53300" => ("raise max_connections, or stop what holds so many connections", false),
        "55P03" | "57014" => ("another session has kept it waiting: look into pg_stat_activity", false),
        code if code.starts_with("57P") => ("it is starting, stopping or ended this session", false),
        code if code.starts_with("40") => ("another transaction was in the way", false),
        _ => ("this is not expected", false),
    };
    (format!("{} ({code})", refusal.message()), mend, schema)
}

fn explain_sqlite(error: &sqlx::Error) -> (String, &'static str, bool) {
    let code = error.as_database_error().and_then(|refusal| refusal.code()).and_then(|code| code.parse::<i32>().ok());
    if error.to_string().contains("no such table") {
        return (error.to_string(), MIGRATE, true);
    }
    // https://sqlite.org/rescode.html
    let mend = match code.map(|code| code & 0xff) {
        Some(5 | 6) => "another process has kept it locked for seconds: look for one that holds a transaction",
        Some(3 | 8) => "file and directory must be writable by this user",
        Some(10) => "check the disk and its mount",
        Some(11) => "the file is damaged: restore a backup, or delete it, and it is made anew from the topics",
        Some(13) => "the disk is full: free some space, the work then goes on by itself",
        Some(14) => "check that its directory exists and may be written by this user",
        Some(26) => "the file is no SQLite database: check the path (TRAFFIC_DATABASE)",
        _ => "this is not expected",
    };
    (error.to_string(), mend, false)
}

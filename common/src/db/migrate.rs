//! The tables, made and unmade by numbered, reversible migrations.
//!
//! Applied ones are in `_sqlx_migrations` (in the schema `traffic` on PostgreSQL) with a checksum of their text. A run
//! is one transaction on SQLite; on PostgreSQL each migration is one, under an advisory lock.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _, SqlSafeStr as _};

use super::{Connection, Database, DbError};

/// A migration as it is built in.
struct Source {
    version: i64,
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

macro_rules! source {
    ($kind:literal, $version:literal, $number:literal, $name:literal) => {
        Source {
            version: $version,
            name: $name,
            up: include_str!(concat!("migrations/", $kind, "/", $number, "_", $name, ".up.sql")),
            down: include_str!(concat!("migrations/", $kind, "/", $number, "_", $name, ".down.sql")),
        }
    };
}

const POSTGRES: [Source; 3] = [
    source!("postgres", 1, "0001", "traffic"),
    source!("postgres", 2, "0002", "alerts"),
    source!("postgres", 3, "0003", "volume"),
];
const SQLITE: [Source; 3] = [
    source!("sqlite", 1, "0001", "traffic"),
    source!("sqlite", 2, "0002", "alerts"),
    source!("sqlite", 3, "0003", "volume"),
];

const SCHEMA: &str = "traffic";
const POSTGRES_TABLE: &str = "traffic._sqlx_migrations";
const SQLITE_TABLE: &str = "_sqlx_migrations";

/// Which way to go, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Up to this version, or all.
    Up { to: Option<i64> },
    /// Down to this version; 0 removes everything.
    Down { to: i64 },
}

/// How a known or applied migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    Yes,
    No,
    /// Its text was another one when it was applied.
    Changed,
    /// A newer program has applied it.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrationStatus {
    pub version: i64,
    pub name: String,
    pub applied: Applied,
}

impl Database {
    fn sources(&self) -> &'static [Source] {
        match self {
            Self::Postgres(_) => &POSTGRES,
            Self::Sqlite(_) => &SQLITE,
        }
    }

    /// All of them, both ways, in order.
    fn migrations(&self) -> Vec<Migration> {
        self.sources().iter().flat_map(Source::migrations).collect()
    }

    fn migrations_table(&self) -> &'static str {
        match self {
            Self::Postgres(_) => POSTGRES_TABLE,
            Self::Sqlite(_) => SQLITE_TABLE,
        }
    }
}

impl Source {
    fn migrations(&self) -> [Migration; 2] {
        [(MigrationType::ReversibleUp, self.up), (MigrationType::ReversibleDown, self.down)]
            .map(|(kind, sql)| Migration::new(self.version, self.name.into(), kind, sql.into_sql_str(), false))
    }

    fn checksum(&self) -> Vec<u8> {
        let [up, _] = self.migrations();
        up.checksum.into_owned()
    }
}

/// Brings the tables where `direction` says. Does nothing if they are there; concurrent runs wait for each other.
///
/// # Errors
/// If the database is out of reach, or if an applied migration is not the one of this program.
pub async fn migrate(database: &Database, direction: Direction) -> Result<(), DbError> {
    let to = match direction {
        Direction::Up { to } => to,
        Direction::Down { to } => Some(to),
    };
    let newest = database.sources().last().map_or(0, |source| source.version);
    if let Some(to) = to.filter(|to| !(0..=newest).contains(to)) {
        return Err(DbError::Schema(format!(
            "there is no migration {to}: they are 1 to {newest}, and 0 is before the first"
        )));
    }
    // A connection of its own: a lock that is left behind goes with it.
    let mut connection = database.connect().await?;
    let done = match &mut connection {
        Connection::Postgres(connection) => run_on_postgres(database, connection, direction).await,
        Connection::Sqlite(connection) => run_on_sqlite(database, connection, direction).await,
    };
    connection.close().await;
    done
}

async fn run_on_postgres(
    database: &Database,
    connection: &mut PgConnection,
    direction: Direction,
) -> Result<(), DbError> {
    // Others may be migrating, and a migration of a large table takes its time.
    sqlx::query("select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)")
        .execute(&mut *connection)
        .await
        .map_err(|error| database.explain("migrate", &error))?;
    connection.lock().await.map_err(|error| explain(database, error))?;
    run(database, connection, direction).await?;
    connection.unlock().await.map_err(|error| explain(database, error))
}

async fn run_on_sqlite(
    database: &Database,
    connection: &mut SqliteConnection,
    direction: Direction,
) -> Result<(), DbError> {
    let failed = |error: &sqlx::Error| database.explain("migrate", error);
    let mut transaction = connection.begin_with("begin immediate").await.map_err(|error| failed(&error))?;
    run(database, &mut *transaction, direction).await?;
    transaction.commit().await.map_err(|error| failed(&error))
}

async fn run<C: Migrate>(database: &Database, connection: &mut C, direction: Direction) -> Result<(), DbError> {
    let migrations = database.migrations();
    let table = database.migrations_table();
    let failed = |error: MigrateError| explain(database, error);
    if let Database::Postgres(_) = database {
        connection.create_schema_if_not_exists(SCHEMA).await.map_err(failed)?;
    }
    connection.ensure_migrations_table(table).await.map_err(failed)?;
    let applied = connection.list_applied_migrations(table).await.map_err(failed)?;
    let applied: BTreeMap<i64, Vec<u8>> = applied.into_iter().map(|m| (m.version, m.checksum.into_owned())).collect();
    refuse_strangers(database, &applied)?;
    let wanted = |migration: &&Migration| match direction {
        Direction::Up { to } => {
            migration.migration_type.is_up_migration()
                && !applied.contains_key(&migration.version)
                && to.is_none_or(|to| migration.version <= to)
        }
        Direction::Down { to } => {
            migration.migration_type.is_down_migration()
                && applied.contains_key(&migration.version)
                && migration.version > to
        }
    };
    match direction {
        Direction::Up { .. } => {
            for migration in migrations.iter().filter(wanted) {
                connection.apply(table, migration).await.map_err(failed)?;
            }
        }
        Direction::Down { .. } => {
            for migration in migrations.iter().rev().filter(wanted) {
                connection.revert(table, migration).await.map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Applied migrations must be known, with the same text.
fn refuse_strangers(database: &Database, applied: &BTreeMap<i64, Vec<u8>>) -> Result<(), DbError> {
    for migration in compare(database, applied) {
        let MigrationStatus { version, name, applied } = migration;
        match applied {
            Applied::Changed => {
                return Err(DbError::Schema(format!(
                    "migration {version} ({name}) of the database {database} was applied with another text than this \
                     program's: its checksum differs; use the program that made it, or restore its file"
                )));
            }
            Applied::Unknown => {
                return Err(DbError::Schema(format!(
                    "migration {version} of the database {database} is not known to this program: a newer one has \
                     applied it; migrate with that one"
                )));
            }
            Applied::Yes | Applied::No => {}
        }
    }
    Ok(())
}

fn compare(database: &Database, applied: &BTreeMap<i64, Vec<u8>>) -> Vec<MigrationStatus> {
    let known = database.sources().iter().map(|source| MigrationStatus {
        version: source.version,
        name: source.name.to_owned(),
        applied: match applied.get(&source.version) {
            None => Applied::No,
            Some(checksum) if *checksum == source.checksum() => Applied::Yes,
            Some(_) => Applied::Changed,
        },
    });
    let unknown = applied.keys().filter(|version| database.sources().iter().all(|source| source.version != **version));
    let unknown =
        unknown.map(|version| MigrationStatus { version: *version, name: "?".to_owned(), applied: Applied::Unknown });
    known.chain(unknown).collect()
}

/// How the migrations stand; changes nothing.
///
/// # Errors
/// If the database cannot be read.
pub async fn status(database: &Database, connection: &mut Connection) -> Result<Vec<MigrationStatus>, DbError> {
    let applied = match connection {
        Connection::Postgres(connection) => applied_on_postgres(connection).await,
        Connection::Sqlite(connection) => applied_on_sqlite(connection).await,
    };
    Ok(compare(database, &applied.map_err(|error| database.explain("read the migrations of", &error))?))
}

async fn applied_on_postgres(connection: &mut PgConnection) -> Result<BTreeMap<i64, Vec<u8>>, sqlx::Error> {
    let exists = sqlx::query("select to_regclass($1) is not null").bind(POSTGRES_TABLE);
    if !exists.fetch_one(&mut *connection).await?.try_get::<bool, _>(0)? {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query("select version, checksum from traffic._sqlx_migrations").fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

async fn applied_on_sqlite(connection: &mut SqliteConnection) -> Result<BTreeMap<i64, Vec<u8>>, sqlx::Error> {
    let exists = sqlx::query("select 1 from sqlite_master where type = 'table' and name = ?").bind(SQLITE_TABLE);
    if exists.fetch_optional(&mut *connection).await?.is_none() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query("select version, checksum from _sqlx_migrations").fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Whether the tables are there that this program needs. A newer program may have added to them.
///
/// # Errors
/// `Schema`, with what to do, if they are not.
pub async fn check(database: &Database, connection: &mut Connection) -> Result<(), DbError> {
    let status = status(database, connection).await?;
    let missing = |m: &&MigrationStatus| m.applied == Applied::No;
    if let Some(MigrationStatus { version, name, .. }) = status.iter().find(missing) {
        return Err(DbError::Schema(format!(
            "the database {database} has not been migrated: {version} ({name}) is missing; run `traffic migrate up`"
        )));
    }
    let applied = status.iter().filter(|m| m.applied == Applied::Changed).map(|m| (m.version, Vec::new())).collect();
    refuse_strangers(database, &applied)
}

fn explain(database: &Database, error: MigrateError) -> DbError {
    match error {
        MigrateError::Execute(error) => database.explain("migrate", &error),
        MigrateError::ExecuteMigration(error, version) => {
            DbError::Schema(format!("{} (migration {version})", database.explain("migrate", &error)))
        }
        other => DbError::Schema(format!("cannot migrate the database {database}: {other}")),
    }
}

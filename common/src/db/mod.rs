//! The database: topics as rows, for the API and for people, on PostgreSQL or in a SQLite file.
//!
//! A *projection* copies topics into tables: rows and the next offset of their partition change in one database
//! transaction, which first locks the offset and compares it with the expected one. So a row is written exactly
//! once whoever dies when, two owners never both succeed, and the tables can be made anew from the topics.
//! What a projection decides (`score.rs`) is pure and the same for both databases; only statements differ.
//! `docs/database.md` describes the tables.
//!
//! | file | owns |
//! |---|---|
//! | `connect.rs` | reaching a database, and what its errors mean |
//! | `migrate.rs`, `migrations/` | the tables, by reversible migrations |
//! | `rows.rs` | messages as rows: what is taken and what is refused |
//! | `batch.rs` | rows in memory between two transactions |
//! | `score.rs` | where truth and forecast meet: facts in, changes out, pure |
//! | `retention.rs` | which days stay, pure |
//! | `postgres/`, `sqlite/` | the statements |
//! | `projection.rs` | the projections there are, and their transactions |
//! | `sink.rs` | sessions until the end, pauses between them |
//! | `session.rs` | one membership: log → batches → transactions |

mod batch;
mod connect;
mod migrate;
mod postgres;
mod projection;
mod retention;
mod rows;
mod score;
mod session;
mod sink;
mod sqlite;

pub use connect::{Connection, Database};
pub use migrate::{Applied, Direction, MigrationStatus, check, migrate, status};
pub use projection::Projection;
pub use sink::{Control, ProjectionSink, Summary};

use crate::stream::LogError;

/// Why the database did not do what it was asked. No text ever holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DbError {
    /// It is out of reach or refuses; trying again may help, by itself or after somebody has mended it.
    #[error("{0}")]
    Unavailable(String),
    /// Its tables are not as this program needs them.
    #[error("{0}")]
    Schema(String),
    /// Another owner wrote meanwhile: take over anew.
    #[error("{0}")]
    Fenced(String),
}

/// Why a projection's session has ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProjectionError {
    /// Take over anew after a pause.
    #[error("{0}")]
    Retry(String),
    /// Trying again cannot help: the log says so, never the database.
    #[error("{0}")]
    Fatal(String),
}

impl From<DbError> for ProjectionError {
    fn from(error: DbError) -> Self {
        Self::Retry(error.to_string())
    }
}

impl From<LogError> for ProjectionError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Retry(text) | LogError::Unstable(text) | LogError::Fenced(text) => Self::Retry(text),
            LogError::Fatal(text) => Self::Fatal(text),
        }
    }
}

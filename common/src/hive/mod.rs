//! The Parquet archive as tables of a Hive metastore, so that Spark, Hive and Trino find its hours by themselves.
//!
//! The metastore is a copy of what the store says, and never more than that: whatever is missing from it is found again
//! by comparing the two. So it may be away for any time, or be emptied, without the archive noticing.
//!
//! | file | owns |
//! |---|---|
//! | `table.rs` | the tables: names, columns and partitions, from the archive's own schema; their DDL |
//! | `client.rs` | the metastore's calls, each with a timeout |

mod client;
mod table;

pub use client::Metastore;
pub use table::{HiveColumn, HiveTable, ddl};

/// Where the tables are registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// `host:port`.
    pub address: String,
    pub database: String,
    /// The store's URL, which the tables' locations begin with: `hdfs://namenode:9000`, `file:///var/lib/traffic`.
    pub store: String,
}

/// Why the metastore did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HiveError {
    /// Out of reach, or it failed: later again.
    #[error("{0}")]
    Retry(String),
    /// Somebody has to mend something first.
    #[error("{0}")]
    Refused(String),
}

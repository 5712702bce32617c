//! A Hive metastore under test: a database of its own, and what it knows.

use std::collections::BTreeSet;

use common::archive::Dataset;
use common::hive::{Catalogue, HiveError, HiveTable, Metastore};
use common::store::Entry;

use crate::archive::Archive;

/// A database that nobody else uses, for a store at this URL.
#[must_use]
pub fn catalogue(name: &str, metastore: &str, store: &str) -> Catalogue {
    Catalogue {
        address: metastore.trim_start_matches("thrift://").to_owned(),
        database: crate::unique(name).replace('-', "_"),
        store: store.to_owned(),
    }
}

/// The partitions of a dataset's table, as `date=…/hour=…`; nothing while there is no table or no metastore.
#[must_use]
pub fn partitions(archive: &Archive, dataset: Dataset) -> BTreeSet<String> {
    ask(archive, dataset).unwrap_or_default()
}

/// The partitions of a table that is there.
///
/// # Panics
/// If there is no table, or no metastore.
#[must_use]
pub fn known(archive: &Archive, dataset: Dataset) -> BTreeSet<String> {
    ask(archive, dataset).expect("the metastore knows the table")
}

fn ask(archive: &Archive, dataset: Dataset) -> Result<BTreeSet<String>, HiveError> {
    let catalogue = archive.hive.as_ref().expect("the archive is registered");
    archive.runtime.block_on(async {
        let metastore = Metastore::connect(catalogue).await?;
        metastore.partitions(&HiveTable::of(dataset, &catalogue.store)).await
    })
}

/// Makes a table, or sees that it is there.
///
/// # Errors
/// As [`Metastore::ensure`].
pub fn ensure(archive: &Archive, table: &HiveTable) -> Result<(), HiveError> {
    let catalogue = archive.hive.as_ref().expect("the archive is registered");
    archive.runtime.block_on(async { Metastore::connect(catalogue).await?.ensure(table).await })
}

/// The hours below a table's directory that have files, as `date=…/hour=…`.
///
/// # Panics
/// If the store does not answer.
#[must_use]
pub fn hours(archive: &Archive, dir: &str) -> BTreeSet<String> {
    let files = archive.runtime.block_on(archive.store.list(dir, true)).expect("the store lists");
    let hour = |file: &Entry| {
        let below = file.path.strip_prefix(dir)?.strip_prefix('/')?;
        Some(below.rsplit_once('/')?.0.to_owned())
    };
    files.iter().filter_map(hour).filter(|hour| hour.starts_with("date=")).collect()
}

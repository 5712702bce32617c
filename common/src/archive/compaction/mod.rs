//! Compaction and retention: closed hours get few, wholly sorted files; hours that are too old go.
//!
//! Readers glob directories, so one file must take the place of many without a row being seen twice. A *compaction*
//! does so under a manifest: the merged file is written where no reader looks; the manifest, created if absent under
//! the next number of the topic's chain, names it and its inputs; the inputs are moved out of readers' sight, then
//! the merged file is moved in. In between, a reader misses these rows. Whoever comes after a crash finishes the
//! newest manifest before making another, so there is never more than one under way, and it does not matter how many
//! compactors there are. Retention is a compaction without a merged file.
//!
//! The chains of the partitions and this one never meet: only files below a partition's checkpoint are inputs, and
//! nobody asks for those by name any more ([`Ledger::settle`]).
//!
//! | file | owns |
//! |---|---|
//! | `plan.rs` | which files to merge or remove, pure |
//! | `chain.rs` | manifests: made, finished, summed up |
//! | `merge.rs` | many sorted files into one |

mod chain;
mod merge;
mod plan;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use jiff::civil::Date;
use serde::Serialize;

pub use chain::Retired;
pub(super) use chain::{Compaction, Standing, finish, newest, standing};

use super::concurrent::try_all;
use super::dataset::Dataset;
use super::layout::{Compactions, Hour, Table};
use super::ledger::{Committed, Ledger};
use super::manifest::DataFile;
use super::verify::places;
use super::{ArchiveConfig, ArchiveError};
use crate::store::Store;
use chain::Chain;
use plan::{Input, settled};

/// What is to be done.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Only files of these days.
    pub dates: Option<RangeInclusive<Date>>,
    /// Hours that ended after this are still open, epoch ms.
    pub closed_by_ms: i64,
    /// Merge an hour's files from this many on.
    pub min_files: usize,
    /// Remove hours that ended before, epoch ms.
    pub retain_from_ms: Option<i64>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Compacted {
    pub hours: u64,
    /// Files merged, their bytes, and what became of them.
    pub merged_files: u64,
    pub merged_bytes: u64,
    pub written_files: u64,
    pub written_bytes: u64,
    pub rows: u64,
    /// Files that retention removed, and their rows.
    pub removed_files: u64,
    pub removed_rows: u64,
    /// The longest time for which a reader missed rows, ms.
    pub longest_swap_ms: u64,
}

/// One step of the work: done of all, in bytes.
#[derive(Debug, Clone)]
pub struct Progress {
    pub hour: Hour,
    pub done_bytes: u64,
    pub all_bytes: u64,
}

/// Compacts one topic's part of an archive.
pub struct Compactor<'a> {
    pub store: &'a Store,
    pub config: &'a ArchiveConfig,
    pub dataset: Dataset,
    pub topic: &'a str,
    /// Epoch ms.
    pub now_ms: &'a (dyn Fn() -> i64 + Sync),
    /// A UUID for each compaction.
    pub id: &'a (dyn Fn() -> String + Sync),
}

impl Compactor<'_> {
    /// Finishes what an earlier compaction left half done, then removes and merges what is asked for.
    ///
    /// # Errors
    /// `Retry` where the store does not answer or another compactor was faster; what is `done` stays done.
    pub async fn run(
        &self,
        wish: &Wish,
        done: &mut Compacted,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ArchiveError> {
        let (mut chain, files) = self.survey(wish).await?;
        if let Some(from_ms) = wish.retain_from_ms {
            self.remove(&mut chain, &files, from_ms, done).await?;
        }
        let kept = |input: &Input| wish.retain_from_ms.is_none_or(|from_ms| input.hour.end_ms() > from_ms);
        let files: Vec<Input> = files.into_iter().filter(kept).collect();
        let merges = plan::merges(&files, wish.closed_by_ms, wish.min_files, self.config.compact_file_bytes);
        let all_bytes = merges.iter().flatten().map(|input| input.size_bytes).sum();
        let mut hour = None;
        let mut done_bytes = 0;
        for inputs in merges {
            let (place, bytes) =
                ((inputs[0].table, inputs[0].hour), inputs.iter().map(|input| input.size_bytes).sum::<u64>());
            progress(Progress { hour: place.1, done_bytes, all_bytes });
            self.merge(&mut chain, &inputs, done).await?;
            done_bytes += bytes;
            done.hours += u64::from(hour.replace(place) != Some(place));
        }
        Ok(())
    }

    /// What a run would merge: hours, and their files.
    ///
    /// # Errors
    /// As [`Compactor::run`].
    pub async fn plan(&self, wish: &Wish) -> Result<Vec<(Hour, usize, u64)>, ArchiveError> {
        let (_, files) = self.survey(wish).await?;
        let merges = plan::merges(&files, wish.closed_by_ms, wish.min_files, self.config.compact_file_bytes);
        let bytes = |inputs: &[Input]| inputs.iter().map(|input| input.size_bytes).sum();
        Ok(merges.iter().map(|inputs| (inputs[0].hour, inputs.len(), bytes(inputs))).collect())
    }

    /// Finishes what was left half done; returns the chain and the files that may be touched.
    async fn survey(&self, wish: &Wish) -> Result<(Chain, Vec<Input>), ArchiveError> {
        let chain = Chain::take_over(self.store, &Compactions { topic: self.topic.to_owned() }).await?;
        let places = places(self.store, self.topic).await?;
        let ledgers = try_all(places.iter().map(|place| Ledger::settle(self.store, place)).collect()).await?;
        let ends: BTreeMap<u32, i64> =
            ledgers.iter().map(|ledger| (ledger.place().partition, ledger.chain().end())).collect();
        let mut files = Vec::new();
        for table in [Table::Accepted(self.dataset), Table::Rejected(self.dataset)] {
            let dir = table.dir();
            let dirs = match &wish.dates {
                None => vec![dir.clone()],
                Some(dates) => self.days(&dir, dates).await?,
            };
            for listed in dirs {
                let entries = self.store.list(&listed, true).await?;
                // The tree of rejected events lies within that of the others.
                let own = entries
                    .iter()
                    .filter(|entry| entry.path.strip_prefix(&dir).is_some_and(|rest| rest.starts_with("/date=")));
                files.extend(own.filter_map(|entry| settled(entry, table, self.topic, &ends)));
            }
        }
        Ok((chain, files))
    }

    async fn days(&self, dir: &str, dates: &RangeInclusive<Date>) -> Result<Vec<String>, ArchiveError> {
        let entries = self.store.list(dir, false).await?;
        let wanted = entries.into_iter().filter(|entry| {
            let date = entry.name().strip_prefix("date=").and_then(|date| date.parse::<Date>().ok());
            date.is_some_and(|date| dates.contains(&date))
        });
        Ok(wanted.map(|entry| entry.path).collect())
    }

    /// Takes hours that ended before `from_ms` away, a day at a time.
    async fn remove(
        &self,
        chain: &mut Chain,
        files: &[Input],
        from_ms: i64,
        done: &mut Compacted,
    ) -> Result<(), ArchiveError> {
        let mut days: BTreeMap<Date, Vec<&Input>> = BTreeMap::new();
        for input in files.iter().filter(|input| input.hour.end_ms() <= from_ms) {
            days.entry(input.hour.date()).or_default().push(input);
        }
        for (_, inputs) in days {
            let counts = try_all(inputs.iter().map(|input| merge::rows(self.store, input)).collect()).await?;
            let mut retired = chain.retired().clone();
            retired.before_ms = retired.before_ms.max(from_ms);
            for (partition, rows) in counts.into_iter().flatten() {
                *retired.rows.entry(partition).or_default() += rows;
                done.removed_rows += rows;
            }
            done.removed_files += inputs.len() as u64;
            self.commit(chain, &inputs, None, retired, (self.id)()).await?;
        }
        Ok(())
    }

    async fn merge(&self, chain: &mut Chain, inputs: &[Input], done: &mut Compacted) -> Result<(), ArchiveError> {
        let (id, number, Input { table, hour, .. }) = ((self.id)(), chain.next(), &inputs[0]);
        let temporary = chain.compactions().temporary(number, &id);
        let written = merge::merge(self.store, self.config, *table, inputs, &temporary).await;
        let (rows, size_bytes) = match written {
            Ok(written) => written,
            Err(error) => {
                // What stays is removed by a later compaction.
                let _ = self.store.delete_dir(&chain.compactions().batch(number, &id)).await;
                return Err(error);
            }
        };
        let output =
            DataFile { temporary, path: chain.compactions().data(number, &id, *table, *hour), size_bytes, rows };
        let retired = chain.retired().clone();
        let swap_ms = self.commit(chain, &inputs.iter().collect::<Vec<_>>(), Some(output), retired, id).await?;
        done.merged_files += inputs.len() as u64;
        done.merged_bytes += inputs.iter().map(|input| input.size_bytes).sum::<u64>();
        done.written_files += 1;
        done.written_bytes += size_bytes;
        done.rows += rows;
        done.longest_swap_ms = done.longest_swap_ms.max(u64::try_from(swap_ms).unwrap_or(0));
        Ok(())
    }

    async fn commit(
        &self,
        chain: &mut Chain,
        inputs: &[&Input],
        output: Option<DataFile>,
        retired: Retired,
        id: String,
    ) -> Result<i64, ArchiveError> {
        let inputs = inputs.iter().map(|input| input.path.clone()).collect();
        let compaction = chain.compaction(inputs, output, retired, id, (self.now_ms)());
        match chain.commit(compaction, self.now_ms).await? {
            (Committed::Done, swap_ms) => Ok(swap_ms),
            (Committed::Overtaken, _) => {
                Err(ArchiveError::Retry(format!("another process compacts {} at this moment", self.topic)))
            }
        }
    }
}

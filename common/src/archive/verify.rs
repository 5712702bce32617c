//! Proves that an archive holds every committed record exactly once.

use std::collections::{BTreeMap, HashMap};

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::Bytes;
use serde::Serialize;

use super::ArchiveError;
use super::classify::classify;
use super::compaction::{Compaction, Retired, Standing, finish, newest, standing};
use super::dataset::Dataset;
use super::layout::{Compactions, DataName, Origin, Place, Table, commits_of, data_name};
use super::ledger::Ledger;
use super::manifest::{DataFile, Kind};
use crate::model::Normaliser;
use crate::store::{Entry, Store};
use crate::stream::{Log, LogError, Record, TopicPartition};

/// Problems listed in full; the rest are counted.
const LISTED: usize = 100;

/// What an archive of a topic holds, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub topic: String,
    pub partitions: Vec<PartitionReport>,
    /// Compactions so far.
    pub compactions: i64,
    /// What retention has removed.
    pub retired: Retired,
    /// The first problems found.
    pub problems: Vec<String>,
    /// Problems beyond those.
    pub more_problems: u64,
}

/// One partition's part of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    pub partition: u32,
    /// One past the last archived offset.
    pub end: i64,
    pub checkpoint_end: i64,
    /// Manifests above the checkpoint.
    pub manifests: usize,
    pub rows: u64,
    /// Offset ranges that retention deleted before they were archived.
    pub gaps: Vec<(i64, i64)>,
}

impl Report {
    /// Whether the invariant holds; gaps are no problem of the archive's.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, text: String) {
        if self.problems.len() < LISTED {
            self.problems.push(text);
        } else {
            self.more_problems += 1;
        }
    }
}

/// An archive that was read through.
#[derive(Debug)]
pub struct Verification {
    dataset: Dataset,
    report: Report,
    newest: Option<Compaction>,
    offsets: BTreeMap<u32, Offsets>,
}

/// Reads an archive through: chains, files, and every row's offset.
///
/// An unfinished commit is a problem here, though the next owner of its partition mends it.
///
/// # Errors
/// The store cannot be read.
pub async fn verify(store: &Store, dataset: Dataset, topic: &str) -> Result<Verification, ArchiveError> {
    let compactions = Compactions { topic: topic.to_owned() };
    let newest = newest(store, &compactions).await?;
    let report = Report {
        topic: topic.to_owned(),
        partitions: Vec::new(),
        compactions: newest.as_ref().map_or(0, |newest| newest.number + 1),
        retired: newest.as_ref().map(|newest| newest.retired.clone()).unwrap_or_default(),
        problems: Vec::new(),
        more_problems: 0,
    };
    let mut verification = Verification { dataset, report, newest, offsets: BTreeMap::new() };
    verification.compaction(store, &compactions).await?;
    let mut named: HashMap<String, DataFile> = HashMap::new();
    for place in places(store, topic).await? {
        verification.chain(store, &place, &mut named).await?;
    }
    for entry in data_files(store, dataset).await? {
        match data_name(entry.name()) {
            Some(name) if name.topic == topic => {
                verification.file(store, &entry, name, named.remove(&entry.path)).await?;
            }
            _ => {}
        }
    }
    let mut missing: Vec<String> = named.into_keys().collect();
    missing.sort_unstable();
    for path in missing {
        verification.report.problem(format!("{path}: a manifest names it, but it is not there"));
    }
    verification.count();
    Ok(verification)
}

/// What [`repair`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repaired {
    pub partitions: usize,
    /// Batches that nobody can commit any more.
    pub removed_batches: usize,
    /// Whether the newest compaction was half done.
    pub finished_compaction: bool,
}

impl std::fmt::Display for Repaired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { partitions, removed_batches, finished_compaction } = self;
        let compaction = if *finished_compaction { ", 1 compaction finished" } else { "" };
        write!(f, "{partitions} partitions looked through, {removed_batches} dead batches removed{compaction}")
    }
}

/// Finishes what a crash left half done and removes what nobody can commit any more, as the next owners would. Safe
/// beside running workers.
///
/// # Errors
/// The store does not answer, or a file is missing that nothing but a backup can bring back.
pub async fn repair(store: &Store, topic: &str) -> Result<Repaired, ArchiveError> {
    let mut repaired = Repaired::default();
    for place in places(store, topic).await? {
        repaired.removed_batches += Ledger::repair(store, &place).await?;
        repaired.partitions += 1;
    }
    repaired.finished_compaction = finish(store, &Compactions { topic: topic.to_owned() }).await?;
    Ok(repaired)
}

/// The partitions that an archive holds.
pub(super) async fn places(store: &Store, topic: &str) -> Result<Vec<Place>, ArchiveError> {
    let entries = store.list(&commits_of(topic), false).await?;
    let partitions = entries.iter().filter_map(|entry| entry.name().parse().ok());
    Ok(partitions.map(|partition| Place { topic: topic.to_owned(), partition }).collect())
}

async fn data_files(store: &Store, dataset: Dataset) -> Result<Vec<Entry>, ArchiveError> {
    let (accepted, rejected) = (Table::Accepted(dataset).dir(), Table::Rejected(dataset).dir());
    let mut files = store.list(&accepted, true).await?;
    if !rejected.starts_with(&accepted) {
        files.extend(store.list(&rejected, true).await?);
    }
    Ok(files)
}

impl Verification {
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    async fn compaction(&mut self, store: &Store, compactions: &Compactions) -> Result<(), ArchiveError> {
        let Some(newest) = &self.newest else { return Ok(()) };
        let problem = match standing(store, newest).await? {
            Standing::Done => return Ok(()),
            Standing::HalfDone => "is half done; the next one finishes it (`traffic compact`)",
            Standing::Broken => "is half done, and its merged file is gone: restore it from a backup",
        };
        self.report.problem(format!("{}: {problem}", compactions.manifest(newest.number)));
        Ok(())
    }

    /// Whether the commits know of a file.
    fn is_known(&self, name: DataName<'_>, named: bool) -> bool {
        match name.origin {
            Origin::Partition { partition, first } => {
                let partition = self.report.partitions.iter().find(|p| p.partition == partition);
                named || first < partition.map_or(0, |p| p.checkpoint_end)
            }
            Origin::Compaction { number } => self
                .newest
                .as_ref()
                .is_some_and(|newest| number < newest.number || number == newest.number && name.batch == newest.id),
        }
    }

    async fn chain(
        &mut self,
        store: &Store,
        place: &Place,
        named: &mut HashMap<String, DataFile>,
    ) -> Result<(), ArchiveError> {
        let ledger = match Ledger::load(store, place).await {
            Ok(ledger) => ledger,
            Err(ArchiveError::Fatal(problem)) => {
                self.report.problem(problem);
                return Ok(());
            }
            Err(retry) => return Err(retry),
        };
        let chain = ledger.chain();
        let mut gaps = chain.checkpoint.gaps.clone();
        gaps.extend(chain.manifests.iter().filter(|m| m.kind == Kind::Gap).map(|m| (m.first, m.end)));
        self.report.partitions.push(PartitionReport {
            partition: place.partition,
            end: chain.end(),
            checkpoint_end: chain.checkpoint.end,
            manifests: chain.manifests.len(),
            rows: chain.sum().rows,
            gaps,
        });
        let files = chain.manifests.iter().flat_map(|manifest| manifest.files.clone());
        named.extend(files.map(|file| (file.path.clone(), file)));
        Ok(())
    }

    /// Reads one data file and compares it with what its manifest says, if it is still there.
    async fn file(
        &mut self,
        store: &Store,
        entry: &Entry,
        name: DataName<'_>,
        named: Option<DataFile>,
    ) -> Result<(), ArchiveError> {
        let path = &entry.path;
        if !self.is_known(name, named.is_some()) {
            self.report.problem(format!("{path}: no manifest names it"));
        }
        if let Some(file) = named.as_ref().filter(|file| file.size_bytes != entry.size_bytes) {
            let (is, should) = (entry.size_bytes, file.size_bytes);
            self.report.problem(format!("{path}: is {is} bytes long, its manifest says {should}"));
        }
        let Some(content) = store.read(path).await? else {
            self.report.problem(format!("{path}: vanished while it was verified"));
            return Ok(());
        };
        let rows = match positions(content) {
            Ok(rows) => rows,
            Err(error) => {
                self.report.problem(format!("{path}: cannot be read: {error}"));
                return Ok(());
            }
        };
        if let Some(file) = named.filter(|file| file.rows != rows.len() as u64) {
            self.report.problem(format!("{path}: has {} rows, its manifest says {}", rows.len(), file.rows));
        }
        for (partition, offset) in rows {
            if !self.offsets.entry(partition).or_default().insert(offset) {
                self.report.problem(format!("{path}: offset {offset} of partition {partition} is in another row too"));
            }
        }
        Ok(())
    }

    /// Compares the rows found with those committed.
    fn count(&mut self) {
        let mut problems = Vec::new();
        for partition in &self.report.partitions {
            let PartitionReport { partition, end, rows, gaps, .. } = partition;
            let offsets = self.offsets.entry(*partition).or_default();
            let found = offsets.count(0, i64::MAX);
            let retired = self.report.retired.rows.get(partition).copied().unwrap_or(0);
            if found + retired != *rows {
                problems.push(format!(
                    "partition {partition}: {found} rows are in files and {retired} were removed, manifests say {rows}"
                ));
            }
            let beyond = found - offsets.count(0, *end);
            if beyond > 0 {
                problems.push(format!("partition {partition}: {beyond} rows lie beyond the archive's end {end}"));
            }
            for (first, end) in gaps {
                let inside = offsets.count(*first, *end);
                if inside > 0 {
                    problems.push(format!("partition {partition}: {inside} rows lie in the gap {first}..{end}"));
                }
            }
        }
        for partition in self.offsets.keys() {
            if !self.report.partitions.iter().any(|p| p.partition == *partition) {
                problems.push(format!("partition {partition}: has rows, but no readable chain of manifests"));
            }
        }
        for problem in problems {
            self.report.problem(problem);
        }
    }

    /// Compares the archive with the committed records that the log still holds below its end.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn compare_with(&mut self, log: &dyn Log, normaliser: &Normaliser) -> Result<(), LogError> {
        let (dataset, retired_before_ms) = (self.dataset, self.report.retired.before_ms);
        let is_retired = |record: &Record<'_>| {
            retired_before_ms > 0 && classify(dataset, normaliser, record).home.1.end_ms() <= retired_before_ms
        };
        for PartitionReport { partition, end, .. } in self.report.partitions.clone() {
            let at = TopicPartition::new(self.report.topic.clone(), partition);
            let first = log.ends(&at)?.first;
            let offsets = self.offsets.entry(partition).or_default();
            let mut reader = log.read(&at, Some(first))?;
            let (mut committed, mut missing, mut past_end) = (0_u64, Vec::new(), false);
            loop {
                let more = reader.next(&mut |record| {
                    past_end |= record.offset >= end;
                    if record.offset < end && record.watermark_ms().is_none() {
                        if offsets.contains(record.offset) {
                            committed += 1;
                        } else if !is_retired(&record) {
                            missing.push(record.offset);
                        }
                    }
                })?;
                if !more || past_end {
                    break;
                }
            }
            let archived = offsets.count(first, end);
            let surplus = archived - committed;
            for offset in missing {
                self.report.problem(format!("{at}: offset {offset} is committed in the log, but in no file"));
            }
            if surplus > 0 {
                self.report.problem(format!("{at}: {surplus} archived offsets are no committed records of the log"));
            }
        }
        Ok(())
    }
}

/// Partition and offset of every row.
fn positions(content: Bytes) -> Result<Vec<(u32, i64)>, ArchiveError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(content)?;
    let mask = ProjectionMask::columns(reader.parquet_schema(), ["partition", "offset"]);
    let mut found = Vec::new();
    for batch in reader.with_projection(mask).build()? {
        let batch = batch?;
        let column = |name| batch.column_by_name(name).ok_or_else(|| ArchiveError::Fatal(format!("has no {name}")));
        let (partitions, offsets) = (column("partition")?, column("offset")?);
        let partitions = partitions.as_primitive_opt::<Int32Type>();
        let offsets = offsets.as_primitive_opt::<Int64Type>();
        let (Some(partitions), Some(offsets)) = (partitions, offsets) else {
            return Err(ArchiveError::Fatal("partition and offset are no numbers".to_owned()));
        };
        if partitions.null_count() + offsets.null_count() > 0 {
            return Err(ArchiveError::Fatal("partition and offset have nulls".to_owned()));
        }
        let rows = partitions.values().iter().zip(offsets.values().iter());
        found.extend(rows.map(|(partition, offset)| (partition.cast_unsigned(), *offset)));
    }
    Ok(found)
}

/// A set of offsets, a bit each.
#[derive(Debug, Default)]
struct Offsets(BTreeMap<i64, Box<[u64; WORDS]>>);

const WORDS: usize = 1024;
const BITS: i64 = 64 * 1024;

impl Offsets {
    fn split(offset: i64) -> (i64, usize, u64) {
        let within = usize::try_from(offset.rem_euclid(BITS)).expect("below 65,536");
        (offset.div_euclid(BITS), within / 64, 1 << (within % 64))
    }

    /// Whether the offset is new.
    fn insert(&mut self, offset: i64) -> bool {
        let (block, word, bit) = Self::split(offset);
        let word = &mut self.0.entry(block).or_insert_with(|| Box::new([0; WORDS]))[word];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn contains(&self, offset: i64) -> bool {
        let (block, word, bit) = Self::split(offset);
        self.0.get(&block).is_some_and(|words| words[word] & bit != 0)
    }

    /// How many are in `first..end`.
    fn count(&self, first: i64, end: i64) -> u64 {
        if end <= first {
            return 0;
        }
        let blocks = self.0.range(first.div_euclid(BITS)..=(end - 1).div_euclid(BITS));
        let count = |(block, words): (i64, &[u64; WORDS])| {
            let start = block * BITS;
            if first <= start && start + BITS <= end {
                return words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
            }
            (start.max(first)..(start + BITS).min(end)).filter(|offset| self.contains(*offset)).count() as u64
        };
        blocks.map(|(block, words)| count((*block, words.as_ref()))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_counted_across_blocks() {
        let mut offsets = Offsets::default();
        for offset in (0..200_000).step_by(3) {
            assert!(offsets.insert(offset));
        }
        assert!(!offsets.insert(3));
        assert_eq!(offsets.count(0, i64::MAX), 66_667);
        assert_eq!(offsets.count(1, 7), 2);
        assert_eq!(offsets.count(65_530, 131_080), (65_530..131_080).filter(|o| o % 3 == 0).count() as u64);
        assert_eq!(offsets.count(7, 7), 0);
        assert!(offsets.contains(199_998) && !offsets.contains(199_999));
    }
}

//! Where everything of the archive lies in the store.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use super::dataset::Dataset;

/// Above everything that is archived.
pub const ROOT: &str = "/traffic-data";

const MS_PER_HOUR: i64 = 3_600_000;
/// 9999-12-30T22:00Z, the last hour that `jiff` knows.
const LAST_HOUR: i64 = 70_389_502;

/// A tree of files with the same columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Valid records, by event time.
    Accepted(Dataset),
    /// Records that are not valid, by record time.
    Rejected(Dataset),
}

impl Table {
    /// The directory above its `date=…/hour=…` directories.
    #[must_use]
    pub fn dir(self) -> String {
        let dir = match self {
            Self::Accepted(Dataset::Events) => "raw",
            Self::Rejected(Dataset::Events) => "raw/rejected",
            Self::Accepted(Dataset::Aggregates) => "processed/aggregates",
            Self::Rejected(Dataset::Aggregates) => "processed/rejected/aggregates",
            Self::Accepted(Dataset::Predictions) => "processed/predictions",
            Self::Rejected(Dataset::Predictions) => "processed/rejected/predictions",
        };
        format!("{ROOT}/{dir}")
    }

    fn short(self) -> &'static str {
        match self {
            Self::Accepted(Dataset::Events) => "raw",
            Self::Accepted(Dataset::Aggregates) => "aggregates",
            Self::Accepted(Dataset::Predictions) => "predictions",
            Self::Rejected(_) => "rejected",
        }
    }
}

/// An hour in UTC, counted from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hour(i64);

impl std::fmt::Display for Hour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.format("%Y-%m-%dT%H"))
    }
}

impl Hour {
    /// The hour that an instant is in; what lies outside 1970-9999 goes to the first or the last one.
    #[must_use]
    pub fn of_ms(at_ms: i64) -> Self {
        Self(at_ms.div_euclid(MS_PER_HOUR).clamp(0, LAST_HOUR))
    }

    /// One past its last instant, epoch ms.
    #[must_use]
    pub fn end_ms(self) -> i64 {
        (self.0 + 1) * MS_PER_HOUR
    }

    /// The day it belongs to.
    #[must_use]
    pub fn date(self) -> Date {
        Offset::UTC.to_datetime(self.start()).date()
    }

    /// Reads the `date=…/hour=…` that a file lies in.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let mut parts = path.rsplit('/').skip(1);
        let hour = parts.next()?.strip_prefix("hour=")?.parse().ok().filter(|hour| (0..24).contains(hour))?;
        let date: Date = parts.next()?.strip_prefix("date=")?.parse().ok()?;
        let start = Offset::UTC.to_timestamp(date.at(hour, 0, 0, 0)).ok()?;
        Some(Self::of_ms(start.as_millisecond()))
    }

    /// The directory of its files below its table's.
    #[must_use]
    pub fn dir(self) -> String {
        self.format("date=%Y-%m-%d/hour=%H")
    }

    fn start(self) -> Timestamp {
        Timestamp::from_second(self.0 * 3600).expect("an hour of the years 1970-9999")
    }

    fn format(self, format: &str) -> String {
        self.start().strftime(format).to_string()
    }
}

/// One partition's part of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub topic: String,
    pub partition: u32,
}

impl Place {
    /// Holds the manifests and checkpoints.
    #[must_use]
    pub fn commits(&self) -> String {
        format!("{}/{}", commits_of(&self.topic), self.partition)
    }

    /// The manifest of the range that begins at `first`.
    #[must_use]
    pub fn manifest(&self, first: i64) -> String {
        format!("{}/{first:020}.json", self.commits())
    }

    #[must_use]
    pub fn checkpoint(&self, end: i64) -> String {
        format!("{}/{CHECKPOINT}{end:020}.json", self.commits())
    }

    /// Holds the batches being written, outside every reader's tree.
    #[must_use]
    pub fn batches(&self) -> String {
        format!("{ROOT}/_tmp/{}/{}", self.topic, self.partition)
    }

    /// Holds one batch's files until they are committed.
    #[must_use]
    pub fn batch(&self, first: i64, batch: &str) -> String {
        format!("{}/{first:020}-{batch}", self.batches())
    }

    /// A batch's file while it is not committed.
    #[must_use]
    pub fn temporary(&self, first: i64, batch: &str, table: Table, hour: Hour) -> String {
        format!("{}/{}-{}.parquet", self.batch(first, batch), table.short(), hour.format("%Y-%m-%d-%H"))
    }

    /// A batch's file as readers find it; its name is its own for ever.
    #[must_use]
    pub fn data(&self, first: i64, batch: &str, table: Table, hour: Hour) -> String {
        format!("{}/{}/{}-{}-{first:020}-{batch}.parquet", table.dir(), hour.dir(), self.topic, self.partition)
    }
}

/// A topic's compactions, a chain of their own: each has a number, one above the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compactions {
    pub topic: String,
}

impl Compactions {
    /// Holds the manifests.
    #[must_use]
    pub fn commits(&self) -> String {
        format!("{}/{COMPACTED}", commits_of(&self.topic))
    }

    #[must_use]
    pub fn manifest(&self, number: i64) -> String {
        format!("{}/{number:020}.json", self.commits())
    }

    /// Holds what compactions are about to put into readers' sight, and what they have taken out of it.
    #[must_use]
    pub fn batches(&self) -> String {
        format!("{ROOT}/_tmp/{}/{COMPACTED}", self.topic)
    }

    #[must_use]
    pub fn batch(&self, number: i64, id: &str) -> String {
        format!("{}/{number:020}-{id}", self.batches())
    }

    /// The merged file until it is committed.
    #[must_use]
    pub fn temporary(&self, number: i64, id: &str) -> String {
        format!("{}/merged.parquet", self.batch(number, id))
    }

    /// Where a file lies that was taken out of readers' sight.
    #[must_use]
    pub fn taken(&self, number: i64, id: &str, path: &str) -> String {
        format!("{}/taken/{}", self.batch(number, id), path.rsplit('/').next().unwrap_or_default())
    }

    /// The merged file as readers find it.
    #[must_use]
    pub fn data(&self, number: i64, id: &str, table: Table, hour: Hour) -> String {
        format!("{}/{}/{}-{COMPACTED}-{number:020}-{id}.parquet", table.dir(), hour.dir(), self.topic)
    }
}

/// Stands for a partition's number in the names of merged files.
const COMPACTED: &str = "compacted";

const CHECKPOINT: &str = "checkpoint-";

/// Holds one directory of commits per partition.
#[must_use]
pub fn commits_of(topic: &str) -> String {
    format!("{ROOT}/_commits/{topic}")
}

/// What a file among the commits is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFile {
    Manifest { first: i64 },
    Checkpoint { end: i64 },
}

/// Reads a name in [`Place::commits`]; `None` for a file that is none of ours.
#[must_use]
pub fn commit_file(name: &str) -> Option<CommitFile> {
    let stem = name.strip_suffix(".json")?;
    match stem.strip_prefix(CHECKPOINT) {
        Some(end) => Some(CommitFile::Checkpoint { end: number(end)? }),
        None => Some(CommitFile::Manifest { first: number(stem)? }),
    }
}

/// Reads a name in [`Place::batches`]: the batch's first offset and id.
#[must_use]
pub fn batch_name(name: &str) -> Option<(i64, &str)> {
    let (first, batch) = name.split_once('-')?;
    Some((number(first)?, batch))
}

/// A data file's name, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataName<'a> {
    pub topic: &'a str,
    pub origin: Origin,
    /// The batch's or compaction's id.
    pub batch: &'a str,
}

/// Who wrote a data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Partition { partition: u32, first: i64 },
    Compaction { number: i64 },
}

/// Reads the name that [`Place::data`] or [`Compactions::data`] gives a file.
#[must_use]
pub fn data_name(name: &str) -> Option<DataName<'_>> {
    let (rest, batch) = name.strip_suffix(".parquet")?.rsplit_once('-')?;
    let (rest, first) = rest.rsplit_once('-')?;
    let (topic, partition) = rest.rsplit_once('-')?;
    let origin = match partition {
        COMPACTED => Origin::Compaction { number: number(first)? },
        partition => Origin::Partition { partition: partition.parse().ok()?, first: number(first)? },
    };
    Some(DataName { topic, origin, batch })
}

fn number(text: &str) -> Option<i64> {
    (text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: &str = "0123456789abcdef0123456789abcdef";

    const RAW: Table = Table::Accepted(Dataset::Events);

    fn place() -> Place {
        Place { topic: "traffic-events".to_owned(), partition: 3 }
    }

    /// These names are for ever: files written under them must stay readable.
    #[test]
    fn names_are_what_they_always_were() {
        let (place, hour) = (place(), Hour::of_ms(1_790_000_000_000));
        assert_eq!(place.manifest(42), "/traffic-data/_commits/traffic-events/3/00000000000000000042.json");
        assert_eq!(
            place.checkpoint(42),
            "/traffic-data/_commits/traffic-events/3/checkpoint-00000000000000000042.json"
        );
        assert_eq!(
            place.temporary(42, BATCH, Table::Rejected(Dataset::Events), hour),
            format!("/traffic-data/_tmp/traffic-events/3/00000000000000000042-{BATCH}/rejected-2026-09-21-14.parquet")
        );
        assert_eq!(
            place.data(42, BATCH, RAW, hour),
            format!("/traffic-data/raw/date=2026-09-21/hour=14/traffic-events-3-00000000000000000042-{BATCH}.parquet")
        );
        assert!(
            place
                .data(42, BATCH, Table::Rejected(Dataset::Events), hour)
                .starts_with("/traffic-data/raw/rejected/date=2026-09-21/hour=14/traffic-events-3-")
        );
        let dirs = |table: fn(Dataset) -> Table| Dataset::ALL.map(|dataset| table(dataset).dir());
        assert_eq!(
            dirs(Table::Accepted),
            ["/traffic-data/raw", "/traffic-data/processed/aggregates", "/traffic-data/processed/predictions"]
        );
        assert_eq!(
            dirs(Table::Rejected),
            [
                "/traffic-data/raw/rejected",
                "/traffic-data/processed/rejected/aggregates",
                "/traffic-data/processed/rejected/predictions"
            ]
        );
    }

    #[test]
    fn names_can_be_read_back() {
        let place = place();
        let path = place.data(7, BATCH, RAW, Hour::of_ms(0));
        let name = path.rsplit('/').next().expect("a name");
        let origin = Origin::Partition { partition: 3, first: 7 };
        assert_eq!(data_name(name), Some(DataName { topic: "traffic-events", origin, batch: BATCH }));
        let compactions = Compactions { topic: "traffic-events".to_owned() };
        let path = compactions.data(7, BATCH, RAW, Hour::of_ms(0));
        assert_eq!(
            path,
            format!("/traffic-data/raw/date=1970-01-01/hour=00/traffic-events-compacted-{:020}-{BATCH}.parquet", 7)
        );
        let origin = Origin::Compaction { number: 7 };
        let name = path.rsplit('/').next().expect("a name");
        assert_eq!(data_name(name), Some(DataName { topic: "traffic-events", origin, batch: BATCH }));
        let hour = Hour::of_ms(1_790_000_000_000);
        assert_eq!(Hour::of_path(&compactions.data(7, BATCH, RAW, hour)), Some(hour));
        assert_eq!(hour.to_string(), "2026-09-21T14");
        assert_eq!(Hour::of_path("/traffic-data/raw/README"), None);
        let name = |path: String| path.rsplit('/').next().expect("a name").to_owned();
        assert_eq!(commit_file(&name(place.manifest(7))), Some(CommitFile::Manifest { first: 7 }));
        assert_eq!(commit_file(&name(place.checkpoint(7))), Some(CommitFile::Checkpoint { end: 7 }));
        assert_eq!(commit_file("README.json"), None);
        assert_eq!(batch_name(&name(place.batch(7, BATCH))), Some((7, BATCH)));
    }

    #[test]
    fn any_time_has_an_hour() {
        let path = |ms| place().data(0, BATCH, RAW, Hour::of_ms(ms));
        assert!(path(i64::MIN).contains("date=1970-01-01/hour=00"));
        assert!(path(-1).contains("date=1970-01-01/hour=00"));
        assert!(path(i64::MAX).contains("date=9999-12-30/hour=22"), "{}", path(i64::MAX));
    }
}

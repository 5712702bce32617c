//! The commit protocol's documents and decisions: facts in, decision out, no I/O.
//!
//! A partition's manifests form a chain: each begins at the offset where the one before ended, the first at
//! the newest checkpoint (or at 0). A manifest is created if absent under the name of its first offset, so of
//! two owners that want to commit the same range exactly one can.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::layout::Place;
use crate::store::{Creation, Renaming, StoreError};
use crate::stream::Ends;

/// The version of both documents that this program writes and reads.
pub const VERSION: u32 = 1;

/// Why a manifest is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Its files hold the range's committed records.
    Batch,
    /// The log had forgotten the range before it could be archived.
    Gap,
}

/// One committed offset range of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u32,
    pub kind: Kind,
    pub topic: String,
    pub partition: u32,
    /// The first offset of the range.
    pub first: i64,
    /// One past its last.
    pub end: i64,
    /// A UUID that tells this batch from every other try at the same range.
    pub batch: String,
    /// Epoch ms.
    pub created_ms: i64,
    pub files: Vec<DataFile>,
}

/// A file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Where it was written.
    pub temporary: String,
    /// Where readers find it.
    pub path: String,
    pub size_bytes: u64,
    pub rows: u64,
}

/// Sums up the chain below `end`, whose manifests may be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    pub version: u32,
    pub topic: String,
    pub partition: u32,
    pub end: i64,
    /// Rows of all files below `end`.
    pub rows: u64,
    /// Ranges below `end` that were lost, as (first, end).
    pub gaps: Vec<(i64, i64)>,
}

/// Reads a manifest or checkpoint.
///
/// # Errors
/// `Fatal`: the document cannot be read, or another version of this program wrote it.
pub fn decode<T: for<'de> Deserialize<'de>>(path: &str, content: &[u8]) -> Result<T, StoreError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let broken = |e: serde_json::Error| StoreError::Fatal(format!("{path}: {e}; restore the file from a backup"));
    let Version { version } = serde_json::from_slice(content).map_err(broken)?;
    if version != VERSION {
        return Err(StoreError::Fatal(format!(
            "{path}: has version {version}, this program knows {VERSION}; run the version that wrote it"
        )));
    }
    serde_json::from_slice(content).map_err(broken)
}

/// What is committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub checkpoint: Checkpoint,
    /// Oldest first; never empty of a link.
    pub manifests: Vec<Manifest>,
}

/// The manifests do not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the manifest at offset {found} should begin at {expected}")]
pub struct Broken {
    pub expected: i64,
    pub found: i64,
}

impl Chain {
    /// Joins the manifests that begin at or above the checkpoint's end.
    pub fn join(checkpoint: Checkpoint, mut manifests: Vec<Manifest>) -> Result<Self, Broken> {
        manifests.retain(|m| validity(m.first, checkpoint.end) == Validity::Valid);
        manifests.sort_by_key(|m| m.first);
        let mut expected = checkpoint.end;
        for manifest in &manifests {
            if manifest.first != expected || manifest.end <= manifest.first {
                return Err(Broken { expected, found: manifest.first });
            }
            expected = manifest.end;
        }
        Ok(Self { checkpoint, manifests })
    }

    /// Where nothing is committed.
    #[must_use]
    pub fn empty(place: &Place) -> Checkpoint {
        Checkpoint {
            version: VERSION,
            topic: place.topic.clone(),
            partition: place.partition,
            end: 0,
            rows: 0,
            gaps: Vec::new(),
        }
    }

    /// One past the last committed offset.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.manifests.last().map_or(self.checkpoint.end, |m| m.end)
    }

    /// A checkpoint of the whole chain, all of whose files must have their final names.
    #[must_use]
    pub fn sum(&self) -> Checkpoint {
        let mut sum = self.checkpoint.clone();
        sum.end = self.end();
        sum.rows += self.manifests.iter().flat_map(|m| &m.files).map(|f| f.rows).sum::<u64>();
        sum.gaps.extend(self.manifests.iter().filter(|m| m.kind == Kind::Gap).map(|m| (m.first, m.end)));
        sum
    }
}

/// Whether a manifest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    Valid,
    /// Its range was committed and checkpointed long ago: a sleeper's, created after the real one's removal.
    Void,
}

/// Decides by the newest checkpoint, read after the manifest was created.
#[must_use]
pub fn validity(first: i64, checkpoint_end: i64) -> Validity {
    if first < checkpoint_end { Validity::Void } else { Validity::Valid }
}

/// Who committed a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    Won,
    /// Another's manifest is there: drop the batch, go on from that one's end.
    Lost,
    /// Nobody's is there now, but ours may still arrive: keep the batch's files, look again.
    Open,
}

/// Decides after create-if-absent, whose answer may have been lost (`None`), and, unless it was a plain
/// success, after reading back whose batch the manifest names.
#[must_use]
pub fn claim(created: Option<Creation>, found: Option<&str>, own: &str) -> Claim {
    match (created, found) {
        (Some(Creation::Created), _) => Claim::Won,
        (_, Some(batch)) if batch == own => Claim::Won,
        (_, Some(_)) => Claim::Lost,
        (_, None) => Claim::Open,
    }
}

/// How a committed file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    Done,
    /// Neither where it was written nor where it belongs: stop.
    Missing,
}

/// Decides after the rename to the final name; `target` is whether something is there now.
#[must_use]
pub fn placement(renaming: Renaming, target: bool) -> Placement {
    match (renaming, target) {
        // Final names contain the batch's UUID: what is there is this file.
        (Renaming::Renamed | Renaming::TargetExists, _) | (Renaming::SourceMissing, true) => Placement::Done,
        (Renaming::SourceMissing, false) => Placement::Missing,
    }
}

/// Where to go on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    At(i64),
    /// The log has forgotten `first..end`: commit a gap, then start at `end`.
    AfterGap {
        first: i64,
        end: i64,
    },
    /// The log ends before the archive does: it is not the log that was archived.
    LogTooShort,
}

/// Decides by where the archive and the log stand.
#[must_use]
pub fn start(archived_end: i64, log: Ends) -> Start {
    if archived_end > log.high {
        Start::LogTooShort
    } else if log.first > archived_end {
        Start::AfterGap { first: archived_end, end: log.first }
    } else {
        Start::At(archived_end)
    }
}

/// What to do with a batch directory at a takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    Keep,
    Remove,
}

/// A batch may go once nobody can commit it: no manifest names it, and one created for it from now on, or
/// still on its way to the store, would be void.
#[must_use]
pub fn leftover(first: i64, batch: &str, named: &BTreeSet<&str>, checkpoint_end: i64) -> Leftover {
    if !named.contains(batch) && validity(first, checkpoint_end) == Validity::Void {
        Leftover::Remove
    } else {
        Leftover::Keep
    }
}

#[cfg(test)]
mod tests;

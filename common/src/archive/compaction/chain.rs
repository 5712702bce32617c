//! A topic's compactions, one after the other. The newest manifest stays; it may be half done, older ones never are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::archive::ArchiveError;
use crate::archive::concurrent::try_all;
use crate::archive::layout::{CommitFile, Compactions, batch_name, commit_file};
use crate::archive::ledger::{Committed, claim_path};
use crate::archive::manifest::{Claim, DataFile, VERSION, decode};
use crate::store::{Renaming, Store};

/// What retention has removed so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retired {
    /// Rows by partition.
    pub rows: BTreeMap<u32, u64>,
    /// Hours that ended before were removed, epoch ms.
    pub before_ms: i64,
}

/// A compaction's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::archive) struct Compaction {
    pub version: u32,
    pub topic: String,
    pub number: i64,
    /// A UUID that tells this one from every other try at the same number.
    pub id: String,
    /// Epoch ms.
    pub created_ms: i64,
    /// Files that are taken out of readers' sight.
    pub inputs: Vec<String>,
    /// The file that holds their rows; none where retention removes them.
    pub output: Option<DataFile>,
    /// Everything removed up to and with this one.
    pub retired: Retired,
}

/// How far a compaction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum Standing {
    Done,
    HalfDone,
    /// Neither input nor output is there: somebody removed it by hand.
    Broken,
}

/// Looks how far it has come.
pub(in crate::archive) async fn standing(store: &Store, compaction: &Compaction) -> Result<Standing, ArchiveError> {
    let there = try_all(compaction.inputs.iter().map(|path| store.exists(path)).collect()).await?;
    let visible = there.contains(&true);
    let Some(output) = &compaction.output else {
        return Ok(if visible { Standing::HalfDone } else { Standing::Done });
    };
    if store.exists(&output.path).await? {
        return Ok(Standing::Done);
    }
    Ok(if store.exists(&output.temporary).await? { Standing::HalfDone } else { Standing::Broken })
}

/// The newest manifest, if there is one.
pub(in crate::archive) async fn newest(
    store: &Store,
    compactions: &Compactions,
) -> Result<Option<Compaction>, ArchiveError> {
    let Some(number) = newest_number(store, compactions).await? else { return Ok(None) };
    let path = compactions.manifest(number);
    match store.read(&path).await? {
        Some(content) => Ok(Some(decode(&path, &content)?)),
        None => Err(ArchiveError::Retry(format!("{path}: another process has just replaced it"))),
    }
}

async fn newest_number(store: &Store, compactions: &Compactions) -> Result<Option<i64>, ArchiveError> {
    let entries = store.list(&compactions.commits(), false).await?;
    let numbers = entries.iter().filter_map(|entry| match commit_file(entry.name()) {
        Some(CommitFile::Manifest { first: number }) => Some(number),
        _ => None,
    });
    Ok(numbers.max())
}

/// Finishes the newest compaction; whether it was half done.
pub(in crate::archive) async fn finish(store: &Store, compactions: &Compactions) -> Result<bool, ArchiveError> {
    let Some(newest) = newest(store, compactions).await? else { return Ok(false) };
    let half_done = standing(store, &newest).await? == Standing::HalfDone;
    Chain::take_over(store, compactions).await?;
    Ok(half_done)
}

/// The chain, all of whose compactions are done.
pub(super) struct Chain {
    store: Store,
    compactions: Compactions,
    newest: Option<i64>,
    retired: Retired,
}

impl Chain {
    /// Finishes the newest compaction and clears away what no compaction can name any more.
    pub(super) async fn take_over(store: &Store, compactions: &Compactions) -> Result<Self, ArchiveError> {
        let (store, compactions) = (store.clone(), compactions.clone());
        let mut chain = Self { store, compactions, newest: None, retired: Retired::default() };
        let Some(newest) = newest(&chain.store, &chain.compactions).await? else { return Ok(chain) };
        chain.finish(&newest).await?;
        chain.follow(newest);
        chain.clear().await?;
        Ok(chain)
    }

    pub(super) fn compactions(&self) -> &Compactions {
        &self.compactions
    }

    pub(super) fn retired(&self) -> &Retired {
        &self.retired
    }

    /// The number of the next compaction.
    pub(super) fn next(&self) -> i64 {
        self.newest.map_or(0, |newest| newest + 1)
    }

    pub(super) fn compaction(
        &self,
        inputs: Vec<String>,
        output: Option<DataFile>,
        retired: Retired,
        id: String,
        created_ms: i64,
    ) -> Compaction {
        let (topic, number) = (self.compactions.topic.clone(), self.next());
        Compaction { version: VERSION, topic, number, id, created_ms, inputs, output, retired }
    }

    /// Makes the compaction known and does it; also says for how long readers missed its rows, ms.
    pub(super) async fn commit(
        &mut self,
        compaction: Compaction,
        now_ms: &(dyn Fn() -> i64 + Sync),
    ) -> Result<(Committed, i64), ArchiveError> {
        let path = self.compactions.manifest(compaction.number);
        let batch = self.compactions.batch(compaction.number, &compaction.id);
        match claim_path(&self.store, &path, &compaction, |compaction| &compaction.id).await? {
            Claim::Won => {}
            Claim::Lost => {
                self.store.delete_dir(&batch).await?;
                return Ok((Committed::Overtaken, 0));
            }
            Claim::Open => {
                return Err(ArchiveError::Retry(format!("{path}: created, but not there; the answer may be late")));
            }
        }
        // Whoever slept since it planned may have taken a number whose manifest was done and cleared away.
        if newest_number(&self.store, &self.compactions).await?.is_some_and(|newest| newest > compaction.number) {
            self.store.delete(&path).await?;
            self.store.delete_dir(&batch).await?;
            return Ok((Committed::Overtaken, 0));
        }
        let began_ms = now_ms();
        self.finish(&compaction).await?;
        let swap_ms = now_ms() - began_ms;
        self.follow(compaction);
        self.clear().await?;
        Ok((Committed::Done, swap_ms))
    }

    fn follow(&mut self, newest: Compaction) {
        self.newest = Some(newest.number);
        self.retired = newest.retired;
    }

    /// Does what a manifest says, from wherever an earlier try stopped.
    async fn finish(&self, compaction: &Compaction) -> Result<(), ArchiveError> {
        let store = &self.store;
        match &compaction.output {
            Some(output) if store.exists(&output.path).await? => {}
            Some(output) => {
                if !store.exists(&output.temporary).await? {
                    return self.is_done_by_others(compaction, &output.temporary).await;
                }
                if let Some(missing) = self.take(compaction).await? {
                    return self.is_done_by_others(compaction, &missing).await;
                }
                if store.rename(&output.temporary, &output.path).await? == Renaming::SourceMissing {
                    self.is_done_by_others(compaction, &output.temporary).await?;
                }
            }
            // What is nowhere has been removed already.
            None => drop(self.take(compaction).await?),
        }
        Ok(store.delete_dir(&self.compactions.batch(compaction.number, &compaction.id)).await?)
    }

    /// Moves the inputs out of readers' sight; names one that is nowhere.
    async fn take(&self, compaction: &Compaction) -> Result<Option<String>, ArchiveError> {
        let take = async |path: &String| -> Result<Option<String>, ArchiveError> {
            let taken = self.compactions.taken(compaction.number, &compaction.id, path);
            let there = match self.store.rename(path, &taken).await? {
                Renaming::Renamed => true,
                Renaming::SourceMissing => self.store.exists(&taken).await?,
                // A directory's rename is two steps, and the process died between them.
                Renaming::TargetExists => {
                    self.store.delete(path).await?;
                    true
                }
            };
            Ok((!there).then(|| path.clone()))
        };
        Ok(try_all(compaction.inputs.iter().map(take).collect()).await?.into_iter().flatten().next())
    }

    /// Something is not there: right, if another process has finished this compaction meanwhile.
    async fn is_done_by_others(&self, compaction: &Compaction, missing: &str) -> Result<(), ArchiveError> {
        let placed = match &compaction.output {
            Some(output) => self.store.exists(&output.path).await?,
            None => true,
        };
        let newest = newest_number(&self.store, &self.compactions).await?;
        if placed || newest.is_some_and(|newest| newest > compaction.number) {
            return Ok(());
        }
        Err(ArchiveError::Fatal(format!(
            "{missing}: compaction {} needs it, and it is gone; restore it from a backup, or move what is left in {} back \
             to its hour and delete {}",
            compaction.number,
            self.compactions.batch(compaction.number, &compaction.id),
            self.compactions.manifest(compaction.number)
        )))
    }

    /// Removes older manifests, and the files of compactions that lost or were never made known.
    async fn clear(&self) -> Result<(), ArchiveError> {
        let Some(newest) = self.newest else { return Ok(()) };
        for entry in self.store.list(&self.compactions.commits(), false).await? {
            if matches!(commit_file(entry.name()), Some(CommitFile::Manifest { first: number }) if number < newest) {
                self.store.delete(&entry.path).await?;
            }
        }
        for entry in self.store.list(&self.compactions.batches(), false).await? {
            if batch_name(entry.name()).is_some_and(|(number, _)| number <= newest) {
                self.store.delete_dir(&entry.path).await?;
            }
        }
        Ok(())
    }
}

//! The commit protocol of one partition: what `manifest.rs` decides, done in the store.
//!
//! A ledger assumes to be its partition's only writer and is safe when it is not: whoever is overtaken finds
//! out at its next commit and changes nothing.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ArchiveError;
use super::concurrent::try_all;
use super::layout::{CommitFile, Place, batch_name, commit_file};
use super::manifest::{
    Chain, Checkpoint, Claim, DataFile, Leftover, Manifest, Placement, Validity, claim, decode, leftover, placement,
    validity,
};
use crate::store::{Creation, Renaming, Store, StoreError};

/// How often a listing that changed while it was read is read again.
const LOADS: u32 = 3;

/// The chain of one partition and the store it lies in.
#[derive(Debug)]
pub(super) struct Ledger {
    store: Store,
    place: Place,
    chain: Chain,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Committed {
    Done,
    /// Another owner committed the range.
    Overtaken,
}

impl Ledger {
    /// Reads the chain, changing nothing.
    pub(super) async fn load(store: &Store, place: &Place) -> Result<Self, ArchiveError> {
        let mut problem = None;
        for _ in 0..LOADS {
            let checkpoint_end = checkpoint_end(store, place).await?;
            match load_from(store, place, checkpoint_end).await? {
                Ok(chain) => return Ok(Self { store: store.clone(), place: place.clone(), chain }),
                // An owner may have written a checkpoint and removed manifests meanwhile.
                Err(broken) => problem = Some(broken),
            }
        }
        let problem = problem.unwrap_or_default();
        Err(ArchiveError::Fatal(format!(
            "{}: the chain of manifests is broken: {problem}; restore the missing files, or move the topic's \
             directories below /traffic-data away and archive it anew",
            place.commits()
        )))
    }

    /// Reads the chain, finishes what its last owner left half done, and clears away what is dead.
    pub(super) async fn take_over(store: &Store, place: &Place) -> Result<Self, ArchiveError> {
        let mut ledger = Self::load(store, place).await?;
        if let Some(newest) = ledger.chain.manifests.last() {
            finish(store, place, newest).await?;
        }
        store.sweep(&place.commits()).await?;
        ledger.clear().await?;
        Ok(ledger)
    }

    /// Sums up all that is committed, so that none of its files is asked for again. May be done beside the owner: at
    /// worst that one finds itself overtaken and takes its partition over anew.
    pub(super) async fn settle(store: &Store, place: &Place) -> Result<Self, ArchiveError> {
        let mut ledger = Self::load(store, place).await?;
        if let Some(newest) = ledger.chain.manifests.last() {
            finish(store, place, newest).await?;
            ledger.write_checkpoint().await?;
        }
        Ok(ledger)
    }

    /// Does what its next owner would: finishes the newest commit, and removes what nobody can commit any more.
    /// Returns how many batches it removed.
    pub(super) async fn repair(store: &Store, place: &Place) -> Result<usize, ArchiveError> {
        let mut ledger = Self::settle(store, place).await?;
        ledger.clear().await
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Commits a batch whose files are written, and gives them their names.
    pub(super) async fn commit(&mut self, manifest: Manifest) -> Result<Committed, ArchiveError> {
        let path = self.place.manifest(manifest.first);
        let batch_dir = self.place.batch(manifest.first, &manifest.batch);
        match claim_path(&self.store, &path, &manifest, |manifest| &manifest.batch).await? {
            Claim::Won => {}
            Claim::Lost => {
                self.store.delete_dir(&batch_dir).await?;
                return Ok(Committed::Overtaken);
            }
            Claim::Open => {
                return Err(ArchiveError::Retry(format!("{path}: created, but not there; the answer may be late")));
            }
        }
        if validity(manifest.first, checkpoint_end(&self.store, &self.place).await?) == Validity::Void {
            self.store.delete(&path).await?;
            self.store.delete_dir(&batch_dir).await?;
            return Ok(Committed::Overtaken);
        }
        finish(&self.store, &self.place, &manifest).await?;
        self.chain.manifests.push(manifest);
        Ok(Committed::Done)
    }

    /// Sums the chain up and removes the manifests that are summed up.
    pub(super) async fn write_checkpoint(&mut self) -> Result<(), ArchiveError> {
        let sum = self.chain.sum();
        // That it exists already is as good: a chain has one past.
        self.store.create_if_absent(&self.place.checkpoint(sum.end), encode(&sum)).await?;
        self.chain = Chain { checkpoint: sum, manifests: Vec::new() };
        self.clear_commits().await
    }

    async fn clear_commits(&self) -> Result<(), ArchiveError> {
        let end = self.chain.checkpoint.end;
        let mut dead = Vec::new();
        for entry in self.store.list(&self.place.commits(), false).await? {
            match commit_file(entry.name()) {
                Some(CommitFile::Manifest { first }) if validity(first, end) == Validity::Void => dead.push(entry.path),
                Some(CommitFile::Checkpoint { end: older }) if older < end => dead.push(entry.path),
                _ => {}
            }
        }
        try_all(dead.iter().map(|path| self.store.delete(path)).collect()).await?;
        Ok(())
    }

    /// Removes void manifests, old checkpoints and batches that nobody can commit any more.
    async fn clear(&mut self) -> Result<usize, ArchiveError> {
        let found = self.store.list(&self.place.batches(), false).await?;
        let batches: Vec<(i64, &str, &str)> = found
            .iter()
            .filter_map(|entry| batch_name(entry.name()).map(|(first, batch)| (first, batch, entry.path.as_str())))
            .collect();
        // A batch that began below the chain's end has lost; a checkpoint makes that final.
        if batches.iter().any(|(first, ..)| (self.chain.checkpoint.end..self.chain.end()).contains(first)) {
            self.write_checkpoint().await?;
        } else {
            self.clear_commits().await?;
        }
        let named: BTreeSet<&str> = self.chain.manifests.iter().map(|m| m.batch.as_str()).collect();
        let end = self.chain.checkpoint.end;
        let dead = batches.iter().filter(|(first, batch, _)| leftover(*first, batch, &named, end) == Leftover::Remove);
        Ok(try_all(dead.map(|(.., path)| self.store.delete_dir(path)).collect()).await?.len())
    }
}

/// Creates a document, and says whose there is then; `id` tells them apart.
pub(super) async fn claim_path<T: Serialize + DeserializeOwned>(
    store: &Store,
    path: &str,
    document: &T,
    id: fn(&T) -> &str,
) -> Result<Claim, ArchiveError> {
    let created = match store.create_if_absent(path, encode(document)).await {
        Ok(creation) => Some(creation),
        Err(StoreError::Retry(error)) => {
            tracing::warn!(path, error, "creating a manifest was not answered: reading it back");
            None
        }
        Err(error @ StoreError::Fatal(_)) => return Err(error.into()),
    };
    if created == Some(Creation::Created) {
        return Ok(claim(created, None, id(document)));
    }
    let found: Option<T> = match store.read(path).await? {
        Some(content) => Some(decode(path, &content)?),
        None => None,
    };
    Ok(claim(created, found.as_ref().map(id), id(document)))
}

/// The end of the newest checkpoint; 0 without one.
async fn checkpoint_end(store: &Store, place: &Place) -> Result<i64, ArchiveError> {
    let entries = store.list(&place.commits(), false).await?;
    let ends = entries.iter().filter_map(|entry| match commit_file(entry.name()) {
        Some(CommitFile::Checkpoint { end }) => Some(end),
        _ => None,
    });
    Ok(ends.max().unwrap_or(0))
}

/// The chain above a checkpoint, or what is wrong with it.
async fn load_from(store: &Store, place: &Place, end: i64) -> Result<Result<Chain, String>, ArchiveError> {
    let checkpoint = if end == 0 {
        Chain::empty(place)
    } else {
        let path = place.checkpoint(end);
        let Some(content) = store.read(&path).await? else { return Ok(Err(format!("{path} is gone"))) };
        decode::<Checkpoint>(&path, &content)?
    };
    let entries = store.list(&place.commits(), false).await?;
    let paths = entries.iter().filter_map(|entry| match commit_file(entry.name()) {
        Some(CommitFile::Manifest { first }) if validity(first, end) == Validity::Valid => Some(entry.path.as_str()),
        _ => None,
    });
    let contents = try_all(paths.map(async |path| Ok::<_, StoreError>((path, store.read(path).await?))).collect());
    let mut manifests = Vec::new();
    for (path, content) in contents.await? {
        let Some(content) = content else { return Ok(Err(format!("{path} is gone"))) };
        manifests.push(decode::<Manifest>(path, &content)?);
    }
    Ok(Chain::join(checkpoint, manifests).map_err(|broken| broken.to_string()))
}

/// Gives a manifest's files their names, from wherever an earlier try stopped.
async fn finish(store: &Store, place: &Place, manifest: &Manifest) -> Result<(), ArchiveError> {
    let missing = try_all(manifest.files.iter().map(|file| place_file(store, file)).collect()).await?;
    if let Some(file) = missing.into_iter().flatten().next()
        // Once it is summed up, its files may be compacted.
        && validity(manifest.first, checkpoint_end(store, place).await?) == Validity::Valid
    {
        return Err(ArchiveError::Fatal(format!(
            "{}: a committed file is missing, and {} too; restore it from a backup",
            file.path, file.temporary
        )));
    }
    store.delete_dir(&place.batch(manifest.first, &manifest.batch)).await?;
    Ok(())
}

/// Returns the file if it is neither where it was written nor where it belongs.
async fn place_file<'f>(store: &Store, file: &'f DataFile) -> Result<Option<&'f DataFile>, ArchiveError> {
    let renaming = store.rename(&file.temporary, &file.path).await?;
    let target = renaming != Renaming::SourceMissing || store.exists(&file.path).await?;
    Ok((placement(renaming, target) == Placement::Missing).then_some(file))
}

fn encode(document: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec_pretty(document).expect("a document of strings and numbers is JSON"))
}

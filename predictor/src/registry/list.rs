//! What is there, sound or not, and clearing away what nobody will finish.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{Claim, FORMAT, claim, encode};
use super::metadata::{Abandonment, Tombstone};
use super::{Entry, File, Flaw, Metadata, Order, Registry, RegistryError, Version};

/// What a registry holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listing {
    /// By version, ascending.
    pub versions: Vec<Found>,
    /// Paths that are not the registry's; it leaves them alone.
    pub foreign: Vec<String>,
}

/// One number that is in use.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub version: Version,
    pub state: State,
}

/// How a version stands. The model's bytes are looked at only by [`Registry::load`].
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    Published(Box<Metadata>),
    Damaged(RegistryError),
    /// Its publisher is at work, or dead.
    Unfinished,
    /// Cleared away before it was finished; the number is not used again.
    Abandoned,
}

/// What [`Registry::tidy`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tidied {
    /// Unfinished versions that will now never exist.
    pub abandoned: Vec<Version>,
    /// Abandoned versions whose model was removed.
    pub removed: Vec<Version>,
    /// Half-written files that dead writers had left.
    pub swept: usize,
    /// Whether `CURRENT` was missing, torn or stale.
    pub current_written: bool,
}

/// The registry's files, by what they are.
#[derive(Debug, Default)]
struct Files {
    /// By version, with their sizes.
    models: BTreeMap<Version, u64>,
    metadata: BTreeSet<Version>,
    foreign: Vec<String>,
}

impl Files {
    fn versions(&self) -> BTreeSet<Version> {
        self.metadata.iter().chain(self.models.keys()).copied().collect()
    }
}

impl Registry {
    /// All versions, those that cannot be used among them.
    ///
    /// # Errors
    /// `Retry` if the store does not answer.
    pub async fn list(&self) -> Result<Listing, RegistryError> {
        let files = self.files().await?;
        let mut versions = Vec::new();
        for version in files.versions() {
            versions.push(Found { version, state: self.state(version, &files).await? });
        }
        Ok(Listing { versions, foreign: files.foreign })
    }

    /// Clears away what nobody will finish: versions without metadata, models of abandoned versions, half-written
    /// files; and writes `CURRENT` anew if need be. A publisher that was only slow takes another number.
    ///
    /// # Errors
    /// `Retry` if the store does not answer.
    pub async fn tidy(&self, order: &Order<'_>) -> Result<Tidied, RegistryError> {
        let (files, mut done) = (self.files().await?, Tidied::default());
        for version in files.versions() {
            let mut abandoned = false;
            match self.state(version, &files).await? {
                State::Unfinished => {
                    abandoned = self.abandon(version, order).await?;
                    done.abandoned.extend(abandoned.then_some(version));
                }
                State::Abandoned => abandoned = true,
                State::Published(_) | State::Damaged(_) => {}
            }
            if abandoned && self.store.delete(&self.layout.path(File::Model(version))).await? {
                done.removed.push(version);
            }
        }
        let mut dirs = vec![self.layout.root().to_owned(), self.layout.promotions()];
        for entry in self.store.list(self.layout.root(), false).await? {
            dirs.extend(entry.name().parse().ok().filter(|_| entry.is_dir).map(|version| self.layout.version(version)));
        }
        for dir in dirs {
            done.swept += self.store.sweep(&dir).await?;
        }
        done.current_written = self.try_copy_current().await?;
        Ok(done)
    }

    /// Takes the place of the version's metadata, unless that is there by now.
    async fn abandon(&self, version: Version, order: &Order<'_>) -> Result<bool, RegistryError> {
        let abandoned = Abandonment { at: order.at_ms, by: order.by.to_owned() };
        let tombstone = encode(&Tombstone { format: FORMAT, abandoned });
        let path = self.layout.path(File::Metadata(version));
        let is_own = |found: &[u8]| matches!(Entry::decode(&path, version, found), Ok(Entry::Abandoned(_)));
        Ok(claim(&self.store, &path, &tombstone, is_own).await? == Claim::Won)
    }

    async fn state(&self, version: Version, files: &Files) -> Result<State, RegistryError> {
        if !files.metadata.contains(&version) {
            return Ok(State::Unfinished);
        }
        let metadata = match self.entry(version).await {
            Ok(Some(Entry::Published(metadata))) => metadata,
            Ok(Some(Entry::Abandoned(_))) => return Ok(State::Abandoned),
            Ok(None) => return Ok(State::Damaged(self.flawed(File::Metadata(version), Flaw::Missing))),
            Err(error @ RegistryError::Flawed { .. }) => return Ok(State::Damaged(error)),
            Err(error) => return Err(error),
        };
        let expected = metadata.model_size_bytes;
        let flaw = match files.models.get(&version) {
            Some(found) if *found == expected => return Ok(State::Published(metadata)),
            Some(found) => Flaw::WrongSize { expected, found: *found },
            // Published after the listing came by its model.
            None if self.store.size(&self.layout.path(File::Model(version))).await? == Some(expected) => {
                return Ok(State::Published(metadata));
            }
            None => Flaw::Missing,
        };
        Ok(State::Damaged(self.flawed(File::Model(version), flaw)))
    }

    /// Every number in use, ascending.
    pub(super) async fn numbers(&self) -> Result<Vec<Version>, RegistryError> {
        Ok(self.files().await?.versions().into_iter().collect())
    }

    /// Every version with metadata, ascending.
    pub(super) async fn published(&self) -> Result<Vec<Version>, RegistryError> {
        Ok(self.files().await?.metadata.into_iter().collect())
    }

    async fn files(&self) -> Result<Files, RegistryError> {
        let mut files = Files::default();
        for entry in self.store.list(self.layout.root(), true).await? {
            match self.layout.file(&entry.path) {
                Some(File::Model(version)) => drop(files.models.insert(version, entry.size_bytes)),
                Some(File::Metadata(version)) => drop(files.metadata.insert(version)),
                Some(File::Promotion(_) | File::Current) => {}
                None => files.foreign.push(entry.path),
            }
        }
        Ok(files)
    }
}

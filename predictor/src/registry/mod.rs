//! The model registry: which models there are, and which of them is current.
//!
//! Files in the store, and no service; `docs/models.md` tells what an operator sees, ADR 10 why it is so. It rests on
//! two promises of every store: a path exists only with its whole content, and of two that create it one is told that
//! it did.
//!
//! - A version exists from the moment that its `metadata.json` does, which is written last. It is never overwritten.
//! - Whoever clears away a version that its publisher did not finish takes `metadata.json` for a tombstone first, so a
//!   publisher that was only slow finds its number taken.
//! - What is current is said by the promotion with the highest number. `CURRENT` is a copy of it; whoever reads it asks
//!   whether the next promotion exists, so that no copy can be taken for the truth.
//! - Where an answer was lost, the file is read back, and everything may be asked for again.
//!
//! | file | owns |
//! |---|---|
//! | `version.rs` | numbers of versions |
//! | `metadata.rs` | `metadata.json` |
//! | `promotion.rs` | promotions, and what they decide |
//! | `layout.rs` | paths |
//! | `document.rs` | JSON files: reading what may be garbage, claiming a path |
//! | `publish.rs` | a new version |
//! | `promote.rs` | changing what is current; keeping `CURRENT` true |
//! | `list.rs` | what is there; clearing away what is left over |
//! | `watcher.rs` | noticing changes, for workers |
//! | `in_use.rs` | which version forecasts, as a metric |

mod document;
mod error;
mod in_use;
mod layout;
mod list;
mod metadata;
mod promote;
mod promotion;
mod publish;
mod version;
mod watcher;

use common::store::Store;
use common::worker::Process;

pub use document::FORMAT;
pub use error::{Flaw, RegistryError};
pub use in_use::in_use;
pub use list::{Found, Listing, State, Tidied};
pub use metadata::{
    CHALLENGER, Data, Description, GRADIENT_BOOSTING, HISTORICAL_AVERAGE, LAST_VALUE, LINEAR, MODEL_NAME, Metadata,
    Score, hash_of,
};
pub use promote::Automatic;
pub use promotion::{Current, Kind, Order, Promotion, Refusal};
pub use version::{Bump, NoVersionNumber, Version};
pub use watcher::{Change, Loaded, Watcher};

use layout::{File, Layout};
use metadata::{Entry, Fingerprint};

/// The models below one directory of a store. Cheap to clone; its methods need a Tokio runtime.
#[derive(Debug, Clone)]
pub struct Registry {
    store: Store,
    layout: Layout,
    /// The newest format of models that this program reads.
    model_format: u32,
}

impl Registry {
    /// `root`: where it lies in the store, as in `/models/speed`.
    #[must_use]
    pub fn new(store: Store, root: &str) -> Self {
        Self { store, layout: Layout::new(root), model_format: u32::MAX }
    }

    /// The one that a process is set to use: `predictor.models` in its store.
    ///
    /// # Errors
    /// If the store's location can not be one.
    pub fn configured(process: &Process) -> Result<Self, RegistryError> {
        Ok(Self::new(process.store()?, &process.config.predictor.models))
    }

    /// The same, refusing models of a newer format than this.
    #[must_use]
    pub fn reading_models_up_to(self, model_format: u32) -> Self {
        Self { model_format, ..self }
    }

    /// What is known of a version.
    ///
    /// # Errors
    /// `NoVersion`; `Flawed` if it was never finished, or its metadata cannot be read.
    pub async fn metadata(&self, version: Version) -> Result<Metadata, RegistryError> {
        match self.entry(version).await? {
            Some(Entry::Published(metadata)) => Ok(*metadata),
            Some(Entry::Abandoned(_)) => Err(self.flawed(File::Metadata(version), Flaw::Abandoned)),
            None if self.store.exists(&self.layout.path(File::Model(version))).await? => {
                Err(self.flawed(File::Metadata(version), Flaw::Unfinished))
            }
            None => {
                let newest = self.published().await?.last().copied();
                Err(RegistryError::NoVersion { root: self.layout.root().to_owned(), version, newest })
            }
        }
    }

    /// A version's metadata and bytes, which are those that were published.
    ///
    /// # Errors
    /// As [`Registry::metadata`], and `Flawed` if the model is missing, damaged or of a format too new.
    pub async fn load(&self, version: Version) -> Result<(Metadata, Vec<u8>), RegistryError> {
        let metadata = self.metadata(version).await?;
        let file = File::Model(version);
        if metadata.description.model_format > self.model_format {
            let (found, known) = (metadata.description.model_format, self.model_format);
            return Err(self.flawed(file, Flaw::NewerModel { found, known }));
        }
        let (path, expected) = (self.layout.path(file), metadata.model_size_bytes);
        let Some(found) = self.store.size(&path).await? else { return Err(self.flawed(file, Flaw::Missing)) };
        if found != expected {
            return Err(self.flawed(file, Flaw::WrongSize { expected, found }));
        }
        let Some(model) = self.store.read(&path).await? else { return Err(self.flawed(file, Flaw::Missing)) };
        let found = Fingerprint::of(&model);
        if found.hash != metadata.model_hash {
            let expected = metadata.model_hash;
            return Err(self.flawed(file, Flaw::WrongHash { expected, found: found.hash }));
        }
        Ok((metadata, model.into()))
    }

    async fn entry(&self, version: Version) -> Result<Option<Entry>, RegistryError> {
        let path = self.layout.path(File::Metadata(version));
        let Some(content) = document::content(&self.store, &path).await? else { return Ok(None) };
        Entry::decode(&path, version, &content).map(Some)
    }

    fn flawed(&self, file: File, flaw: Flaw) -> RegistryError {
        let version = match file {
            File::Model(version) | File::Metadata(version) => Some(version),
            File::Promotion(_) | File::Current => None,
        };
        RegistryError::Flawed { version, file: self.layout.path(file), flaw }
    }
}

#[cfg(test)]
mod tests;

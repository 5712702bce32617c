//! A new version: first the model under a number that nobody has, then `metadata.json`, which makes it exist.

use bytes::Bytes;

use super::document::{Claim, claim, encode};
use super::metadata::Fingerprint;
use super::{Bump, Description, Entry, File, Metadata, Registry, RegistryError, Version};

/// How many numbers are tried that others are faster with.
const TRIES: u32 = 32;
/// How many of the newest versions are looked through for this very publication.
const LOOKED_BACK: usize = 8;

impl Registry {
    /// Publishes a model as the version after the highest number in use. Publishing the same bytes with the same
    /// description again, as after a lost answer, returns the version that they have.
    ///
    /// # Errors
    /// `Retry` if the store does not answer, or others were faster again and again.
    pub async fn publish(&self, model: &[u8], description: &Description, bump: Bump) -> Result<Version, RegistryError> {
        let (content, fingerprint) = (Bytes::copy_from_slice(model), Fingerprint::of(model));
        let id = Metadata::new(Version::FIRST, &fingerprint, description)?.version_id;
        for _ in 0..TRIES {
            if let Some(version) = self.published_as(&id).await? {
                return Ok(version);
            }
            let version = match self.numbers().await?.last() {
                None => Version::FIRST,
                Some(highest) => highest.next(bump).ok_or_else(|| {
                    RegistryError::Refused(format!("{highest} has no next version; raise the number before it"))
                })?,
            };
            if self.claim_version(version, &content, &fingerprint, description).await? == Claim::Won {
                return Ok(version);
            }
        }
        Err(RegistryError::Retry(format!("{}: {TRIES} times others were faster to publish", self.layout.root())))
    }

    async fn claim_version(
        &self,
        version: Version,
        content: &Bytes,
        fingerprint: &Fingerprint,
        description: &Description,
    ) -> Result<Claim, RegistryError> {
        // The same bytes are as good from another: metadata.json decides whose the version is.
        let path = self.layout.path(File::Model(version));
        if claim(&self.store, &path, content, |found| found == content).await? == Claim::Lost {
            return Ok(Claim::Lost);
        }
        let metadata = Metadata::new(version, fingerprint, description)?;
        let path = self.layout.path(File::Metadata(version));
        claim(&self.store, &path, &encode(&metadata), |found| {
            matches!(Entry::decode(&path, version, found), Ok(Entry::Published(found)) if found.version_id == metadata.version_id)
        })
        .await
    }

    /// The version that a publication has got, if it has.
    async fn published_as(&self, id: &str) -> Result<Option<Version>, RegistryError> {
        for version in self.published().await?.into_iter().rev().take(LOOKED_BACK) {
            match self.entry(version).await {
                Ok(Some(Entry::Published(metadata))) if metadata.version_id == id => return Ok(Some(version)),
                Err(error @ (RegistryError::Retry(_) | RegistryError::Fatal(_))) => return Err(error),
                // A damaged one is not the publisher's affair.
                _ => {}
            }
        }
        Ok(None)
    }
}

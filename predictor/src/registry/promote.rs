//! Changing what is current: what `promotion.rs` decides, done in the store; and `CURRENT`, kept true to it.

use common::store::StoreError;

use super::document::{self, Claim, claim, encode};
use super::promotion::{CurrentFile, Step, Wish, decide, goes_further_back};
use super::{Current, File, Flaw, Order, Promotion, Refusal, Registry, RegistryError, Version};

/// How often a decision is made anew that another's promotion came before.
const TRIES: u32 = 32;
/// How often `CURRENT` is written before that is left to the next one who looks.
const COPIES: u32 = 4;

/// What became of an automatic promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Automatic {
    Promoted(Current),
    /// Nothing was changed.
    Refused(Refusal),
}

impl Registry {
    /// Which version is current, by the promotions; `None` before the first.
    ///
    /// # Errors
    /// `Flawed` if the newest promotion cannot be read: nothing else can say what is current then.
    pub async fn current(&self) -> Result<Option<Current>, RegistryError> {
        Ok(self.newest_promotion().await?.map(|promotion| promotion.current()))
    }

    /// Makes a version current, and takes a pin away.
    ///
    /// # Errors
    /// If there is no such version or it cannot be used.
    pub async fn promote(&self, version: Version, order: &Order<'_>) -> Result<Current, RegistryError> {
        self.ask(Wish::Promote(version), order).await.and_then(made)
    }

    /// Makes a version current that was compared with `expected`, unless that is pinned or no longer current.
    ///
    /// # Errors
    /// As [`Registry::promote`].
    pub async fn promote_automatically(
        &self,
        version: Version,
        expected: Option<Version>,
        order: &Order<'_>,
    ) -> Result<Automatic, RegistryError> {
        self.ask(Wish::PromoteAutomatically { version, expected }, order).await
    }

    /// Goes back to a version, or to the one that was current before, and pins it.
    ///
    /// # Errors
    /// `Refused` if there is nothing to go back to; as [`Registry::promote`].
    pub async fn rollback(&self, to: Option<Version>, order: &Order<'_>) -> Result<Current, RegistryError> {
        self.ask(Wish::Rollback(to), order).await.and_then(made)
    }

    /// Lets automatic promotion replace the current version again.
    ///
    /// # Errors
    /// `Refused` if no version is current.
    pub async fn unpin(&self, order: &Order<'_>) -> Result<Current, RegistryError> {
        self.ask(Wish::Unpin, order).await.and_then(made)
    }

    async fn ask(&self, wish: Wish, order: &Order<'_>) -> Result<Automatic, RegistryError> {
        let mut sound = None;
        for _ in 0..TRIES {
            let promotion = match decide(wish, &self.trail(wish).await?, order)? {
                Step::Refuse(refusal) => return Ok(Automatic::Refused(refusal)),
                Step::Nothing(current) => {
                    self.copy_current().await;
                    return Ok(Automatic::Promoted(current));
                }
                Step::Write(promotion) => promotion,
            };
            // Taking a pin away must be possible whatever the version is like.
            if promotion.previous != Some(promotion.version) && sound != Some(promotion.version) {
                self.load(promotion.version).await?;
                sound = Some(promotion.version);
            }
            let path = self.layout.path(File::Promotion(promotion.number));
            let is_own =
                |found: &[u8]| document::decode(&path, None, found).is_ok_and(|found: Promotion| found == promotion);
            if claim(&self.store, &path, &encode(&promotion), is_own).await? == Claim::Won {
                self.copy_current().await;
                return Ok(Automatic::Promoted(promotion.current()));
            }
        }
        Err(RegistryError::Retry(format!("{}: {TRIES} times others were faster to promote", self.layout.promotions())))
    }

    /// The newest promotion and, as far as the decision needs them, those that it goes back to.
    async fn trail(&self, wish: Wish) -> Result<Vec<Promotion>, RegistryError> {
        let mut trail: Vec<Promotion> = self.newest_promotion().await?.into_iter().collect();
        while goes_further_back(wish, &trail) {
            let Some(last) = trail.last() else { break };
            // Always less, but in a file that somebody has written by hand.
            let Some(number) = last.back_to.filter(|number| *number < last.number) else { break };
            match (self.promotion(number).await, wish) {
                (Ok(promotion), _) => trail.push(promotion),
                // Who names the version does not depend on what was current before.
                (Err(RegistryError::Flawed { .. }), Wish::Rollback(Some(_))) => break,
                (Err(error), _) => return Err(error),
            }
        }
        Ok(trail)
    }

    /// All promotions that can be read, newest first.
    ///
    /// # Errors
    /// `Retry` if the store does not answer.
    pub async fn promotions(&self) -> Result<Vec<Promotion>, RegistryError> {
        let mut promotions = Vec::new();
        for number in self.promotion_numbers().await?.into_iter().rev() {
            match self.promotion(number).await {
                Ok(promotion) => promotions.push(promotion),
                Err(RegistryError::Flawed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(promotions)
    }

    async fn newest_promotion(&self) -> Result<Option<Promotion>, RegistryError> {
        match self.promotion_numbers().await?.last() {
            Some(number) => self.promotion(*number).await.map(Some),
            None => Ok(None),
        }
    }

    /// Ascending.
    async fn promotion_numbers(&self) -> Result<Vec<u64>, RegistryError> {
        let entries = self.store.list(&self.layout.promotions(), false).await?;
        let mut numbers: Vec<u64> = entries
            .iter()
            .filter_map(|entry| match self.layout.file(&entry.path)? {
                File::Promotion(number) if !entry.is_dir => Some(number),
                _ => None,
            })
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    async fn promotion(&self, number: u64) -> Result<Promotion, RegistryError> {
        let file = File::Promotion(number);
        let path = self.layout.path(file);
        let Some(content) = document::content(&self.store, &path).await? else {
            return Err(self.flawed(file, Flaw::Missing));
        };
        let promotion: Promotion = document::decode(&path, None, &content)?;
        if promotion.number != number {
            return Err(self.flawed(file, Flaw::OfAnother(format!("promotion {}", promotion.number))));
        }
        Ok(promotion)
    }

    /// What is current, for who looks often: two small requests as long as nothing changes. `known` is what the last
    /// look found. A copy that is missing, torn or stale is written anew.
    pub(super) async fn current_by_copy(&self, known: Option<Current>) -> Result<Option<Current>, RegistryError> {
        if let Some(copy) = self.copy().await?
            && !self.store.exists(&self.layout.path(File::Promotion(copy.promotion.saturating_add(1)))).await?
            && (known == Some(copy) || self.is_true(copy).await?)
        {
            return Ok(Some(copy));
        }
        let current = self.current().await?;
        if current.is_some() {
            self.copy_current().await;
        }
        Ok(current)
    }

    async fn is_true(&self, copy: Current) -> Result<bool, RegistryError> {
        match self.promotion(copy.promotion).await {
            Ok(promotion) => Ok(promotion.current() == copy),
            Err(RegistryError::Flawed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `CURRENT`; `None` if it is missing or says nothing that can be read.
    pub(super) async fn copy(&self) -> Result<Option<Current>, RegistryError> {
        let path = self.layout.current();
        let Some(content) = document::content(&self.store, &path).await? else { return Ok(None) };
        Ok(document::decode::<CurrentFile>(&path, None, &content).ok().map(|file| file.current))
    }

    /// Makes `CURRENT` what the newest promotion says, as well as it can: the promotion counts, whoever reads the copy
    /// finds out that it is stale, and the next one to do so comes here again.
    async fn copy_current(&self) {
        if let Err(error) = self.try_copy_current().await {
            let path = self.layout.current();
            tracing::warn!(path, %error, "{path} is not up to date: {error}; the newest promotion counts all the same");
        }
    }

    /// Whether it had to be written.
    pub(super) async fn try_copy_current(&self) -> Result<bool, RegistryError> {
        let (path, mut written) = (self.layout.current(), false);
        let mut lost = String::new();
        for _ in 0..COPIES {
            // Read anew each time: another may have promoted, and written its copy before ours.
            let Some(current) = self.current().await? else { return Ok(written) };
            if self.copy().await? == Some(current) {
                return Ok(written);
            }
            match self.store.replace(&path, encode(&CurrentFile::new(current))).await {
                Ok(()) => written = true,
                Err(StoreError::Retry(error)) => lost = error,
                Err(fatal @ StoreError::Fatal(_)) => return Err(fatal.into()),
            }
        }
        Err(RegistryError::Retry(format!("{path}: written {COPIES} times, and still not what it should be: {lost}")))
    }
}

/// Only automatic promotions stand back.
fn made(outcome: Automatic) -> Result<Current, RegistryError> {
    match outcome {
        Automatic::Promoted(current) => Ok(current),
        Automatic::Refused(refusal) => Err(RegistryError::Refused(refusal.to_string())),
    }
}

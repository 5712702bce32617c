//! Noticing that another model is current, for a worker that goes on with the one that it has until then.

use std::collections::VecDeque;

use common::clock::has_passed;

use super::{Current, File, Flaw, Metadata, Registry, RegistryError};

/// A model to use from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub current: Current,
    pub metadata: Metadata,
    pub model: Vec<u8>,
}

/// What a worker is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Another model is current.
    Model(Box<Loaded>),
    /// What is current cannot be used: the last model stays. Told once, as long as the reason is the same.
    Refused(RegistryError),
    /// The store does not answer: the last model stays. Told once.
    Unreachable(String),
    /// The store answers again.
    Reachable,
}

/// Looks now and then whether another version is current.
#[derive(Debug)]
pub struct Watcher {
    registry: Registry,
    every_ms: i64,
    looked_ms: Option<i64>,
    /// What the last look found to be current, and the worker to have.
    known: Option<Current>,
    /// Told already: why what is current is refused …
    refused: Option<RegistryError>,
    /// … and that the store does not answer.
    away: bool,
    untold: VecDeque<Change>,
}

impl Watcher {
    #[must_use]
    pub fn new(registry: Registry, every_ms: i64) -> Self {
        let (refused, untold) = (None, VecDeque::new());
        Self { registry, every_ms, looked_ms: None, known: None, refused, away: false, untold }
    }

    /// What the worker has: the last [`Change::Model`]'s.
    #[must_use]
    pub fn current(&self) -> Option<Current> {
        self.known
    }

    /// Looks, if it is time to; the first time at once. Tells one thing at a time: call it until there is nothing more.
    /// Waits as long as the store's own timeout. Dropped before it is done it has lost nothing: the next look is due in
    /// its time.
    pub async fn poll(&mut self, now_ms: i64) -> Option<Change> {
        if self.untold.is_empty() && self.looked_ms.is_none_or(|then_ms| has_passed(self.every_ms, then_ms, now_ms)) {
            self.looked_ms = Some(now_ms);
            let seen = self.look().await;
            self.note(seen);
        }
        self.untold.pop_front()
    }

    /// A model to load, if another than the known one is current.
    async fn look(&mut self) -> Result<Option<Loaded>, RegistryError> {
        let current = match (self.registry.current_by_copy(self.known).await?, self.known) {
            (None, None) => return Ok(None),
            (None, Some(known)) => return Err(self.registry.flawed(File::Promotion(known.promotion), Flaw::Missing)),
            (Some(current), _) => current,
        };
        if self.known.is_some_and(|known| known.version == current.version) {
            // Perhaps pinned or unpinned.
            self.known = Some(current);
            return Ok(None);
        }
        let (metadata, model) = self.registry.load(current.version).await?;
        Ok(Some(Loaded { current, metadata, model }))
    }

    fn note(&mut self, seen: Result<Option<Loaded>, RegistryError>) {
        if let Err(RegistryError::Retry(why)) = seen {
            if !self.away {
                self.untold.push_back(Change::Unreachable(why));
            }
            self.away = true;
            return;
        }
        if std::mem::take(&mut self.away) {
            self.untold.push_back(Change::Reachable);
        }
        match seen {
            Ok(loaded) => {
                self.refused = None;
                if let Some(loaded) = loaded {
                    self.known = Some(loaded.current);
                    self.untold.push_back(Change::Model(Box::new(loaded)));
                }
            }
            Err(error) => {
                if self.refused.as_ref() != Some(&error) {
                    self.untold.push_back(Change::Refused(error.clone()));
                }
                self.refused = Some(error);
            }
        }
    }
}

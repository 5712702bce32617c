//! The model that forecasts at present, shared between who swaps it and the machine that asks before each frame.

use std::sync::{Arc, Mutex, PoisonError};

use crate::forecast::model::Model;

/// A model at work.
#[derive(Debug)]
pub struct Live {
    /// As messages say it: `v1.2.0`.
    pub version: Box<str>,
    pub model: Model,
}

/// Where the present model lies; empty while there is none.
#[derive(Debug, Clone, Default)]
pub struct Slot(Arc<Mutex<Option<Arc<Live>>>>);

impl Slot {
    /// The present model. Whoever holds it works on with it though another takes its place.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn put(&self, live: Option<Live>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = live.map(Arc::new);
    }
}

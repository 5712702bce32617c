//! The models at work, shared between who swaps them and the machine that asks before each frame.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::forecast::model::Model;

/// A model at work.
#[derive(Debug, Default)]
pub struct Live {
    /// As messages say it: `v1.2.0`.
    pub version: Box<str>,
    pub model: Model,
    /// The last step that it was fitted to or that its errors were measured on: how well it forecasts up to there tells
    /// nothing.
    pub seen_until: i64,
    /// What it did on the days held out; empty if nobody asks.
    pub held_out: Vec<HeldOut>,
}

/// Mean absolute errors on the days held out, km/h.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOut {
    /// Minutes ahead.
    pub horizon: u32,
    pub model: f64,
    pub last_value: f64,
}

/// What forecasts at present.
#[derive(Debug, Clone, Default)]
pub struct AtWork {
    pub live: Option<Arc<Live>>,
    /// One that forecasts beside it, unpublished, to be compared.
    pub challenger: Option<Arc<Live>>,
}

/// Where the present models lie; empty while there is none.
#[derive(Debug, Clone, Default)]
pub struct Slot(Arc<Mutex<AtWork>>);

impl Slot {
    /// The present models. Whoever holds them works on with them though others take their place.
    #[must_use]
    pub fn at_work(&self) -> AtWork {
        self.lock().clone()
    }

    /// The model whose forecasts are published.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Live>> {
        self.lock().live.clone()
    }

    pub fn put(&self, live: Option<Live>) {
        self.lock().live = live.map(Arc::new);
    }

    pub fn put_challenger(&self, challenger: Option<Live>) {
        self.lock().challenger = challenger.map(Arc::new);
    }

    fn lock(&self) -> MutexGuard<'_, AtWork> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Keeps the model that forecasts the one that the registry says is current.

use std::time::Duration;

use common::worker::{Ended, Failure, Process};

use crate::forecast::artifact::{self, FORMAT};
use crate::live::HeldOut;
use crate::registry::{Change, LAST_VALUE, Loaded, Metadata, Registry, Watcher, in_use};
use crate::{Live, Slot};

/// How often it is asked whether it is time to look.
const TICK: Duration = Duration::from_millis(200);

/// How long a process waits for its first model.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// The registry's current model, in the place where the machine asks for it.
pub struct Models {
    watcher: Watcher,
    slot: Slot,
}

impl Models {
    /// # Errors
    /// If the store's location can not be one.
    pub fn new(process: &Process, slot: Slot) -> Result<Self, Failure> {
        let registry = Registry::configured(process).map_err(|error| Failure(error.to_string()))?;
        let every_ms = i64::try_from(process.config.predictor.model_poll.as_millis()).unwrap_or(i64::MAX);
        Ok(Self { watcher: Watcher::new(registry.reading_models_up_to(FORMAT), every_ms), slot })
    }

    /// Looks for the first time, so that a restart forecasts at once as it did before; a store that is away does not
    /// hold it up for long.
    pub fn look_first(&mut self, process: &Process) {
        let runtime = process.runtime().clone();
        let first = async { tokio::time::timeout(FIRST_LOOK, self.look(process)).await };
        if runtime.block_on(first).is_err() {
            tracing::warn!("the model registry does not answer yet; forecasts begin without a model");
        }
    }

    /// Looks until a signal, or until the forecasts have ended.
    pub fn watch(&mut self, process: &Process, ended: &Ended) {
        let runtime = process.runtime().clone();
        while !process.shutdown.requested() && !ended.get() {
            runtime.block_on(async {
                tokio::select! {
                    () = self.look(process) => tokio::time::sleep(TICK).await,
                    () = process.shutdown.wait() => {}
                }
            });
        }
    }

    /// Looks, if it is time to, and takes over what has changed.
    async fn look(&mut self, process: &Process) {
        while let Some(change) = self.watcher.poll(process.clock.now_ms()).await {
            match change {
                Change::Model(loaded) => self.take(*loaded),
                Change::Refused(error) => refused(&error),
                Change::Unreachable(error) => tracing::warn!(
                    error,
                    "the model registry does not answer; forecasts go on with the model that is at work: {error}"
                ),
                Change::Reachable => tracing::info!("the model registry answers again"),
            }
        }
    }

    fn take(&self, loaded: Loaded) {
        let version = loaded.current.version;
        match artifact::decode(&loaded.model) {
            Ok(model) => {
                let (segments, before) = (model.segments.len(), self.slot.get());
                let held_out = held_out(&loaded.metadata);
                let seen_until = loaded.metadata.seen_until();
                self.slot.put(Some(Live { version: version.to_string().into(), model, seen_until, held_out }));
                in_use(before.as_deref().map(|live| &*live.version), &version.to_string());
                metrics::counter!("traffic_models_taken_total").increment(1);
                tracing::info!(%version, segments, "model {version} forecasts from the next window on: {segments} segments");
            }
            Err(error) => refused(&format!("model {version}: {error}")),
        }
    }
}

/// What the model did on the days held out, as far as its trainer tells.
fn held_out(metadata: &Metadata) -> Vec<HeldOut> {
    let last_values = metadata.description.baselines.get(LAST_VALUE).map_or(&[][..], Vec::as_slice);
    let of = |score: &crate::registry::Score| {
        let same = |other: &&crate::registry::Score| other.horizon_minutes == score.horizon_minutes;
        let last_value = last_values.iter().find(same)?.mae_kmh;
        Some(HeldOut { horizon: score.horizon_minutes, model: score.mae_kmh, last_value })
    };
    metadata.description.metrics.iter().filter_map(of).collect()
}

fn refused(error: &dyn std::fmt::Display) {
    metrics::counter!("traffic_models_refused_total").increment(1);
    tracing::error!(%error, "what is promoted can not be used, and the last model stays: {error}");
}

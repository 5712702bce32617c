//! What a watcher tells, as metrics and on the log.

use super::{Change, Current};

impl Change {
    /// Says it once, where every process says such things; `before` is what the worker had.
    pub fn report(&self, before: Option<Current>) {
        match self {
            Self::Model(loaded) => {
                if let Some(before) = before {
                    metrics::gauge!("traffic_model_info", "version" => before.version.to_string()).set(0.0);
                }
                let Current { version, promotion, pinned } = loaded.current;
                metrics::gauge!("traffic_model_info", "version" => version.to_string()).set(1.0);
                metrics::gauge!("traffic_model_store_up").set(1.0);
                tracing::info!(%version, promotion, pinned, "model {version} forecasts from the next frame on");
            }
            Self::Refused(error) => {
                metrics::counter!("traffic_model_refusals_total").increment(1);
                tracing::error!(%error, "the current model cannot be used, the last one stays: {error}");
            }
            Self::Unreachable(error) => {
                metrics::gauge!("traffic_model_store_up").set(0.0);
                tracing::warn!(error, "whether another model is current cannot be told, the last one stays: {error}");
            }
            Self::Reachable => {
                metrics::gauge!("traffic_model_store_up").set(1.0);
                tracing::info!("whether another model is current can be told again");
            }
        }
    }
}

//! A snapshot and its network as numbers for a model, all of them differences of speeds in km/h.

use super::snapshot::Snapshot;

/// Numbers that a model sees.
pub const FEATURES: usize = 13;

/// How the network's segments deviate from what is usual, km/h: mean, and its change over three windows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Network {
    pub deviation: f32,
    pub change: f32,
}

/// The features for a horizon, by its index in [`Snapshot::base_ahead`].
#[must_use]
pub fn features(snapshot: &Snapshot, network: Network, horizon: usize) -> [f64; FEATURES] {
    let filled = f64::from(snapshot.filled);
    let since = |before: f32| filled - f64::from(before);
    let deviation = since(snapshot.base_now);
    let or_zero = |difference: f64| if difference.is_nan() { 0.0 } else { difference };
    [
        1.0,
        deviation,
        since(snapshot.lags[0]),
        since(snapshot.lags[1]),
        since(snapshot.lags[2]),
        since(snapshot.lags[3]),
        or_zero(since(snapshot.mean_1h)),
        since(snapshot.mean_4h),
        f64::from(snapshot.base_ahead[horizon]) - f64::from(snapshot.base_now),
        f64::from(network.deviation),
        f64::from(network.change),
        // Queues dissolve otherwise than free traffic fluctuates.
        if filled < 60.0 { deviation } else { 0.0 },
        f64::from(snapshot.age),
    ]
}

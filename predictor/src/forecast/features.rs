//! A snapshot and its network as numbers for a model, all of them differences of speeds in km/h.

use super::snapshot::Snapshot;

/// Numbers that a model sees.
pub const FEATURES: usize = 18;

/// Speeds that stay within so many km/h for an hour are calm: what moves is noise.
const CALM_KMH: f64 = 12.0;
/// Below this share of the best speed of four hours a segment is congested.
const CONGESTED: f64 = 0.7;

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
    let when = |holds: bool, value: f64| if holds { value } else { 0.0 };
    let calm = f64::from(snapshot.range_1h) < CALM_KMH;
    let top = f64::from(snapshot.top_4h);
    let congested = filled < CONGESTED * top;
    let of_hour = or_zero(since(snapshot.mean_1h));
    [
        1.0,
        deviation,
        since(snapshot.lags[0]),
        since(snapshot.lags[1]),
        since(snapshot.lags[2]),
        since(snapshot.lags[3]),
        of_hour,
        since(snapshot.mean_4h),
        f64::from(snapshot.base_ahead[horizon]) - f64::from(snapshot.base_now),
        f64::from(network.deviation),
        f64::from(network.change),
        f64::from(snapshot.age),
        // Noise is averaged away while nothing happens, and queues dissolve otherwise than free traffic fluctuates.
        when(calm, since(snapshot.lags[0])),
        when(calm, of_hour),
        when(calm, deviation),
        when(congested, 1.0),
        when(congested, deviation),
        when(congested, top - filled),
    ]
}

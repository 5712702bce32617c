//! Snapshots as rows of numbers for a model of one horizon. Speeds and their differences are in km/h.

use super::calendar::Slot;
use super::network::Links;
use super::snapshot::Snapshot;

/// Neighbours of a segment whose deviations stand in its rows.
pub const NEIGHBOURS: usize = 6;

/// What the columns are called, in their order.
pub const NAMES: [&str; 63] = [
    "speed",
    "change_5min",
    "change_10min",
    "change_15min",
    "change_25min",
    "change_40min",
    "change_55min",
    "below_high_1h",
    "above_low_1h",
    "deviation_1h",
    "deviation_20min",
    "age",
    "missing_1h",
    "unusual",
    "unusual_5min_ago",
    "unusual_10min_ago",
    "unusual_20min_ago",
    "unusual_40min_ago",
    "unusual_1h",
    "unusual_4h",
    "usual_at_target_less_speed",
    "usual_change_to_target",
    "usual_change_to_halfway",
    "usual_spread_at_target",
    "usual_change_after_target",
    "yesterday_at_target_less_usual",
    "yesterday_less_speed",
    "neighbour_1_unusual",
    "neighbour_1_change",
    "neighbour_1_residual",
    "neighbour_2_unusual",
    "neighbour_2_change",
    "neighbour_2_residual",
    "neighbour_3_unusual",
    "neighbour_3_change",
    "neighbour_3_residual",
    "neighbour_4_unusual",
    "neighbour_4_change",
    "neighbour_4_residual",
    "neighbour_5_unusual",
    "neighbour_5_change",
    "neighbour_5_residual",
    "neighbour_6_unusual",
    "neighbour_6_change",
    "neighbour_6_residual",
    "neighbour_1_usual_change",
    "neighbour_2_usual_change",
    "downstream_unusual",
    "downstream_change",
    "upstream_unusual",
    "upstream_change",
    "correlated_unusual",
    "correlated_change",
    "network_unusual",
    "network_change_30min",
    "time_of_day",
    "day_of_week",
    "weekend",
    "free_flow",
    "mean",
    "deviation",
    "low",
    "autocorrelation_1h",
];
/// Columns of a row.
pub const FEATURES: usize = NAMES.len();

/// What is known of a segment from the time a model was fitted on, km/h.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Facts {
    /// 95th percentile.
    pub free_flow: f32,
    pub mean: f32,
    pub deviation: f32,
    /// 5th percentile.
    pub low: f32,
    /// Of the speed with itself an hour before.
    pub autocorrelation: f32,
}

/// How all segments together deviate from what is usual, km/h: mean, and its change over half an hour.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Network {
    pub unusual: f32,
    pub change: f32,
}

/// What a frame knows of all segments of a model, by their index in it.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub now: Slot,
    pub segments: &'a [Option<&'a Snapshot>],
    pub network: Network,
}

/// Appends the [`FEATURES`] numbers for the horizon with index `h` in [`Snapshot::ahead`].
pub fn append(own: &Snapshot, facts: &Facts, links: &Links, frame: &Frame<'_>, h: usize, into: &mut Vec<f32>) {
    let (filled, ahead) = (own.filled, own.ahead[h]);
    let since = |lag: usize| filled - own.lags[lag];
    let or_zero = |difference: f32| if difference.is_nan() { 0.0 } else { difference };
    into.extend([filled, since(0), since(1), since(2), since(3), since(5), since(6)]);
    into.extend([own.high_1h - filled, filled - own.low_1h, own.deviation_1h, own.deviation_20min]);
    into.extend([f32::from(own.age), f32::from(own.missing)]);
    into.extend([0, 1, 2, 4, 5].map(|k| own.unusual[k]));
    into.extend([own.unusual_1h, own.unusual_4h]);
    into.extend([ahead.usual - filled, ahead.usual - own.usual_now, ahead.halfway - own.usual_now]);
    into.extend([ahead.spread, ahead.after - ahead.usual]);
    into.extend([or_zero(ahead.yesterday - ahead.usual), or_zero(own.yesterday - filled)]);
    let snapshot = |index: u32| frame.segments.get(index as usize).copied().flatten();
    for k in 0..NEIGHBOURS {
        let neighbour = links.neighbours.get(k).and_then(|n| Some((snapshot(n.index)?, n.weight)));
        into.extend(neighbour.map_or([0.0; 3], |(n, slope)| {
            [n.unusual[0], n.unusual[0] - n.unusual[3], own.unusual[0] - slope * n.unusual[0]]
        }));
    }
    for k in 0..2 {
        let neighbour = links.neighbours.get(k).and_then(|n| snapshot(n.index));
        into.push(neighbour.map_or(0.0, |n| n.ahead.get(h).map_or(0.0, |ahead| ahead.usual) - n.usual_now));
    }
    for linked in [&links.downstream, &links.upstream, &links.correlated] {
        let (mut sum, mut change, mut weight) = (0.0, 0.0, 0.0);
        for (n, w) in linked.iter().filter_map(|link| Some((snapshot(link.index)?, link.weight))) {
            sum += w * n.unusual[0];
            change += w * (n.unusual[0] - n.unusual[3]);
            weight += w;
        }
        into.extend(if weight > 0.0 { [sum / weight, change / weight] } else { [0.0; 2] });
    }
    into.extend([frame.network.unusual, frame.network.change]);
    into.extend([f32::from(frame.now.bin), f32::from(frame.now.day), f32::from(u8::from(frame.now.is_weekend()))]);
    into.extend([facts.free_flow, facts.mean, facts.deviation, facts.low, facts.autocorrelation]);
}

//! Snapshots as rows of numbers for a model of one horizon. Speeds and their differences are in km/h.

use super::calendar::Slot;
use super::model::Member;
use super::network::{Link, Links};
use super::snapshot::Snapshot;

/// Neighbours of a segment whose deviations stand in its rows.
pub const NEIGHBOURS: usize = 6;

/// A segment is congested below this share of its free flow.
const CONGESTED: f32 = 0.7;

/// What the columns are called, in their order; those of earlier formats of a model come first.
pub const NAMES: [&str; 91] = [
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
    "relative",
    "relative_15min_ago",
    "relative_30min_ago",
    "downstream_congested",
    "downstream_least_relative",
    "downstream_congested_15min_ago",
    "downstream_least_relative_15min_ago",
    "downstream_congested_30min_ago",
    "downstream_least_relative_30min_ago",
    "upstream_congested",
    "upstream_least_relative",
    "upstream_congested_15min_ago",
    "upstream_least_relative_15min_ago",
    "upstream_congested_30min_ago",
    "upstream_least_relative_30min_ago",
    "network_congested",
    "network_congested_change_30min",
    "usual_at_target_relative",
    "usual_now_relative",
    "neighbour_1_relative",
    "neighbour_2_relative",
    "neighbour_3_relative",
    "neighbour_4_relative",
    "neighbour_5_relative",
    "neighbour_6_relative",
    "downstream_relative",
    "upstream_relative",
    "correlated_relative",
];
/// Columns of a row.
pub const FEATURES: usize = NAMES.len();
/// Where the time of day stands in it.
pub const TIME_OF_DAY: usize = 55;

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

/// Speeds as shares of the free flow: now, a quarter of an hour and half an hour ago.
type Relative = [f32; 3];
/// Where those stand in [`Snapshot::lags`].
const AGO: [usize; 2] = [2, 4];
/// What nobody knows is taken to be free.
const FREE: Relative = [1.0; 3];
/// What a free flow that hardly was one makes of a speed is cut off.
const MOST_RELATIVE: f32 = 2.0;

/// What a frame knows of all segments of a model, by their index in it.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    now: Slot,
    segments: &'a [Option<&'a Snapshot>],
    network: Network,
    relative: Vec<Relative>,
    /// Share of the segments that are congested, and its change over half an hour.
    congested: [f32; 2],
}

impl<'a> Frame<'a> {
    /// `segments` and `members` in the order of the model.
    #[must_use]
    pub fn new(now: Slot, segments: &'a [Option<&'a Snapshot>], network: Network, members: &[Member]) -> Self {
        let of = |(snapshot, member): (&Option<&Snapshot>, &Member)| {
            snapshot.map_or(FREE, |snapshot| {
                let lags = AGO.map(|lag| snapshot.lags[lag]);
                [snapshot.filled, lags[0], lags[1]].map(|speed| relative(speed, &member.facts))
            })
        };
        let relative: Vec<Relative> = segments.iter().zip(members).map(of).collect();
        let share = |ago: usize| {
            let known = segments.iter().zip(&relative).filter(|(snapshot, _)| snapshot.is_some());
            let (congested, count) = known.fold((0.0, 0.0_f32), |(congested, count), (_, relative)| {
                (congested + f32::from(u8::from(relative[ago] < CONGESTED)), count + 1.0)
            });
            congested / count.max(1.0)
        };
        let congested = [share(0), share(0) - share(2)];
        Self { now, segments, network, relative, congested }
    }

    fn snapshot(&self, index: u32) -> Option<&'a Snapshot> {
        self.segments.get(index as usize).copied().flatten()
    }

    /// Speed and free flow of those of some segments that are known.
    fn relatives<'f>(&'f self, linked: &'f [Link]) -> impl Iterator<Item = (Relative, f32)> + 'f {
        let known = linked.iter().filter(|link| self.snapshot(link.index).is_some());
        known.map(|link| (self.relative[link.index as usize], link.weight))
    }
}

fn relative(speed: f32, facts: &Facts) -> f32 {
    (speed / facts.free_flow.max(1.0)).min(MOST_RELATIVE)
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
    let snapshot = |index: u32| frame.snapshot(index);
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
    append_congestion(own, facts, links, frame, h, into);
}

/// The part of a row that compares speeds with those of free flow.
fn append_congestion(own: &Snapshot, facts: &Facts, links: &Links, frame: &Frame<'_>, h: usize, into: &mut Vec<f32>) {
    into.extend([own.filled, own.lags[AGO[0]], own.lags[AGO[1]]].map(|speed| relative(speed, facts)));
    for linked in [&links.downstream, &links.upstream] {
        let (mut congested, mut least, mut weight) = ([0.0; 3], FREE, 0.0);
        for (relative, w) in frame.relatives(linked) {
            for ago in 0..3 {
                congested[ago] += w * f32::from(u8::from(relative[ago] < CONGESTED));
                least[ago] = relative[ago].min(least[ago]);
            }
            weight += w;
        }
        let share = |sum: f32| if weight > 0.0 { sum / weight } else { 0.0 };
        into.extend((0..3).flat_map(|ago| [share(congested[ago]), least[ago]]));
    }
    into.extend(frame.congested);
    into.extend([own.ahead[h].usual, own.usual_now].map(|usual| relative(usual, facts)));
    for k in 0..NEIGHBOURS {
        let neighbour = links.neighbours.get(k).and_then(|link| frame.relative.get(link.index as usize));
        into.push(neighbour.unwrap_or(&FREE)[0]);
    }
    for linked in [&links.downstream, &links.upstream, &links.correlated] {
        let (sum, weight) =
            frame.relatives(linked).fold((0.0, 0.0), |(sum, weight), (r, w)| (sum + w * r[0], weight + w));
        into.push(if weight > 0.0 { sum / weight } else { FREE[0] });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_where_it_is_sought() {
        assert_eq!(NAMES[TIME_OF_DAY], "time_of_day");
    }
}

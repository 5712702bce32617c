//! Which segments tell something about which: neighbours chosen by what they add, and the graph's.

use rayon::prelude::*;

use super::features::NEIGHBOURS;

/// Most links of a kind that a segment keeps: the heaviest.
const MOST_LINKS: usize = 16;
/// Segments among which neighbours are sought: those that correlate most.
const CANDIDATES: usize = 48;
/// Windows ahead that neighbours are to be useful for: half an hour.
const LEAD: usize = 6;
/// Own deviations that a neighbour has to add to, windows before.
const OWN_LAGS: [usize; 4] = [0, 1, 3, 12];
/// Windows that correlations are taken from.
const SAMPLE: usize = 4_000;
/// Correlations below this are none.
const UNRELATED: f32 = 0.2;

/// Another segment, by its index in the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    pub index: u32,
    pub weight: f32,
}

/// The segments that tell something about one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Links {
    /// At most [`NEIGHBOURS`], the most useful first; the weight is the slope of the own deviation on theirs.
    pub neighbours: Vec<Link>,
    /// What traffic flows to and comes from, weighted by nearness.
    pub downstream: Vec<Link>,
    pub upstream: Vec<Link>,
    /// Those whose deviations are most alike.
    pub correlated: Vec<Link>,
}

/// Where traffic flows: from, to, weight (nearness, above 0), by the segments' indices.
pub type Edge = (u32, u32, f32);

/// Finds the links from deviations by segment and window (all of one length, without NaN) and the graph's edges.
#[must_use]
pub fn links(deviations: &[Vec<f32>], edges: &[Edge]) -> Vec<Links> {
    let mut all: Vec<Links> = vec![Links::default(); deviations.len()];
    for (from, to, weight) in edges.iter().filter(|(from, to, weight)| from != to && *weight > 0.0) {
        let mut link = |at: u32, index: u32, down: bool| {
            if let Some(links) = all.get_mut(at as usize) {
                let of_kind = if down { &mut links.downstream } else { &mut links.upstream };
                of_kind.push(Link { index, weight: *weight });
            }
        };
        link(*from, *to, true);
        link(*to, *from, false);
    }
    let windows = deviations.first().map_or(0, Vec::len);
    let every = windows.div_ceil(SAMPLE).max(1);
    let sampled: Vec<Vec<f32>> =
        deviations.par_iter().map(|of| normalised(of.iter().step_by(every).copied())).collect();
    all.par_iter_mut().enumerate().for_each(|(own, links)| {
        keep_heaviest(&mut links.downstream, MOST_LINKS);
        keep_heaviest(&mut links.upstream, MOST_LINKS);
        let others = (0..sampled.len()).filter(|other| *other != own);
        let correlation = |other: usize| Link {
            index: u32::try_from(other).expect("fewer than 2^32 segments"),
            weight: dot(&sampled[own], &sampled[other]),
        };
        let mut alike: Vec<Link> = others.map(correlation).filter(|link| link.weight > UNRELATED).collect();
        keep_heaviest(&mut alike, CANDIDATES);
        links.neighbours = most_useful(own, &alike, deviations);
        links.correlated = alike;
        links.correlated.truncate(MOST_LINKS);
        links.correlated.iter_mut().for_each(|link| link.weight *= link.weight);
    });
    all
}

fn keep_heaviest(links: &mut Vec<Link>, most: usize) {
    // Equals in the order of their indices.
    links.sort_unstable_by(|a, b| b.weight.total_cmp(&a.weight).then(a.index.cmp(&b.index)));
    links.truncate(most);
}

/// Greedy forward selection (orthogonal least squares: Chen, Billings and Luo 1989): again and again the candidate that
/// explains most of what own lags and those chosen before leave of the deviation half an hour later.
fn most_useful(own: usize, candidates: &[Link], deviations: &[Vec<f32>]) -> Vec<Link> {
    let windows = deviations[own].len();
    let first = OWN_LAGS.iter().max().copied().unwrap_or(0);
    if windows <= first + LEAD {
        return Vec::new();
    }
    let until = windows - LEAD;
    let mut target = normalised(deviations[own][first + LEAD..].iter().copied());
    let mut basis: Vec<Vec<f32>> = Vec::new();
    for lag in OWN_LAGS {
        let mut regressor = normalised(deviations[own][first - lag..until - lag].iter().copied());
        basis.iter().for_each(|b| remove(&mut regressor, b));
        if normalise(&mut regressor) {
            remove(&mut target, &regressor);
            basis.push(regressor);
        }
    }
    let mut left: Vec<(Link, Vec<f32>)> = candidates
        .iter()
        .map(|link| {
            let mut regressor = normalised(deviations[link.index as usize][first..until].iter().copied());
            basis.iter().for_each(|b| remove(&mut regressor, b));
            normalise(&mut regressor);
            (*link, regressor)
        })
        .collect();
    let mut chosen = Vec::with_capacity(NEIGHBOURS);
    while chosen.len() < NEIGHBOURS && !left.is_empty() {
        let gains: Vec<f32> = left.iter().map(|(_, regressor)| dot(regressor, &target).abs()).collect();
        let best = (0..left.len()).rev().max_by(|a, b| gains[*a].total_cmp(&gains[*b])).expect("some are left");
        let (link, regressor) = left.swap_remove(best);
        remove(&mut target, &regressor);
        for (_, other) in &mut left {
            remove(other, &regressor);
            normalise(other);
        }
        let slope = slope(&deviations[link.index as usize], &deviations[own]);
        chosen.push(Link { index: link.index, weight: slope });
    }
    chosen
}

/// The slope of `y` on `x` through the origin.
fn slope(x: &[f32], y: &[f32]) -> f32 {
    let squares = dot(x, x);
    if squares > 0.0 { dot(x, y) / squares } else { 0.0 }
}

/// Of mean 0 and length 1; all zero if nothing varies.
fn normalised(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut values: Vec<f32> = values.collect();
    #[expect(clippy::cast_precision_loss, reason = "some thousand windows")]
    let mean = values.iter().sum::<f32>() / values.len().max(1) as f32;
    values.iter_mut().for_each(|value| *value -= mean);
    normalise(&mut values);
    values
}

/// To length 1; `false` and all zero if it has hardly any.
fn normalise(values: &mut [f32]) -> bool {
    let length = dot(values, values).sqrt();
    let scale = if length > 1e-3 { 1.0 / length } else { 0.0 };
    values.iter_mut().for_each(|value| *value *= scale);
    scale > 0.0
}

fn remove(from: &mut [f32], direction: &[f32]) {
    let along = dot(from, direction);
    from.iter_mut().zip(direction).for_each(|(value, d)| *value -= along * d);
}

/// In lanes, for speed; always in the same order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::boosting::Chance;

    #[test]
    fn the_segment_that_leads_is_chosen_first_and_noise_correlates_with_nothing() {
        let mut chance = Chance::new(7);
        let mut noise = |scale: f32| {
            #[expect(clippy::cast_possible_truncation, reason = "noise")]
            let value = (chance.unit() * 2.0 - 1.0) as f32;
            scale * value
        };
        let mut leader = vec![0.0_f32; 2_000];
        (1..2_000).for_each(|t| leader[t] = 0.95 * leader[t - 1] + noise(3.0));
        let follower: Vec<f32> = (0..2_000_usize).map(|t| leader[t.saturating_sub(LEAD)] + noise(0.5)).collect();
        let copy: Vec<f32> = follower.iter().map(|speed| speed + noise(2.0)).collect();
        let other: Vec<f32> = (0..2_000).map(|_| noise(5.0)).collect();
        let links = links(&[follower, copy, other, leader], &[(3, 0, 0.8), (0, 1, 0.5), (0, 0, 1.0), (0, 99, 1.0)]);
        assert_eq!(links[0].neighbours.first().map(|n| n.index), Some(3));
        assert!(links[2].neighbours.is_empty() && links[2].correlated.is_empty());
        assert_eq!(links[0].upstream, [Link { index: 3, weight: 0.8 }]);
        assert_eq!(links[0].downstream[1], Link { index: 1, weight: 0.5 });
        assert!(links[0].correlated.iter().all(|link| link.index != 0 && link.index != 2));
    }
}

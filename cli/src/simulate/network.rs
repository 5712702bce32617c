//! The freeway network: corridors of segments, each segment with one sensor, made from a seed.
//!
//! A corridor is one direction of a freeway: 20-40 segments of 0.5-0.95 km, one or two cells each, with pairs of an
//! off-ramp and an on-ramp every few kilometres and a lane drop behind its middle. Its demand is scaled so that at the
//! peak hour its worst place is asked for somewhat more than it carries. Vehicles do not change between corridors.

use std::ops::Range;

use super::chance::{Dice, Topic};
use super::ctm::{Cell, Diagram, OnRamp, Road};
use super::demand::Peak;
use super::roads::FREEWAYS;

/// The model's step; a cell is longer than free flow goes in it.
pub const STEP_S: f64 = 10.0;
/// Longer segments have two cells.
const TWO_CELLS_KM: f64 = 0.66;
pub const MOST_SEGMENTS: usize = 38;
const RAMP_CAPACITY_PER_H: f64 = 1_900.0;

/// One sensor's stretch of road.
#[derive(Debug, Clone)]
pub struct Segment {
    pub id: String,
    pub corridor: usize,
    /// The sensor's place.
    pub latitude: f64,
    pub longitude: f64,
    pub length_km: f64,
    pub lanes: u32,
    /// Its beginning, from the corridor's.
    pub position_km: f64,
    /// Its last cell in the corridor's road: where the sensor is, and at whose end an incident blocks lanes.
    pub cell: usize,
}

/// One direction of a freeway.
#[derive(Debug, Clone)]
pub struct Corridor {
    /// Like `I405_N`.
    pub name: String,
    pub direction: &'static str,
    /// When most vehicles come.
    pub peak: Peak,
    pub diagram: Diagram,
    /// Of the network's segments, in the direction of travel.
    pub segments: Range<usize>,
    pub cells: Vec<Cell>,
    pub road: Road,
    /// Vehicles an hour at the peak that come along the main line.
    pub origin_per_h: f64,
    /// Vehicles an hour at the peak for each on-ramp.
    pub ramps_per_h: Vec<f64>,
    /// The cell that each on-ramp leads to.
    #[cfg(test)]
    pub ramp_cells: Vec<usize>,
}

#[derive(Debug, Clone)]
pub struct Network {
    pub corridors: Vec<Corridor>,
    pub segments: Vec<Segment>,
}

impl Network {
    /// The network of so many segments.
    pub fn new(seed: u64, segments: u32) -> Self {
        let total = segments as usize;
        let corridors = if total <= MOST_SEGMENTS { 1 } else { 2 * total.div_ceil(2 * MOST_SEGMENTS) };
        let mut network = Self { corridors: Vec::with_capacity(corridors), segments: Vec::with_capacity(total) };
        for index in 0..corridors {
            let from = network.segments.len();
            let until = total * (index + 1) / corridors;
            network.build(seed, index, from..until);
        }
        network
    }

    pub fn corridor(&self, name: &str) -> Option<&Corridor> {
        self.corridors.iter().find(|c| c.name == name)
    }

    /// The corridor's segments, in the direction of travel.
    pub fn along(&self, corridor: &Corridor) -> &[Segment] {
        &self.segments[corridor.segments.clone()]
    }

    fn build(&mut self, seed: u64, index: usize, range: Range<usize>) {
        let mut dice = Dice::new(seed, Topic::Network, index, 0);
        let plan = Plan::new(&mut dice, range.len());
        let (pair, backward) = (index / 2, index % 2 == 1);
        let (freeway, round) = (&FREEWAYS[pair % FREEWAYS.len()], pair / FREEWAYS.len());
        let direction = freeway.directions[usize::from(backward)];
        let name = format!("{}_{direction}", freeway.name);
        // One direction leads into town and is full in the morning, the other in the evening.
        let inbound = Dice::new(seed, Topic::Network, pair, 1).uniform() < 0.5;
        let total_km: f64 = plan.lengths_km.iter().sum();
        let (mut position_km, mut cell) = (0.0, 0);
        for (i, (length_km, lanes)) in plan.lengths_km.iter().zip(&plan.lanes).enumerate() {
            cell += cells_of(*length_km);
            let middle_km = position_km + length_km / 2.0;
            let along_km = if backward { total_km - middle_km } else { middle_km };
            let (latitude, longitude) = freeway.at(along_km + 40.0 * to_f64(round), backward);
            self.segments.push(Segment {
                id: format!("SEG_{name}_{:04}", 1_000 * round + i + 1),
                corridor: index,
                latitude,
                longitude,
                length_km: *length_km,
                lanes: *lanes,
                position_km,
                cell: cell - 1,
            });
            position_km += length_km;
        }
        let name = if round == 0 { name } else { format!("{name}_{}", round + 1) };
        let peak = if inbound == backward { Peak::Evening } else { Peak::Morning };
        self.corridors.push(plan.corridor(name, direction, peak, range));
    }
}

fn cells_of(length_km: f64) -> usize {
    if length_km < TWO_CELLS_KM { 1 } else { 2 }
}

fn to_f64(n: usize) -> f64 {
    f64::from(u32::try_from(n).expect("a number of segments"))
}

/// What a corridor is to be.
struct Plan {
    diagram: Diagram,
    lengths_km: Vec<f64>,
    lanes: Vec<u32>,
    /// The share that leaves at each segment's end.
    leaves: Vec<f64>,
    /// What joins at each segment's beginning, as a share of what has left before.
    joins: Vec<f64>,
    /// Demand over capacity at the worst place at the peak hour.
    load: f64,
}

impl Plan {
    fn new(dice: &mut Dice, segments: usize) -> Self {
        let diagram = Diagram {
            free_flow_kmh: dice.between(100.0, 115.0).round(),
            wave_kmh: dice.between(16.0, 19.0),
            jam_per_km: dice.between(122.0, 138.0),
        };
        let lengths_km = (0..segments).map(|_| (dice.between(0.5, 0.95) * 100.0).round() / 100.0).collect();
        let base = [3, 4, 4, 5][dice.below(4)];
        let drop = ((dice.between(0.55, 0.8) * to_f64(segments)).round() as usize).max(1);
        let lanes = (0..segments).map(|i| if i < drop { base } else { base - 1 }).collect();
        let (mut leaves, mut joins) = (vec![0.0; segments], vec![0.0; segments]);
        let mut at = 1 + dice.below(2);
        while at + 2 < segments {
            let on = at + 1 + dice.below(2);
            leaves[at] = dice.between(0.06, 0.14);
            joins[on] = dice.between(0.85, 1.2);
            at = on + 1 + dice.below(3);
        }
        Self { diagram, lengths_km, lanes, leaves, joins, load: dice.between(1.06, 1.18) }
    }

    fn corridor(self, name: String, direction: &'static str, peak: Peak, segments: Range<usize>) -> Corridor {
        let (mut cells, mut ramps, mut ramps_per_h) = (Vec::new(), Vec::new(), Vec::new());
        // With one vehicle an hour at the origin: what flows, what has just left, and the worst load of a lane.
        let (mut flow, mut left, mut worst) = (1.0_f64, 0.0, 0.0_f64);
        for (i, (length_km, lanes)) in self.lengths_km.iter().zip(&self.lanes).enumerate() {
            let joins = self.joins[i] * left;
            if joins > 0.0 && !cells.is_empty() {
                ramps.push(OnRamp { cell: cells.len(), capacity_per_h: RAMP_CAPACITY_PER_H });
                ramps_per_h.push(joins);
                flow += joins;
                left = 0.0;
            }
            worst = worst.max(flow / f64::from(*lanes));
            let count = cells_of(*length_km);
            let cell = Cell { length_km: length_km / to_f64(count), lanes: *lanes, leaves: 0.0 };
            cells.extend(std::iter::repeat_n(cell, count - 1));
            cells.push(Cell { leaves: self.leaves[i], ..cell });
            left += flow * self.leaves[i];
            flow *= 1.0 - self.leaves[i];
        }
        let origin_per_h = self.load * self.diagram.capacity_per_h() / worst;
        ramps_per_h.iter_mut().for_each(|r| *r *= origin_per_h);
        let road = Road::new(self.diagram, &cells, &ramps, STEP_S);
        Corridor {
            name,
            direction,
            peak,
            diagram: self.diagram,
            segments,
            cells,
            road,
            origin_per_h,
            ramps_per_h,
            #[cfg(test)]
            ramp_cells: ramps.iter().map(|r| r.cell).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_segments_becomes_corridors() {
        for segments in [1, 2, 7, 38, 39, 50, 76, 77, 200, 2_000, 10_000] {
            let network = Network::new(1, segments);
            assert_eq!(network.segments.len(), segments as usize);
            let ids: std::collections::HashSet<_> = network.segments.iter().map(|s| &s.id).collect();
            assert_eq!(ids.len(), segments as usize, "ids are unique");
            let names: std::collections::HashSet<_> = network.corridors.iter().map(|c| &c.name).collect();
            assert_eq!(names.len(), network.corridors.len(), "names are unique");
            for (index, corridor) in network.corridors.iter().enumerate() {
                let along = network.along(corridor);
                assert!(segments < 77 || (19..=MOST_SEGMENTS).contains(&along.len()), "{segments}: {}", along.len());
                assert!(along.iter().all(|s| s.corridor == index));
                assert_eq!(along.last().expect("a segment").cell, corridor.cells.len() - 1);
                let length_km: f64 = corridor.cells.iter().map(|c| c.length_km).sum();
                assert!((along.iter().map(|s| s.length_km).sum::<f64>() - length_km).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn figures_are_those_of_freeways() {
        for seed in 0..5 {
            for corridor in &Network::new(seed, 500).corridors {
                let Diagram { free_flow_kmh, wave_kmh, jam_per_km } = corridor.diagram;
                assert!((100.0..=115.0).contains(&free_flow_kmh) && (15.0..=20.0).contains(&wave_kmh));
                assert!((120.0..=140.0).contains(&jam_per_km));
                let capacity_per_h = corridor.diagram.capacity_per_h();
                assert!((1_650.0..=2_300.0).contains(&capacity_per_h), "{capacity_per_h}");
                assert!(corridor.ramps_per_h.iter().all(|r| (50.0..RAMP_CAPACITY_PER_H).contains(r)));
                assert!(corridor.ramps_per_h.len() >= 4);
            }
        }
    }

    #[test]
    fn the_seed_decides_and_ids_stay() {
        let (a, b, c) = (Network::new(1, 200), Network::new(1, 200), Network::new(2, 200));
        let lengths = |n: &Network| n.segments.iter().map(|s| s.length_km).collect::<Vec<_>>();
        assert_eq!(lengths(&a), lengths(&b));
        assert_ne!(lengths(&a), lengths(&c));
        assert_eq!(a.segments[0].id, "SEG_I405_N_0001");
        assert!(a.segments.iter().zip(&c.segments).all(|(a, c)| a.id == c.id));
    }
}

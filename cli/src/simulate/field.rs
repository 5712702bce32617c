//! Speed, density and counts over space and time: the network's traffic, simulated from an empty road onwards.
//!
//! The field at a time is a function of network, seed and time alone, whenever one begins to look. Each traffic day is
//! simulated from midnight, three hours before it begins, and taken over at 03:00: on the empty roads of that hour,
//! traffic forgets what was before within one passage of the corridor. So nobody has to simulate more than a day and
//! three hours to know the present, and what was kept of the past is a ring of samples.

use super::calendar::Day;
use super::ctm::{Arrivals, State};
use super::demand::{day_factor, minute_factor, profile};
use super::incidents::{self, Incident};
use super::network::{MOST_SEGMENTS, Network, STEP_S};

/// Steps are averaged over so long.
pub const SAMPLE_MS: i64 = 30_000;
const STEPS: u32 = 3;
const STEPS_PER_HOUR: f64 = 3_600.0 / STEP_S;
const WARM_UP_MS: i64 = 3 * 3_600_000;
/// A count has so many binary digits behind the point; whole numbers keep it exact, wherever it began.
const FRACTION: u32 = 20;
const ONE: u64 = 1 << FRACTION;
/// A vehicle occupies a detector over its own length and the detector's, km.
const OCCUPIED_KM: f64 = 0.0065;

/// What passes a sensor, before the sensor's own errors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    pub speed_kmh: f64,
    /// Vehicles counted.
    pub vehicles: u64,
    /// Percent.
    pub occupancy: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    speed_kmh: f32,
    occupancy: f32,
    /// Vehicles that have passed by the sample's end, in parts of `ONE`.
    passed: u64,
}

#[derive(Debug)]
struct Traffic {
    state: State,
    /// In a step.
    arrivals: Arrivals,
    /// Today's and yesterday's factor on the demand.
    factors: [f64; 2],
}

#[derive(Debug)]
pub struct Field {
    network: Network,
    seed: u64,
    incident_rate: f64,
    day: Day,
    before: Day,
    /// Of both days.
    incidents: Vec<Incident>,
    traffic: Vec<Traffic>,
    /// Vehicles that had passed each sensor when the day's count began, in parts of `ONE`: whole ones, so that
    /// differences do not depend on the days before.
    begun: Vec<u64>,
    /// Nothing is kept of what was before, epoch ms.
    keep_ms: i64,
    /// The ring: row by row a sample of every segment.
    samples: Vec<Sample>,
    rows: i64,
    /// The newest one's place in the ring.
    newest: i64,
    /// The next sample to simulate begins here, epoch ms.
    next_ms: i64,
}

impl Field {
    /// The field from `from_ms` on, of which the last `history_ms` are kept.
    pub fn new(network: Network, seed: u64, incident_rate: f64, from_ms: i64, history_ms: i64) -> Self {
        let day = Day::of(from_ms - SAMPLE_MS);
        let rows = history_ms.max(0) / SAMPLE_MS + 4;
        let segments = network.segments.len();
        let ring = segments * usize::try_from(rows).expect("a ring that fits the memory");
        let mut field = Self {
            network,
            seed,
            incident_rate,
            day,
            before: day.previous(),
            incidents: Vec::new(),
            traffic: Vec::new(),
            begun: vec![0; segments],
            keep_ms: (from_ms - SAMPLE_MS).div_euclid(SAMPLE_MS) * SAMPLE_MS,
            samples: vec![Sample::default(); ring],
            rows,
            newest: 0,
            next_ms: day.begin_ms,
        };
        field.begin(day);
        field.cover(from_ms);
        field
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Up to which time the field is known, epoch ms.
    pub fn covered_ms(&self) -> i64 {
        self.next_ms
    }

    /// Simulates until `to_ms` is known.
    pub fn cover(&mut self, to_ms: i64) {
        while self.next_ms <= to_ms {
            if self.next_ms >= self.day.end_ms {
                self.begin(self.day.next());
            }
            if self.next_ms == self.keep_ms {
                self.count();
            }
            let before = self.newest;
            self.newest = (before + 1) % self.rows;
            let rows = (self.place(self.newest), self.place(before));
            self.sample(self.next_ms, (self.next_ms >= self.keep_ms).then_some(rows));
            self.next_ms += SAMPLE_MS;
        }
    }

    /// What the sensor of a segment sees at a time, averaged and counted over the interval before it.
    pub fn truth(&self, segment: usize, at_ms: i64, interval_ms: i64) -> Truth {
        let last = at_ms.div_euclid(SAMPLE_MS);
        let count = ((interval_ms + SAMPLE_MS / 2) / SAMPLE_MS).clamp(1, self.rows - 3);
        let (mut speed, mut occupancy) = (0.0, 0.0);
        for row in last - count + 1..=last {
            let sample = self.at(row, segment);
            speed += f64::from(sample.speed_kmh);
            occupancy += f64::from(sample.occupancy);
        }
        #[expect(clippy::cast_precision_loss, reason = "a few samples")]
        let count = count as f64;
        let whole = |ms| self.passed_by(segment, ms) >> FRACTION;
        let vehicles = whole(at_ms).saturating_sub(whole(at_ms - interval_ms));
        Truth { speed_kmh: speed / count, vehicles, occupancy: occupancy / count }
    }

    /// Vehicles that have passed by a time, in parts of `ONE`.
    fn passed_by(&self, segment: usize, at_ms: i64) -> u64 {
        let row = at_ms.div_euclid(SAMPLE_MS);
        let (from, to) = (self.at(row - 1, segment).passed, self.at(row, segment).passed);
        let part = at_ms.rem_euclid(SAMPLE_MS).unsigned_abs();
        from + to.saturating_sub(from) * part / SAMPLE_MS.unsigned_abs()
    }

    fn at(&self, row: i64, segment: usize) -> Sample {
        // From the newest row backwards, without a division.
        let back = self.next_ms / SAMPLE_MS - 1 - row;
        debug_assert!((0..self.rows).contains(&back), "a sample that is kept");
        let row = if self.newest >= back { self.newest - back } else { self.newest - back + self.rows };
        self.samples[self.place(row) + segment]
    }

    /// Where a row of the ring begins.
    fn place(&self, row: i64) -> usize {
        usize::try_from(row).expect("a row of the ring") * self.network.segments.len()
    }

    /// Writes into the newest row what has passed.
    fn count(&mut self) {
        let row = self.place(self.newest);
        for (index, segment) in self.network.segments.iter().enumerate() {
            let today = parts(self.traffic[segment.corridor].state.passed[segment.cell]);
            self.samples[row + index].passed = self.begun[index] + today;
        }
    }

    /// Takes over a day at its begin.
    fn begin(&mut self, day: Day) {
        (self.day, self.before) = (day, day.previous());
        self.incidents = incidents::of_day(&self.network, self.seed, self.incident_rate, self.before);
        self.incidents.extend(incidents::of_day(&self.network, self.seed, self.incident_rate, day));
        let (seed, before) = (self.seed, self.before);
        let fresh = |(index, corridor): (usize, &super::network::Corridor)| Traffic {
            state: corridor.road.empty(),
            arrivals: Arrivals { origin: 0.0, ramps: vec![0.0; corridor.ramps_per_h.len()] },
            factors: [day_factor(seed, index, day), day_factor(seed, index, before)],
        };
        self.traffic = self.network.corridors.iter().enumerate().map(fresh).collect();
        let mut at_ms = day.begin_ms - WARM_UP_MS;
        (0..self.traffic.len()).for_each(|corridor| self.block(corridor, at_ms));
        while at_ms < day.begin_ms {
            self.sample(at_ms, None);
            at_ms += SAMPLE_MS;
        }
        self.traffic.iter_mut().for_each(|traffic| traffic.state.passed.fill(0.0));
        let row = self.place(self.newest);
        let passed = &self.samples[row..row + self.begun.len()];
        self.begun = passed.iter().map(|sample| sample.passed.next_multiple_of(ONE)).collect();
        self.count();
    }

    /// Simulates one sample; `rows`: where it is kept, and where the one before is.
    fn sample(&mut self, at_ms: i64, rows: Option<(usize, usize)>) {
        self.change(at_ms);
        let minute = at_ms % 60_000 == 0;
        for corridor in 0..self.traffic.len() {
            if minute {
                self.arrive(corridor, at_ms);
            }
            self.advance(corridor, rows);
        }
    }

    /// Lets incidents begin and end.
    fn change(&mut self, at_ms: i64) {
        for i in 0..self.incidents.len() {
            if self.incidents[i].begin_ms == at_ms || self.incidents[i].end_ms == at_ms {
                self.block(self.network.segments[self.incidents[i].segment].corridor, at_ms);
            }
        }
    }

    /// What the ends of a corridor's cells let through, given the incidents of this time.
    fn block(&mut self, corridor: usize, at_ms: i64) {
        let road = &self.network.corridors[corridor].road;
        let exit = &mut self.traffic[corridor].state.exit;
        for (cell, exit) in exit.iter_mut().enumerate() {
            *exit = road.capacity(cell);
        }
        for incident in self.incidents.iter().filter(|i| i.active(at_ms)) {
            let place = &self.network.segments[incident.segment];
            if place.corridor == corridor {
                let left = road.capacity(place.cell) * (1.0 - incident.capacity_lost);
                exit[place.cell] = exit[place.cell].min(left);
            }
        }
    }

    /// How many come in the steps of a minute.
    fn arrive(&mut self, corridor: usize, at_ms: i64) {
        let road = &self.network.corridors[corridor];
        let traffic = &mut self.traffic[corridor];
        let (day, factor) =
            if at_ms < self.day.begin_ms { (self.before, traffic.factors[1]) } else { (self.day, traffic.factors[0]) };
        let share = profile(road.peak, day, day.hour(at_ms)) * factor;
        let (seed, minute) = (self.seed, at_ms / 60_000);
        let in_a_step = |source, peak_per_h| {
            let per_h = peak_per_h * share;
            per_h / STEPS_PER_HOUR * minute_factor(seed, corridor * 1_000 + source, minute, per_h / 60.0)
        };
        traffic.arrivals.origin = in_a_step(0, road.origin_per_h);
        for (i, peak_per_h) in road.ramps_per_h.iter().enumerate() {
            traffic.arrivals.ramps[i] = in_a_step(i + 1, *peak_per_h);
        }
    }

    /// The steps of one sample on one corridor.
    fn advance(&mut self, corridor: usize, rows: Option<(usize, usize)>) {
        let road = &self.network.corridors[corridor];
        let traffic = &mut self.traffic[corridor];
        let Some((row, before)) = rows else {
            return (0..STEPS).for_each(|_| road.road.step(&mut traffic.state, &traffic.arrivals));
        };
        let range = road.segments.clone();
        let segments = &self.network.segments[range.clone()];
        let mut vehicles = [0.0_f64; MOST_SEGMENTS];
        let vehicles = &mut vehicles[..segments.len()];
        for _ in 0..STEPS {
            for (vehicles, segment) in vehicles.iter_mut().zip(segments) {
                *vehicles += traffic.state.vehicles[segment.cell];
            }
            road.road.step(&mut traffic.state, &traffic.arrivals);
        }
        for ((index, segment), vehicles) in range.zip(segments).zip(vehicles) {
            let cell = &road.cells[segment.cell];
            let lane_km = cell.length_km * f64::from(cell.lanes) * f64::from(STEPS);
            let passed = self.begun[index] + parts(traffic.state.passed[segment.cell]);
            let flow = vehicles_of(passed.saturating_sub(self.samples[before + index].passed));
            // Speed in space: flow over density.
            let speed_kmh = flow * cell.length_km * STEPS_PER_HOUR / vehicles.max(1e-6);
            #[expect(clippy::cast_possible_truncation, reason = "a speed and a share")]
            let sample = Sample {
                speed_kmh: speed_kmh.min(road.diagram.free_flow_kmh) as f32,
                occupancy: (*vehicles / lane_km * OCCUPIED_KM * 100.0) as f32,
                passed,
            };
            self.samples[row + index] = sample;
        }
    }
}

/// Vehicles in parts of `ONE`.
fn parts(vehicles: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a day's")]
    let parts = (vehicles * ONE as f64) as u64;
    parts
}

fn vehicles_of(parts: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a sample's")]
    let vehicles = parts as f64 / ONE as f64;
    vehicles
}

#[cfg(test)]
mod tests;

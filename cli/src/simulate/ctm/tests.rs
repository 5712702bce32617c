use super::super::chance::{Dice, Topic};
use super::*;

const DIAGRAM: Diagram = Diagram { free_flow_kmh: 108.0, wave_kmh: 18.0, jam_per_km: 130.0 };
const STEP_S: f64 = 10.0;
const STEP_H: f64 = STEP_S / 3_600.0;
const LENGTH_KM: f64 = 0.4;

fn straight(cells: usize, lanes: u32) -> Vec<Cell> {
    vec![Cell { length_km: LENGTH_KM, lanes, leaves: 0.0 }; cells]
}

fn no_ramps(flow_per_h: f64) -> Arrivals {
    Arrivals { origin: flow_per_h * STEP_H, ramps: Vec::new() }
}

impl State {
    fn total(&self) -> f64 {
        self.vehicles.iter().sum::<f64>() + self.origin_queue + self.ramp_queues.iter().sum::<f64>()
    }

    /// Left the road in the last step, by an off-ramp or at its end.
    fn left(&self) -> f64 {
        self.outflow.iter().sum::<f64>() - self.inflow[1..].iter().sum::<f64>()
    }
}

/// Vehicles that arrived = vehicles on the road + waiting + left, whatever ramps, lanes, queues and incidents do.
#[test]
fn vehicles_are_conserved() {
    for seed in 0..20 {
        let mut dice = Dice::new(seed, Topic::Network, 0, 0);
        let mut cells = straight(40, 4);
        let mut ramps = Vec::new();
        for (i, cell) in cells.iter_mut().enumerate() {
            cell.length_km = dice.between(0.31, 0.9);
            cell.lanes = 2 + u32::try_from(dice.below(4)).expect("small");
            if i > 0 && dice.uniform() < 0.3 {
                cell.leaves = dice.between(0.0, 0.3);
                ramps.push(OnRamp { cell: i, capacity_per_h: dice.between(500.0, 2_500.0) });
            }
        }
        let road = Road::new(DIAGRAM, &cells, &ramps, STEP_S);
        let mut state = road.empty();
        let (mut arrived, mut left, mut queued) = (0.0, 0.0, 0.0_f64);
        for _ in 0..3_000 {
            let ramp = |dice: &mut Dice| dice.between(0.0, 1_500.0) * STEP_H;
            let arrivals = Arrivals {
                origin: dice.between(0.0, 9_000.0) * STEP_H,
                ramps: ramps.iter().map(|_| ramp(&mut dice)).collect(),
            };
            let blocked = dice.below(40);
            state.exit[blocked] = road.capacity(blocked) * dice.uniform();
            road.step(&mut state, &arrivals);
            arrived += arrivals.origin + arrivals.ramps.iter().sum::<f64>();
            left += state.left();
            queued = queued.max(state.origin_queue);
            for (cell, vehicles) in state.vehicles.iter().enumerate() {
                assert!((-1e-9..=road.jam[cell] + 1e-9).contains(vehicles), "seed {seed}: cell {cell}: {vehicles}");
            }
        }
        assert!(queued > 1.0 && left > 1_000.0, "seed {seed}: nothing happened: {queued} {left}");
        let lost = arrived - left - state.total();
        assert!(lost.abs() < 1e-6 * arrived, "seed {seed}: {lost} of {arrived} are lost");
    }
}

#[test]
fn free_flow_moves_at_free_flow_speed() {
    let road = Road::new(DIAGRAM, &straight(20, 3), &[], STEP_S);
    let mut state = road.empty();
    (0..600).for_each(|_| road.step(&mut state, &no_ramps(4_500.0)));
    for (vehicles, out) in state.vehicles.iter().zip(&state.outflow) {
        let speed_kmh = out * LENGTH_KM / (vehicles * STEP_H);
        assert!((speed_kmh - DIAGRAM.free_flow_kmh).abs() < 0.1, "{speed_kmh}");
        assert!((out / STEP_H - 4_500.0).abs() < 1.0);
    }
}

/// Where the density falls through `level` for the last time before `below_cell`, km from the road's beginning.
fn front_km(state: &State, below_cell: usize, level: f64, falling: bool) -> Option<f64> {
    let density = |cell: usize| state.vehicles[cell] / LENGTH_KM;
    let mut pairs = (1..=below_cell).map(|cell| (cell, density(cell - 1), density(cell)));
    let crossed = |(_, a, b): &(usize, f64, f64)| {
        if falling { *a > level && *b <= level } else { *a <= level && *b > level }
    };
    let (cell, a, b) = pairs.find(crossed)?;
    let cells = f64::from(u32::try_from(cell).expect("small"));
    Some((cells - 0.5 + (level - a) / (b - a)) * LENGTH_KM)
}

/// Slope of a line through (hours, km), by least squares.
fn speed_kmh(points: &[(f64, f64)]) -> f64 {
    let n = f64::from(u32::try_from(points.len()).expect("small"));
    let (t, x) = points.iter().fold((0.0, 0.0), |(t, x), p| (t + p.0 / n, x + p.1 / n));
    let (covariance, variance) =
        points.iter().fold((0.0, 0.0), |(c, v), p| (c + (p.0 - t) * (p.1 - x), v + (p.0 - t).powi(2)));
    covariance / variance
}

/// A jam's tail moves at (q1 - q2) / (k1 - k2) (Rankine, Hugoniot), and when its cause is gone its head at -w.
#[test]
fn jams_grow_and_dissolve_at_the_speeds_of_theory() {
    let lanes = 3.0;
    for (demand, open) in [(4_500.0, 0.49), (5_100.0, 0.60), (4_200.0, 0.17)] {
        let (cells, blocked) = (90, 80);
        let road = Road::new(DIAGRAM, &straight(cells, 3), &[], STEP_S);
        let mut state = road.empty();
        (0..720).for_each(|_| road.step(&mut state, &no_ramps(demand)));

        state.exit[blocked] = road.capacity(blocked) * open;
        let through = DIAGRAM.capacity_per_h() * lanes * open;
        let (k1, k2) = (demand / DIAGRAM.free_flow_kmh, DIAGRAM.queue_per_km(through / lanes) * lanes);
        let theory = (demand - through) / (k1 - k2);
        let mut tail = Vec::new();
        let block_steps = 270;
        for step in 0..block_steps {
            road.step(&mut state, &no_ramps(demand));
            if step >= 60 {
                let at = front_km(&state, blocked, f64::midpoint(k1, k2), false).expect("a queue");
                tail.push((f64::from(step) * STEP_H, at));
            }
        }
        let measured = speed_kmh(&tail);
        assert!(
            theory < -1.0 && (measured / theory - 1.0).abs() < 0.1,
            "the tail moves at {measured}, in theory {theory}"
        );

        state.exit[blocked] = road.capacity(blocked);
        let critical = DIAGRAM.capacity_per_h() * lanes / DIAGRAM.free_flow_kmh;
        let mut head = Vec::new();
        for step in 0..400 {
            road.step(&mut state, &no_ramps(demand));
            // As long as both fronts are apart and the queue is as dense as it was.
            let densest = state.vehicles.iter().fold(0.0_f64, |d, v| d.max(v / LENGTH_KM));
            if densest < 0.98 * k2 {
                break;
            }
            if step >= 30 {
                let at = front_km(&state, blocked, f64::midpoint(k2, critical), true).expect("a head");
                head.push((f64::from(step) * STEP_H, at));
            }
        }
        assert!(head.len() >= 20, "the head was seen {} times", head.len());
        let measured = speed_kmh(&head);
        assert!((measured / -DIAGRAM.wave_kmh - 1.0).abs() < 0.1, "the head moves at {measured}");
    }
}

#[test]
fn a_merge_gives_each_its_share() {
    let ramp = OnRamp { cell: 5, capacity_per_h: 2_000.0 };
    let mut cells = straight(10, 3);
    cells[5].lanes = 3;
    let road = Road::new(DIAGRAM, &cells, &[ramp], STEP_S);
    let capacity = DIAGRAM.capacity_per_h() * 3.0 * STEP_H;
    for (origin, from_ramp, ramp_gets) in [
        // Both fit; both want more than their shares (3 : 1); the ramp wants less than its share and gets it.
        (3_000.0, 1_000.0, 1_000.0 * STEP_H),
        (6_000.0, 1_900.0, capacity / 4.0),
        (6_000.0, 500.0, 500.0 * STEP_H),
    ] {
        let mut state = road.empty();
        let arrivals = Arrivals { origin: origin * STEP_H, ramps: vec![from_ramp * STEP_H] };
        (0..2_000).for_each(|_| road.step(&mut state, &arrivals));
        assert!((state.joined[0] - ramp_gets).abs() < 0.01 * capacity, "{} of {capacity}", state.joined[0]);
        let through = state.outflow[9];
        assert!((through - capacity.min((origin + from_ramp) * STEP_H)).abs() < 0.01 * capacity, "{through}");
    }
}

#[test]
fn an_off_ramp_takes_its_share_and_a_lane_drop_queues() {
    let mut cells = straight(20, 4);
    cells[8].leaves = 0.2;
    cells[15..].iter_mut().for_each(|c| c.lanes = 3);
    let road = Road::new(DIAGRAM, &cells, &[], STEP_S);
    let mut state = road.empty();
    (0..1_000).for_each(|_| road.step(&mut state, &no_ramps(5_000.0)));
    assert!((state.outflow[8] / state.inflow[9] - 1.25).abs() < 1e-9);
    assert!((state.outflow[19] / STEP_H - 4_000.0).abs() < 1.0);
    // More than three lanes carry: a queue before the drop, at capacity behind it.
    (0..1_000).for_each(|_| road.step(&mut state, &no_ramps(7_900.0)));
    assert!((state.outflow[19] / STEP_H - 3.0 * DIAGRAM.capacity_per_h()).abs() < 1.0);
    let queue = DIAGRAM.queue_per_km(DIAGRAM.capacity_per_h() * 0.75) * 4.0 * LENGTH_KM;
    assert!((state.vehicles[13] / queue - 1.0).abs() < 0.01, "{} {queue}", state.vehicles[13]);
}

#[test]
#[should_panic(expected = "shorter than free flow")]
fn a_cell_that_is_passed_within_a_step_is_refused() {
    let cells = [Cell { length_km: 0.25, lanes: 3, leaves: 0.0 }];
    let _ = Road::new(DIAGRAM, &cells, &[], STEP_S);
}

//! The cell transmission model: traffic on one road as the kinematic wave theory of Lighthill, Whitham (1955) and
//! Richards (1956) has it, with a triangular fundamental diagram.
//!
//! Cells, flows and the merge with priorities are those of Daganzo, "The cell transmission model" I (1994) and II
//! (1995). Vehicles are a continuous quantity and are conserved: what arrives is on the road, waits before it, or left.

/// The triangular fundamental diagram of one lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Diagram {
    pub free_flow_kmh: f64,
    /// How fast a jam moves upstream.
    pub wave_kmh: f64,
    /// Vehicles on a kilometre at standstill.
    pub jam_per_km: f64,
}

impl Diagram {
    /// Vehicles an hour, where both branches meet: v w kj / (v + w).
    pub fn capacity_per_h(&self) -> f64 {
        self.free_flow_kmh * self.wave_kmh * self.jam_per_km / (self.free_flow_kmh + self.wave_kmh)
    }

    /// Vehicles on a kilometre of a queue in which so many an hour move.
    #[cfg(test)]
    pub fn queue_per_km(&self, flow_per_h: f64) -> f64 {
        self.jam_per_km - flow_per_h / self.wave_kmh
    }
}

/// A stretch of road.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    pub length_km: f64,
    pub lanes: u32,
    /// The share that takes the off-ramp at its end.
    pub leaves: f64,
}

/// Vehicles join the main line at the upstream end of a cell, which is not the first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnRamp {
    pub cell: usize,
    pub capacity_per_h: f64,
}

/// A road that does not change: what a step needs, in vehicles and steps.
#[derive(Debug, Clone)]
pub struct Road {
    /// The share of a cell's vehicles that reaches its end in a step of free flow.
    pace: Vec<f64>,
    /// The share of a cell's room that opens to its upstream end in a step.
    back: Vec<f64>,
    jam: Vec<f64>,
    capacity: Vec<f64>,
    /// The share that stays on the main line at a cell's end, and how many leave the cell for one that stays.
    stays: Vec<f64>,
    whole: Vec<f64>,
    ramps: Vec<Merge>,
}

#[derive(Debug, Clone, Copy)]
struct Merge {
    cell: usize,
    capacity: f64,
    /// The main line's share of the room when both want more than there is.
    priority: f64,
}

impl Road {
    /// # Panics
    /// If a cell is passed within a step, or a ramp leads to the first cell or to none.
    pub fn new(diagram: Diagram, cells: &[Cell], ramps: &[OnRamp], step_s: f64) -> Self {
        let step_h = step_s / 3_600.0;
        let pace: Vec<f64> = cells.iter().map(|c| diagram.free_flow_kmh * step_h / c.length_km).collect();
        assert!(pace.iter().all(|p| *p <= 1.0), "a cell is shorter than free flow goes in a step");
        let merge = |ramp: &OnRamp| {
            assert!(ramp.cell > 0 && ramp.cell < cells.len(), "a ramp joins between two cells");
            let lanes = f64::from(cells[ramp.cell].lanes);
            Merge { cell: ramp.cell, capacity: ramp.capacity_per_h * step_h, priority: lanes / (lanes + 1.0) }
        };
        Self {
            pace,
            back: cells.iter().map(|c| diagram.wave_kmh * step_h / c.length_km).collect(),
            jam: cells.iter().map(|c| diagram.jam_per_km * f64::from(c.lanes) * c.length_km).collect(),
            capacity: cells.iter().map(|c| diagram.capacity_per_h() * f64::from(c.lanes) * step_h).collect(),
            stays: cells.iter().map(|c| 1.0 - c.leaves).collect(),
            whole: cells.iter().map(|c| 1.0 / (1.0 - c.leaves)).collect(),
            ramps: ramps.iter().map(merge).collect(),
        }
    }

    /// The road without vehicles.
    pub fn empty(&self) -> State {
        let zeros = vec![0.0; self.pace.len()];
        State {
            vehicles: zeros.clone(),
            outflow: zeros.clone(),
            passed: zeros.clone(),
            origin_queue: 0.0,
            ramp_queues: vec![0.0; self.ramps.len()],
            joined: vec![0.0; self.ramps.len()],
            exit: self.capacity.clone(),
            send: zeros.clone(),
            room: zeros.clone(),
            inflow: zeros,
        }
    }

    /// Vehicles that pass a cell's end in a step at most, if nothing blocks it.
    pub fn capacity(&self, cell: usize) -> f64 {
        self.capacity[cell]
    }

    /// One step, in which `arrivals` come to the road's beginning and to each ramp.
    pub fn step(&self, state: &mut State, arrivals: &Arrivals) {
        state.origin_queue += arrivals.origin;
        self.wishes(state);
        state.inflow[0] = state.origin_queue.min(state.room[0]);
        state.origin_queue -= state.inflow[0];
        let n = self.pace.len();
        for ((flow, (send, stays)), room) in
            state.inflow[1..].iter_mut().zip(state.send[..n - 1].iter().zip(&self.stays)).zip(&state.room[1..])
        {
            *flow = lesser(send * stays, *room);
        }
        self.merge(state, &arrivals.ramps);
        // First in, first out: whoever leaves by a ramp waits with those ahead who do not (Daganzo 1995).
        for ((out, next), whole) in state.outflow[..n - 1].iter_mut().zip(&state.inflow[1..]).zip(&self.whole) {
            *out = next * whole;
        }
        state.outflow[n - 1] = state.send[n - 1];
        let cells = state.vehicles.iter_mut().zip(&mut state.passed);
        for ((vehicles, passed), (flow, out)) in cells.zip(state.inflow.iter().zip(&state.outflow)) {
            *vehicles += flow - out;
            *passed += out;
        }
        for (merge, joined) in self.ramps.iter().zip(&state.joined) {
            state.vehicles[merge.cell] += joined;
        }
    }

    /// What each cell would send on, and what it has room for.
    fn wishes(&self, state: &mut State) {
        let cells = state.vehicles.iter().zip(&state.exit);
        for ((send, (vehicles, exit)), pace) in state.send.iter_mut().zip(cells).zip(&self.pace) {
            *send = lesser(vehicles * pace, *exit);
        }
        let cells = state.vehicles.iter().zip(&self.capacity);
        let shape = self.jam.iter().zip(&self.back);
        for ((room, (vehicles, capacity)), (jam, back)) in state.room.iter_mut().zip(cells).zip(shape) {
            *room = lesser((jam - vehicles) * back, *capacity);
        }
    }

    /// Where a ramp and the main line want more than there is room for, they share it by priority, and what one does
    /// not need the other takes.
    fn merge(&self, state: &mut State, arrivals: &[f64]) {
        for (i, merge) in self.ramps.iter().enumerate() {
            state.ramp_queues[i] += arrivals[i];
            let ramp = state.ramp_queues[i].min(merge.capacity);
            let main = state.send[merge.cell - 1] * self.stays[merge.cell - 1];
            let room = state.room[merge.cell];
            let (main, ramp) = if main + ramp <= room {
                (main, ramp)
            } else {
                let main = middle(main, room - ramp, merge.priority * room);
                (main, (room - main).min(ramp))
            };
            state.inflow[merge.cell] = main;
            state.joined[i] = ramp;
            state.ramp_queues[i] -= ramp;
        }
    }
}

/// The minimum in one instruction: `f64::min` also looks for NaN, which is not here.
fn lesser(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

fn middle(a: f64, b: f64, c: f64) -> f64 {
    a.max(b).min(a.min(b).max(c))
}

/// Vehicles that want to enter in a step.
#[derive(Debug, Clone, Default)]
pub struct Arrivals {
    pub origin: f64,
    pub ramps: Vec<f64>,
}

/// What is on the road, and what the last step moved.
#[derive(Debug, Clone)]
pub struct State {
    /// In each cell.
    pub vehicles: Vec<f64>,
    /// Over each cell's end in the last step, those for an off-ramp included.
    outflow: Vec<f64>,
    /// Over each cell's end since the count began.
    pub passed: Vec<f64>,
    /// Waiting before the road.
    origin_queue: f64,
    /// Waiting on each ramp.
    ramp_queues: Vec<f64>,
    /// From each ramp in the last step.
    joined: Vec<f64>,
    /// Each cell's end lets so many through in a step: its capacity, or less where an incident blocks lanes.
    pub exit: Vec<f64>,
    send: Vec<f64>,
    room: Vec<f64>,
    /// Over each cell's beginning in the last step, without those from a ramp.
    inflow: Vec<f64>,
}

#[cfg(test)]
mod tests;

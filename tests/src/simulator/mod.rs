//! The deterministic simulator: the real runner and the real machines on the log in memory, in virtual
//! time. One seed is one history.
//!
//! A history feeds a handful of worker instances while processes die between any two steps, sessions expire,
//! zombies come back, commits fail or only seem to, and transaction markers become visible at different
//! moments in different places. At its end everything is read to the end, and the committed output must be
//!
//! - of the aggregator: what its oracle works out from what the senders know. They send events keyed right,
//!   wrongly or not at all; duplicated, disordered, late, malformed;
//! - of the predictor and of the alerter: what processes that nothing happens to make of the same input.
//!
//! | file | owns |
//! |---|---|
//! | `chance.rs` | the seed's random numbers, and the faults they decide |
//! | `world.rs` | processes, time, and the order of events; what a world is made of |
//! | `sensors.rs` | what the sensors send |
//! | `aggregates.rs` | the aggregator's world, and what must have come out of it |
//! | `script.rs` | input written down beforehand, comparison with an undisturbed run |
//! | `forecasts.rs` | the predictor's world |
//! | `alerts.rs` | the alerter's world: rules and incidents |

mod aggregates;
mod alerts;
mod chance;
mod forecasts;
mod script;
mod sensors;
mod world;

use aggregator::Aggregator;
use alerter::{Incidents, Rules};
use common::stream::Machine;
use predictor::Predictor;

/// What a history did, once it was found right.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    /// Records that were sent to the workers.
    pub events: usize,
    /// What came of them.
    pub outputs: usize,
    pub crashes: usize,
    pub rebalances: usize,
    pub late: usize,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.outputs += other.outputs;
        self.crashes += other.crashes;
        self.rebalances += other.rebalances;
        self.late += other.late;
    }
}

/// Plays one history with the aggregator.
///
/// # Errors
/// What was wrong, with the seed and the last actions.
pub fn aggregator(seed: u64) -> Result<Summary, String> {
    play(seed, &|| Aggregator::new(aggregator::Settings::default()))
}

/// Plays one history with a machine that takes the aggregator's place: so that broken ones can be shown to fail.
///
/// # Errors
/// As [`aggregator`].
pub fn play<M: Machine + 'static>(seed: u64, machine: &dyn Fn() -> M) -> Result<Summary, String> {
    let mut chance = chance::Chance::new(seed);
    let scenario = aggregates::scenario(seed, &mut chance, machine);
    let mut world = world::World::new(seed, chance, scenario);
    let played = world.play().and_then(|()| aggregates::check(&world));
    played.map_err(|what| wrong(seed, &what, &world.last_actions()))
}

/// Plays one history with the predictor.
///
/// # Errors
/// As [`aggregator`].
pub fn predictor(seed: u64) -> Result<Summary, String> {
    play_predictor(seed, &|| Predictor::new(predictor_settings()))
}

/// The settings of the predictor's histories.
#[must_use]
pub fn predictor_settings() -> predictor::Settings {
    forecasts::settings()
}

/// Plays one history with a machine that takes the predictor's place.
///
/// # Errors
/// As [`aggregator`].
pub fn play_predictor<M: Machine + 'static>(seed: u64, machine: &dyn Fn() -> M) -> Result<Summary, String> {
    let mut actions = String::new();
    forecasts::play(seed, machine, &mut actions).map_err(|what| wrong(seed, &what, &actions))
}

/// Plays one history with the alerter's two machines.
///
/// # Errors
/// As [`aggregator`].
pub fn alerter(seed: u64) -> Result<Summary, String> {
    play_alerter(seed, &|| Rules::new(alerter::Settings::default()), &Incidents::new)
}

/// Plays one history with machines that take the place of the alerter's.
///
/// # Errors
/// As [`aggregator`].
pub fn play_alerter<R: Machine + 'static, I: Machine + 'static>(
    seed: u64,
    rules: &dyn Fn() -> R,
    incidents: &dyn Fn() -> I,
) -> Result<Summary, String> {
    let mut actions = String::new();
    alerts::play(seed, rules, incidents, &mut actions).map_err(|what| wrong(seed, &what, &actions))
}

fn wrong(seed: u64, what: &str, last_actions: &str) -> String {
    format!("seed {seed}: {what}\nlast actions:\n  {last_actions}")
}

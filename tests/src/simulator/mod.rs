//! The deterministic simulator: the real runner and the real machine on the log in memory, in virtual
//! time. One seed is one history.
//!
//! A history feeds sensor events (keyed right, wrongly or not at all; duplicated, disordered, late,
//! malformed) to a handful of worker instances while processes die between any two steps, sessions expire,
//! zombies come back, commits fail or only seem to, and transaction markers become visible at different
//! moments in different places. At its end everything is read to the end and the committed output must be
//! what the oracle says.
//!
//! | file | owns |
//! |---|---|
//! | `chance.rs` | the seed's random numbers, and the faults they decide |
//! | `input.rs` | what the sensors send |
//! | `world.rs` | processes, time, and the order of events |
//! | `oracle.rs` | what must have come out |

mod chance;
mod input;
mod oracle;
mod world;

use aggregator::Aggregator;
use common::stream::Machine;

/// What a history did, once it was found right.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    pub events: usize,
    pub aggregates: usize,
    pub crashes: usize,
    pub rebalances: usize,
    pub late: usize,
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
    let mut world = world::World::new(seed, machine);
    world
        .play()
        .and_then(|()| oracle::check(&world))
        .map_err(|what| format!("seed {seed}: {what}\nlast actions:\n  {}", world.last_actions()))
}

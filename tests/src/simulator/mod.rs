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
//! After every history, whatever the machine, committed offsets and watermark markers have never moved back, all input
//! was read, and what a successor would restore is what the committed output says (`invariants.rs`).
//!
//! Every fault has an identity, so a replay can leave it out: of a seed that fails a minimal schedule is shown.
//!
//! | file | owns |
//! |---|---|
//! | `chance.rs` | the seed's random numbers |
//! | `schedule.rs` | what goes wrong, in order; what a replay leaves out |
//! | `faults.rs` | faults at the log's calls |
//! | `world.rs` | processes, their clocks, time, and the order of events; what a world is made of |
//! | `invariants.rs` | what must hold after every history |
//! | `minimise.rs` | from a seed that fails to the few faults that it takes |
//! | `planted.rs` | known bugs that must be found |
//! | `sensors.rs` | what the sensors send |
//! | `aggregates.rs` | the aggregator's world, and what must have come out of it |
//! | `script.rs` | input written down beforehand, comparison with an undisturbed run |
//! | `forecasts.rs` | the predictor's world |
//! | `alerts.rs` | the alerter's world: rules and incidents |

mod aggregates;
mod alerts;
mod chance;
mod faults;
mod forecasts;
mod invariants;
mod minimise;
pub mod planted;
mod schedule;
mod script;
mod sensors;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use aggregator::Aggregator;
use alerter::{Incidents, Rules};
use common::stream::{Log, Machine};
use predictor::{Predictor, Slot};

pub use minimise::{REPLAYS, Report, minimise};
pub use schedule::{Allowed, FaultId, Strike, Struck, Tally};

/// What is played: a seed's history, or what a replay leaves of it.
#[derive(Debug, Clone, Default)]
pub struct Play {
    pub seed: u64,
    pub allowed: Allowed,
    /// How much is sent; `None`: as much as the seed says.
    pub events: Option<usize>,
    pub stage: Stage,
}

impl Play {
    /// The whole history of a seed.
    #[must_use]
    pub fn seed(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

/// What processes run on.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// The log as processes see it.
    pub wrap: fn(Arc<dyn Log>) -> Arc<dyn Log>,
    /// Whether the log fences zombies.
    pub fences: bool,
}

impl Default for Stage {
    fn default() -> Self {
        Self { wrap: |log| log, fences: true }
    }
}

/// Plays one history.
pub type History<'a> = dyn Fn(&Play) -> Result<Summary, Failure> + Sync + 'a;

/// What a history did, once it was found right.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Records that were sent to the workers.
    pub events: usize,
    /// What came of them.
    pub outputs: usize,
    pub crashes: usize,
    pub rebalances: usize,
    pub late: usize,
    pub tally: Tally,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.outputs += other.outputs;
        self.crashes += other.crashes;
        self.rebalances += other.rebalances;
        self.late += other.late;
        self.tally += other.tally;
    }
}

/// A history that did not end as it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub what: String,
    pub struck: Vec<Struck>,
    /// Draws or records that were sent.
    pub events: usize,
    /// What happened, in order; only of replays.
    pub lines: Vec<String>,
}

/// What is known of a history when it is over, right or wrong.
#[derive(Debug, Default)]
struct Ending {
    summary: Summary,
    struck: Vec<Struck>,
    /// Draws or records that the feed had.
    fed: usize,
    lines: Vec<String>,
}

impl Ending {
    fn take<F: world::Feed>(&mut self, world: &world::World<'_, F>) {
        self.summary = Summary {
            events: world.sent,
            crashes: world.crashes,
            rebalances: world.rebalances,
            tally: world.schedule.tally(),
            ..Summary::default()
        };
        self.fed = world.feed.length();
        self.struck = world.schedule.struck();
        self.lines = world.schedule.lines();
    }
}

/// Plays a history, and catches what panics in it.
fn end(play: impl FnOnce(&mut Ending) -> Result<(), String>) -> Result<Summary, Failure> {
    let mut ending = Ending::default();
    let ended = catch_unwind(AssertUnwindSafe(|| play(&mut ending))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something");
        Err(format!("panicked: {text}"))
    });
    let Ending { summary, struck, fed, lines } = ending;
    ended.map(|()| summary).map_err(|what| Failure { what, struck, events: fed, lines })
}

/// Plays a seed's history and, if it is wrong, looks for its minimal schedule.
///
/// # Errors
/// What was wrong, and how little it takes.
pub fn hunt(history: &History<'_>, seed: u64) -> Result<Summary, Box<Report>> {
    let play = Play::seed(seed);
    history(&play).map_err(|failure| Box::new(minimise(history, &play, failure, REPLAYS)))
}

/// Plays one history with the aggregator.
///
/// # Errors
/// What was wrong, and the faults that struck.
pub fn aggregator(play: &Play) -> Result<Summary, Failure> {
    self::play(play, &|| Aggregator::new(aggregator::Settings::default()))
}

/// Plays one history with a machine that takes the aggregator's place: so that broken ones can be shown to fail.
///
/// # Errors
/// As [`aggregator`].
pub fn play<M: Machine + 'static>(play: &Play, machine: &dyn Fn() -> M) -> Result<Summary, Failure> {
    end(|ending| aggregates::play(play, machine, ending))
}

/// Plays one history with the predictor.
///
/// # Errors
/// As [`aggregator`].
pub fn predictor(play: &Play) -> Result<Summary, Failure> {
    play_predictor(play, &|| Predictor::new(predictor_settings(), Slot::default()))
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
pub fn play_predictor<M: Machine + 'static>(play: &Play, machine: &dyn Fn() -> M) -> Result<Summary, Failure> {
    end(|ending| forecasts::play(play, machine, ending))
}

/// Plays one history with the alerter's two machines.
///
/// # Errors
/// As [`aggregator`].
pub fn alerter(play: &Play) -> Result<Summary, Failure> {
    play_alerter(play, &|| Rules::new(alerter::Settings::default()), &Incidents::new)
}

/// Plays one history with machines that take the place of the alerter's.
///
/// # Errors
/// As [`aggregator`].
pub fn play_alerter<R: Machine + 'static, I: Machine + 'static>(
    play: &Play,
    rules: &dyn Fn() -> R,
    incidents: &dyn Fn() -> I,
) -> Result<Summary, Failure> {
    end(|ending| alerts::play(play, rules, incidents, ending))
}

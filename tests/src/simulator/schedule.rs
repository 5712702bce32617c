//! What goes wrong in a history, in order: each fault with an identity, so that a replay can leave it out.
//!
//! A fault is decided by a draw of a stream, and what a draw decides depends on the seed, the stream and the draw's
//! number alone. So a fault that is left out changes what happens next, but not what the other draws decide.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use common::clock::{Clock, ManualClock};
use common::stream::memory::{Fault, Point};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strike {
    /// A call on the log goes wrong.
    Call(Point, Fault),
    /// A process dies between two steps.
    Kill,
    /// A session expires though its process lives: it goes on as a zombie until it learns of it.
    Expiry,
    /// A second process takes a living one's name.
    Twin,
    /// A process's wall clock is set.
    ClockSet,
    /// Nobody does anything for a while.
    Pause,
    /// A decided transaction becomes visible later, at different moments in different places.
    LateMarkers,
    /// The group's coordinator loses sight of a commit: offsets stay unstable until the same process commits again.
    LostSight,
    /// What is written to a partition reaches its readers late.
    SlowPartition,
}

impl Strike {
    /// All that may happen.
    pub fn all() -> Vec<Self> {
        let call = |point: Point| {
            let faults = [Fault::Crash, Fault::Fail, Fault::FailAfter];
            let possible = faults.into_iter().filter(move |fault| *fault != Fault::FailAfter || point.has_effect());
            possible.map(move |fault| Self::Call(point, fault))
        };
        let others = [
            Self::Kill,
            Self::Expiry,
            Self::Twin,
            Self::ClockSet,
            Self::Pause,
            Self::LateMarkers,
            Self::LostSight,
            Self::SlowPartition,
        ];
        Point::ALL.into_iter().flat_map(call).chain(others).collect()
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(point, Fault::Crash) => write!(f, "dies at {point:?}"),
            Self::Call(point, Fault::FailAfter) => write!(f, "{point:?} does its work and fails"),
            Self::Call(point, _) => write!(f, "{point:?} fails"),
            Self::Kill => f.write_str("is killed"),
            Self::Expiry => f.write_str("session expires"),
            Self::Twin => f.write_str("gets a twin"),
            Self::ClockSet => f.write_str("clock is set"),
            Self::Pause => f.write_str("all pause"),
            Self::LateMarkers => f.write_str("markers come late"),
            Self::LostSight => f.write_str("commit lost sight of"),
            Self::SlowPartition => f.write_str("slow partition"),
        }
    }
}

/// Which decision it was: the `draw`th of a stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId {
    pub stream: String,
    pub draw: u64,
}

/// A fault that struck.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struck {
    pub id: FaultId,
    pub strike: Strike,
}

/// Which of the faults that a seed decides do strike.
#[derive(Debug, Clone, Default)]
pub enum Allowed {
    #[default]
    All,
    Only(BTreeSet<FaultId>),
}

/// How often each kind of fault struck.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(pub BTreeMap<Strike, u64>);

impl Tally {
    pub fn of(&self, strike: Strike) -> u64 {
        self.0.get(&strike).copied().unwrap_or(0)
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        other.0.into_iter().for_each(|(strike, n)| *self.0.entry(strike).or_default() += n);
    }
}

/// A history's schedule, shared by its world and its log.
#[derive(Clone)]
pub struct Schedule {
    inner: Arc<Mutex<Inner>>,
    clock: Arc<ManualClock>,
    start_ms: i64,
    /// Whether actions are written down beside faults.
    tells: bool,
}

struct Inner {
    allowed: Allowed,
    struck: Vec<Struck>,
    tally: Tally,
    lines: Vec<String>,
}

impl Schedule {
    /// Actions are written down where not all faults are allowed: in replays.
    pub fn new(allowed: Allowed, clock: Arc<ManualClock>) -> Self {
        let tells = matches!(allowed, Allowed::Only(_));
        let inner = Inner { allowed, struck: Vec::new(), tally: Tally::default(), lines: Vec::new() };
        let start_ms = clock.now_ms();
        Self { inner: Arc::new(Mutex::new(inner)), clock, start_ms, tells }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic happens while the schedule is locked")
    }

    /// Whether the fault that this draw has decided does strike; if so it is written down.
    pub fn strikes(&self, stream: String, draw: u64, strike: Strike, shown: impl FnOnce() -> String) -> bool {
        let id = FaultId { stream, draw };
        let mut inner = self.lock();
        if let Allowed::Only(allowed) = &inner.allowed
            && !allowed.contains(&id)
        {
            return false;
        }
        *inner.tally.0.entry(strike).or_default() += 1;
        let line = self.tells.then(|| self.line('!', &shown()));
        inner.lines.extend(line);
        inner.struck.push(Struck { id, strike });
        true
    }

    /// Writes down what somebody did.
    pub fn tell(&self, action: impl FnOnce() -> String) {
        if self.tells {
            let line = self.line(' ', &action());
            self.lock().lines.push(line);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a history's length")]
    fn line(&self, mark: char, what: &str) -> String {
        format!("{mark} {:9.3} s  {what}", (self.clock.now_ms() - self.start_ms) as f64 / 1_000.0)
    }

    pub fn struck(&self) -> Vec<Struck> {
        self.lock().struck.clone()
    }

    pub fn tally(&self) -> Tally {
        self.lock().tally.clone()
    }

    /// What happened, in order; faults are marked with `!`.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }
}

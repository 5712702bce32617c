//! Wall-clock time as an argument: the one place that reads the system's clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of wall-clock time, in epoch milliseconds.
pub trait Clock: Send + Sync {
    fn now_ms(&self) -> i64;
}

/// Whether `every_ms` have passed since `then_ms`. A clock that was set back no longer knows what has passed: rather
/// once too early than an hour too late.
#[must_use]
pub fn has_passed(every_ms: i64, then_ms: i64, now_ms: i64) -> bool {
    now_ms < then_ms || now_ms.saturating_sub(then_ms) >= every_ms
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    fn now_ms(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        since_epoch.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands until it is moved: tests and the simulator.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    #[must_use]
    pub fn at(now_ms: i64) -> Self {
        Self(AtomicI64::new(now_ms))
    }

    pub fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }

    pub fn advance(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_stalls_nothing() {
        for (then_ms, now_ms, expected) in
            [(1_000, 1_099, false), (1_000, 1_100, true), (1_000, 999, true), (i64::MIN, 0, true), (0, 0, false)]
        {
            assert_eq!(has_passed(100, then_ms, now_ms), expected, "{then_ms} to {now_ms}");
        }
    }
}

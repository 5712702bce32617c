//! A moment until which something may block.

use std::time::{Duration, Instant};

/// The monotonic clock: for waiting only, never for what records mean.
#[expect(clippy::disallowed_methods, reason = "how long a call may block is real time, not the pipeline's")]
pub(super) fn monotonic() -> Instant {
    Instant::now()
}

/// A moment until which something may block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub fn after(wait: Duration) -> Self {
        Self(monotonic() + wait)
    }

    /// Zero once the deadline has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(monotonic())
    }

    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }
}

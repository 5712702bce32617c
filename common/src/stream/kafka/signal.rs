//! Wakes the thread that polls when any of its queues gets something.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A flag that can be waited for. Lower it *before* looking at the queues: what comes later raises it again.
#[derive(Debug, Default)]
pub(super) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub fn raise(&self) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    pub fn lower(&self) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Waits until it is raised, at most `limit`.
    pub fn wait(&self, limit: Duration) {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(raised, limit, |raised| !*raised));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_raised_signal_does_not_wait() {
        let signal = Arc::new(Signal::default());
        let other = Arc::clone(&signal);
        let raising = std::thread::spawn(move || other.raise());
        // Returns when raised, long before the limit; the test would hang for an hour otherwise.
        signal.wait(Duration::from_secs(3600));
        raising.join().expect("raising does not panic");
        signal.wait(Duration::from_secs(3600));
        signal.lower();
        signal.wait(Duration::from_millis(1));
    }
}

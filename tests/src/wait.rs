//! Waiting for what happens elsewhere, and names that nobody else uses.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::clock::{Clock as _, SystemClock};

const PAUSE: Duration = Duration::from_millis(20);

/// Polls `look` until it finds something, and returns that.
///
/// # Panics
/// If it has found nothing by `deadline`, naming `what`.
pub fn wait_until<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    #[expect(clippy::disallowed_methods, reason = "a deadline in real time")]
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < deadline, "{what}: not within {deadline:?}");
        std::thread::sleep(PAUSE);
    }
}

/// A name for a topic, group or directory of one test, different in each run: services live longer than tests.
#[must_use]
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (next, pid) = (NEXT.fetch_add(1, Ordering::Relaxed), std::process::id());
    format!("{name}-{:x}-{pid}-{next}", SystemClock.now_ms())
}

/// Tells a thread to stop, also when the test panics: a scope would wait for it for ever.
#[derive(Debug)]
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_returns_what_was_found() {
        let mut looked = 0;
        let found = wait_until(Duration::from_secs(5), "the third look", || {
            looked += 1;
            (looked == 3).then_some("here")
        });
        assert_eq!((found, looked), ("here", 3));
    }

    #[test]
    #[should_panic(expected = "a train: not within 30ms")]
    fn waiting_ends_at_the_deadline() {
        wait_until(Duration::from_millis(30), "a train", || None::<()>);
    }

    #[test]
    fn unique_names_differ() {
        let (a, b) = (unique("t"), unique("t"));
        assert_ne!(a, b);
        assert!(a.starts_with("t-"), "{a}");
    }
}

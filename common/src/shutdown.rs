//! Stopping in two stages: the first SIGTERM or SIGINT asks for a drain, the second exits at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The request to stop, shared by everything that must hear it.
///
/// [`requested`](Self::requested) is one atomic load, for threads that look between two steps;
/// [`wait`](Self::wait) is for tasks.
#[derive(Debug, Clone)]
pub struct Shutdown {
    requested: Arc<AtomicBool>,
    waiters: watch::Sender<bool>,
}

/// A signal that asks a process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    Interrupt,
    Terminate,
}

/// What a signal leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Stop taking in, finish, commit, exit 0.
    Drain,
    /// Exit now, with this status.
    Exit(i32),
}

impl StopSignal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// 128 and the signal's number, as shells report it.
    fn status(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { requested: Arc::default(), waiters: watch::Sender::new(false) }
    }
}

impl Shutdown {
    /// Asks everybody to stop.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.waiters.send_replace(true);
    }

    /// Whether somebody has asked to stop.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Waits until somebody asks to stop.
    pub async fn wait(&self) {
        // An error would mean that the sender is gone, and we hold it.
        let _ = self.waiters.subscribe().wait_for(|requested| *requested).await;
    }

    /// A signal has come: the first one, if nobody has asked before, drains; every other one exits.
    #[must_use]
    pub fn on_signal(&self, signal: StopSignal) -> Stage {
        if self.requested() {
            return Stage::Exit(signal.status());
        }
        self.request();
        Stage::Drain
    }

    /// Takes over SIGTERM and SIGINT from this call on; the future acts on them and never ends.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn watch_signals(&self) -> std::io::Result<impl Future<Output = Infallible> + Send + use<>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        Ok(async move {
            loop {
                let signal = tokio::select! {
                    _ = terminate.recv() => StopSignal::Terminate,
                    _ = interrupt.recv() => StopSignal::Interrupt,
                };
                match shutdown.on_signal(signal) {
                    Stage::Drain => {
                        tracing::info!("{}: finishing; a second signal exits at once", signal.name());
                    }
                    Stage::Exit(status) => {
                        tracing::warn!("{}: exiting before everything is finished", signal.name());
                        std::process::exit(status);
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_exits_with_its_own_status() {
        let shutdown = Shutdown::default();
        assert!(!shutdown.requested());
        assert_eq!(shutdown.on_signal(StopSignal::Terminate), Stage::Drain);
        assert!(shutdown.requested());
        assert_eq!(shutdown.on_signal(StopSignal::Interrupt), Stage::Exit(130));
        assert_eq!(shutdown.on_signal(StopSignal::Terminate), Stage::Exit(143));
    }

    #[test]
    fn a_signal_during_a_drain_that_was_asked_for_exits() {
        let shutdown = Shutdown::default();
        shutdown.request();
        assert_eq!(shutdown.on_signal(StopSignal::Interrupt), Stage::Exit(130));
    }

    #[tokio::test]
    async fn waiters_hear_of_it_before_and_after() {
        let shutdown = Shutdown::default();
        let early = shutdown.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { early.wait().await });
        tokio::task::yield_now().await;
        shutdown.request();
        tasks.join_next().await.expect("one task").expect("it does not panic");
        shutdown.wait().await;
    }
}

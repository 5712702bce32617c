//! The threads of a process: its machines and its sinks, of one worker or of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Failure, Process};

/// Whether what writes a stage's input has come to its end: the stage then reads on to the end and stops.
#[derive(Debug, Clone, Default)]
pub struct Ended(Arc<AtomicBool>);

impl Ended {
    /// Already so if `at_end`; else never, unless somebody says so.
    #[must_use]
    pub fn when(at_end: bool) -> Self {
        Self(Arc::new(AtomicBool::new(at_end)))
    }

    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

type Part<'p> = Box<dyn FnOnce() -> Result<(), Failure> + Send + 'p>;

/// Parts of a process that run side by side, each on a thread of its own; one that fails stops the others.
pub struct Crew<'p> {
    process: &'p Process,
    parts: Vec<(String, Part<'p>)>,
}

impl<'p> Crew<'p> {
    #[must_use]
    pub fn new(process: &'p Process) -> Self {
        Self { process, parts: Vec::new() }
    }

    #[must_use]
    pub fn process(&self) -> &'p Process {
        self.process
    }

    /// Adds a part; `name` is its thread's and begins what is said of its failure.
    pub fn add(&mut self, name: impl Into<String>, part: impl FnOnce() -> Result<(), Failure> + Send + 'p) {
        self.parts.push((name.into(), Box::new(part)));
    }

    /// Runs all parts to their ends.
    ///
    /// # Errors
    /// What the first of them that failed says.
    pub fn run(self) -> Result<(), Failure> {
        let shutdown = &self.process.shutdown;
        std::thread::scope(|scope| {
            let mut hands = Vec::new();
            for (name, part) in self.parts {
                let work = move || {
                    let done = part();
                    if done.is_err() {
                        shutdown.request();
                    }
                    done
                };
                let hand = std::thread::Builder::new().name(name.clone()).spawn_scoped(scope, work);
                match hand {
                    Ok(hand) => hands.push((name, hand)),
                    Err(error) => {
                        shutdown.request();
                        return Err(Failure(format!("{name}: no thread: {error}")));
                    }
                }
            }
            let done: Vec<_> = hands.into_iter().map(|(name, hand)| (name, hand.join())).collect();
            for (name, done) in done {
                let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done.map_err(|Failure(why)| Failure(format!("{name}: {why}")))?;
            }
            Ok(())
        })
    }
}

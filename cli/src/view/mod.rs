//! The live view: what the flow does just now, redrawn in place on a terminal.
//!
//! It only reads: what is committed, without a group, so that it can neither hold the workers up nor change what they
//! do; and what it can not read it says and tries again. The cursor stays at the top of the frame, on an empty line,
//! and is never hidden: a log line takes the place of that empty line, the next frame is drawn below it, and however
//! the process ends there is nothing to restore.

mod draw;
mod state;

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::config::{Config, TelemetrySettings};
use common::stream::{Log, LogError, Reader, TopicPartition};
use common::worker::{Crew, Ended, Process};
use console::Term;

use crate::flow;
use draw::{Around, Screen};
use state::State;

/// Of a topic's past at most so many records are read.
const PAST: i64 = 200_000;
/// Between two frames.
const FRAME: Duration = Duration::from_millis(500);
/// How soon the end is noticed.
const STEP: Duration = Duration::from_millis(50);
/// Reads of one partition between two frames.
const READS: usize = 64;

/// Whether there is to be a view.
#[must_use]
pub fn wanted(off: bool) -> bool {
    !off && std::io::stderr().is_terminal()
}

/// Only what matters is logged beside a view, unless another level is set.
pub fn quieten(config: &mut Config) {
    if config.telemetry.level == TelemetrySettings::default().level {
        config.telemetry.level = "warn".to_owned();
    }
}

/// A view to be added to a crew.
pub struct View {
    pub title: &'static str,
    /// Events sent, where this process sends them; else the records of their topic are counted.
    pub sent: Option<Arc<AtomicU64>>,
    pub files: String,
    /// It ends with them.
    pub alerts_ended: Ended,
}

impl View {
    /// Adds the view to the parts of a process.
    pub fn enlist(self, crew: &mut Crew<'_>, log: &Arc<dyn Log>) {
        let (process, log) = (crew.process(), log.clone());
        crew.add("view", move || {
            self.run(process, log.as_ref());
            Ok(())
        });
    }

    fn run(&self, process: &Process, log: &dyn Log) {
        let topics = process.config.topics.names();
        let fold: [(&str, Fold); 3] = [
            (&topics.predictions, State::prediction),
            (&topics.aggregates, State::aggregate),
            (&topics.alerts, State::alert),
        ];
        let mut tails = fold.map(|(topic, fold)| Tail { topic, fold, readers: Vec::new() });
        let (mut state, mut lag, mut height) = (State::default(), Vec::new(), 0);
        let began_ms = process.clock.now_ms();
        loop {
            let over = self.alerts_ended.get() || process.shutdown.requested();
            let mut trouble = None;
            for tail in &mut tails {
                let reads = if self.alerts_ended.get() { usize::MAX } else { READS };
                trouble = tail.follow(log, &mut state, reads).err().or(trouble);
            }
            match self.events(log, &topics.events) {
                Ok(events) => state.events(process.clock.now_ms(), events),
                Err(error) => trouble = Some(error.to_string()),
            }
            match self::lag(log, &process.config) {
                Ok(now) => lag = now,
                // An open transaction is about to change an offset: the next frame will know.
                Err(LogError::Unstable(_) | LogError::Retry(_)) => {}
                Err(error) => trouble = Some(error.to_string()),
            }
            let around = Around {
                title: self.title,
                events: if self.sent.is_some() { "events sent" } else { "records" },
                elapsed_ms: process.clock.now_ms() - began_ms,
                lag: &lag,
                files: &self.files,
                trouble: trouble.as_deref(),
            };
            height = show(&state, &around, height);
            if over {
                // Whatever comes next goes below the frame.
                write_out(&"\n".repeat(height));
                return;
            }
            self.pause(process);
        }
    }

    fn pause(&self, process: &Process) {
        for _ in 0..FRAME.as_millis() / STEP.as_millis() {
            if self.alerts_ended.get() || process.shutdown.requested() {
                return;
            }
            std::thread::sleep(STEP);
        }
    }

    fn events(&self, log: &dyn Log, topic: &str) -> Result<u64, LogError> {
        if let Some(sent) = &self.sent {
            return Ok(sent.load(Ordering::Relaxed));
        }
        let mut records = 0;
        for partition in 0..log.partitions(topic)?.unwrap_or(0) {
            records += u64::try_from(log.ends(&TopicPartition::new(topic, partition))?.stable).unwrap_or(0);
        }
        Ok(records)
    }
}

type Fold = fn(&mut State, &[u8]) -> Result<(), serde_json::Error>;

/// A topic that is followed.
struct Tail<'a> {
    topic: &'a str,
    fold: Fold,
    /// Of its partitions, once it could be asked for them.
    readers: Vec<Box<dyn Reader>>,
}

impl Tail<'_> {
    /// Reads on, a bounded way; says what went wrong.
    fn follow(&mut self, log: &dyn Log, state: &mut State, reads: usize) -> Result<(), String> {
        let Self { topic, fold, readers } = self;
        if readers.is_empty() {
            *readers = open(log, topic).map_err(|error| error.to_string())?;
        }
        let mut refused = None;
        for reader in readers {
            for _ in 0..reads {
                let more = reader.next(&mut |record| {
                    let folded = record.value.map_or(Ok(()), |value| fold(state, value));
                    refused = folded.err().or(refused.take());
                });
                if !more.map_err(|error| error.to_string())? {
                    break;
                }
            }
        }
        refused.map_or(Ok(()), |why| Err(format!("{topic} holds something else: {why}")))
    }
}

/// Readers of all partitions, of their newest records.
fn open(log: &dyn Log, topic: &str) -> Result<Vec<Box<dyn Reader>>, LogError> {
    let partitions = log.partitions(topic)?.unwrap_or(0);
    let open = |partition| {
        let at = TopicPartition::new(topic, partition);
        let ends = log.ends(&at)?;
        log.read(&at, Some(ends.first.max(ends.stable - PAST / i64::from(partitions))))
    };
    (0..partitions).map(open).collect()
}

/// Offsets that each worker has still before it.
fn lag(log: &dyn Log, config: &Config) -> Result<Vec<(String, u64)>, LogError> {
    let workers = [aggregator::APPLICATION, predictor::APPLICATION, alerter::APPLICATION];
    let mut lags = Vec::new();
    for reading in flow::readings(config).into_iter().filter(|r| workers.contains(&r.group.as_str())) {
        let mut at = Vec::new();
        for topic in &reading.topics {
            at.extend((0..log.partitions(topic)?.unwrap_or(0)).map(|p| TopicPartition::new(topic, p)));
        }
        let mut behind = 0;
        for (at, committed) in at.iter().zip(log.committed(&reading.group, &at)?) {
            let ends = log.ends(at)?;
            behind += u64::try_from(ends.stable - committed.unwrap_or(ends.first).max(ends.first)).unwrap_or(0);
        }
        lags.push((reading.group, behind));
    }
    Ok(lags)
}

/// Draws over the last frame, which was `height` lines high; returns the new height. It is never higher than the
/// terminal, as moving up can not reach what has scrolled away.
fn show(state: &State, around: &Around<'_>, height: usize) -> usize {
    let (rows, columns) = Term::stderr().size();
    let (width, room) = (usize::from(columns), usize::from(rows).saturating_sub(1));
    let screen = Screen { width, height: room, colours: console::colors_enabled_stderr() };
    let mut lines = draw::lines(state, around, screen);
    // At least as high as before, so that nothing jumps.
    lines.resize(lines.len().max(height.min(room)), String::new());
    write_out(&frame(&lines));
    lines.len()
}

/// The lines from the cursor down, and the cursor back at their top. Long lines do not wrap: that would be a line more.
fn frame(lines: &[String]) -> String {
    let mut text = String::from("\r\x1b[?7l");
    for line in lines {
        text.push_str(line);
        text.push_str("\x1b[K\n");
    }
    text.push_str(&format!("\x1b[J\x1b[?7h\x1b[{}A", lines.len().max(1)));
    text
}

fn write_out(text: &str) {
    let mut terminal = std::io::stderr().lock();
    // A terminal that is gone has nobody to be told.
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

//! A stretch of simulated events with an end, and what came of it.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::faults::{FaultKind, Faults};
use super::generator::{DISORDER_MS, Emission, Generator, GeneratorConfig, Kind};
use super::{incidents, reference};
use crate::feed::{Item, Source};

/// When a stretch is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After so many events.
    Events(u64),
    /// Before this event time, epoch ms.
    At(i64),
}

pub struct Simulation {
    generator: Generator,
    pub emission: Emission,
    end: End,
    /// About when it ends, epoch ms.
    pub until_ms: i64,
    sent: u64,
    duplicates: u64,
    late: u64,
    malformed: u64,
}

impl Simulation {
    pub fn new(config: GeneratorConfig, end: End, until_ms: i64) -> Self {
        Self {
            generator: Generator::new(config),
            emission: Emission::default(),
            end,
            until_ms,
            sent: 0,
            duplicates: 0,
            late: 0,
            malformed: 0,
        }
    }

    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// Makes the next event in `emission`; `false`: that was all.
    pub fn advance(&mut self) -> bool {
        let over = match self.end {
            End::Events(events) => self.sent >= events,
            End::At(end_ms) => self.generator.now_ms() >= end_ms,
        };
        if over {
            return false;
        }
        self.sent += 1;
        match self.generator.next(&mut self.emission) {
            Kind::Normal => {}
            Kind::Duplicate => self.duplicates += 1,
            Kind::Late => self.late += 1,
            Kind::Malformed => self.malformed += 1,
        }
        true
    }

    pub fn summary(&self) -> Summary {
        let config = self.generator.config();
        let until_ms = self.generator.now_ms().min(self.until_ms);
        let network = self.generator.network();
        let faults = faults(config, until_ms);
        let count = |kind| faults.iter().filter(|(_, f)| f.kind == kind).count();
        Summary {
            events: self.sent,
            duplicates: self.duplicates,
            late: self.late,
            malformed: self.malformed,
            from: reference::time(config.start_ms),
            until: reference::time(until_ms),
            segments: network.segments.len(),
            corridors: network.corridors.len(),
            incidents: incidents(config, until_ms).len(),
            dropouts: count(FaultKind::Silent),
            stuck: count(FaultKind::Stuck),
        }
    }
}

/// The sensors' faults in that stretch, by sensor and begin.
pub fn faults(config: &GeneratorConfig, until_ms: i64) -> Vec<(usize, super::faults::Fault)> {
    let mut faults = Faults::new(config.seed, config.dropouts, config.segments as usize, config.start_ms);
    faults.cover(until_ms);
    let seen = |(_, f): &(usize, super::faults::Fault)| f.end_ms > config.start_ms && f.begin_ms < until_ms;
    let mut seen: Vec<_> = faults.all().filter(seen).collect();
    seen.sort_by_key(|(sensor, fault)| (*sensor, fault.begin_ms));
    seen
}

/// How much longer it takes to send as many events because of silent sensors, ms.
pub fn silence_ms(config: &GeneratorConfig, until_ms: i64) -> i64 {
    let silent = faults(config, until_ms).into_iter().filter(|(_, f)| f.kind == FaultKind::Silent);
    let lost_ms: i64 = silent.map(|(_, f)| f.end_ms.min(until_ms) - f.begin_ms.max(config.start_ms)).sum();
    lost_ms / i64::from(config.segments.max(1))
}

impl Source for Simulation {
    fn next(&mut self) -> Result<Option<Item<'_>>> {
        if !self.advance() {
            return Ok(None);
        }
        Ok(Some(Item {
            key: Some(&self.emission.key),
            value: &self.emission.value,
            at_ms: Some(self.emission.timestamp_ms),
        }))
    }

    fn complete_ms(&self) -> Option<i64> {
        Some(self.generator.now_ms() - DISORDER_MS)
    }

    fn done(&self) -> (u64, u64) {
        match self.end {
            End::Events(events) => (self.sent, events),
            End::At(end_ms) => {
                let start_ms = self.generator.config().start_ms;
                let passed_ms = (self.generator.now_ms() - start_ms).unsigned_abs();
                (passed_ms, (end_ms - start_ms).unsigned_abs())
            }
        }
    }
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All that were sent; the next three are among them.
    pub events: u64,
    pub duplicates: u64,
    pub late: u64,
    pub malformed: u64,
    /// Event time, RFC 3339.
    pub from: String,
    pub until: String,
    pub segments: usize,
    pub corridors: usize,
    pub incidents: usize,
    /// Sensors that fell silent, each time.
    pub dropouts: usize,
    pub stuck: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events of {} segments on {} corridors, {} to {}: {} duplicates, {} late, {} malformed; {} incidents; {} sensors fell silent, {} got stuck",
            self.events,
            self.segments,
            self.corridors,
            self.from,
            self.until,
            self.duplicates,
            self.late,
            self.malformed,
            self.incidents,
            self.dropouts,
            self.stuck
        )
    }
}

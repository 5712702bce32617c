//! From a seed that fails to the few faults that it takes (Zeller, Hildebrandt: "Simplifying and isolating
//! failure-inducing input", 2002).

use std::collections::BTreeSet;
use std::fmt;

use super::schedule::{Allowed, Strike, Struck};
use super::{Failure, History, Play};

/// How many replays are spent on one seed.
pub const REPLAYS: usize = 600;

/// A history that went wrong, and how little it takes.
#[derive(Debug, Clone)]
pub struct Report {
    pub seed: u64,
    /// What was wrong at first, and at last.
    pub what: String,
    pub minimal_what: String,
    /// The faults that are left, in order.
    pub faults: Vec<Struck>,
    /// How many faults there were at first.
    pub faults_at_first: usize,
    /// Records (of scripts) or draws (of senders) that are left of the feed.
    pub events: usize,
    pub events_at_first: usize,
    /// Everything that happened in the minimal history.
    pub lines: Vec<String>,
    pub replays: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        let Self { faults, faults_at_first, events, events_at_first, replays, .. } = self;
        let count = faults.len();
        writeln!(
            f,
            "minimal schedule: {count} of {faults_at_first} faults, {events} of {events_at_first} sent ({replays} replays)"
        )?;
        if self.minimal_what != self.what {
            writeln!(f, "there: {}", self.minimal_what)?;
        }
        let shown: Vec<bool> = (0..self.lines.len()).map(|i| self.is_telling(i)).collect();
        for (i, line) in self.lines.iter().enumerate() {
            match (shown[i], i > 0 && shown[i - 1]) {
                (true, _) => writeln!(f, "  {line}")?,
                (false, true) => writeln!(f, "          …")?,
                (false, false) => {}
            }
        }
        Ok(())
    }
}

impl Report {
    /// Whether a line is a fault, or close to one or to the history's beginning or end.
    fn is_telling(&self, i: usize) -> bool {
        const AROUND: usize = 8;
        let close = i.saturating_sub(AROUND)..(i + AROUND + 1).min(self.lines.len());
        close.start == 0 || close.end == self.lines.len() || self.lines[close].iter().any(|line| line.starts_with('!'))
    }
}

/// Makes the schedule of a failed history as short as `replays` allow.
pub fn minimise(history: &History<'_>, play: &Play, failure: Failure, replays: usize) -> Report {
    let mut search = Search {
        history,
        play: Play { allowed: Allowed::All, ..play.clone() },
        faults: failure.struck.clone(),
        events: failure.events,
        smallest: failure.clone(),
        left: replays,
    };
    // A replay of all that struck is the same history, told in full.
    if search.fails(search.faults.clone(), search.events) {
        search.whole_kinds();
        search.halves();
        search.shorter_feed();
        search.halves();
    }
    Report {
        seed: play.seed,
        what: failure.what,
        minimal_what: search.smallest.what,
        faults: search.faults,
        faults_at_first: failure.struck.len(),
        events: search.events,
        events_at_first: failure.events,
        lines: search.smallest.lines,
        replays: replays - search.left,
    }
}

struct Search<'a> {
    history: &'a History<'a>,
    play: Play,
    /// The fewest faults and the shortest feed that fail so far.
    faults: Vec<Struck>,
    events: usize,
    smallest: Failure,
    left: usize,
}

impl Search<'_> {
    /// Whether the history fails with these faults alone; if so they are the new smallest.
    fn fails(&mut self, faults: Vec<Struck>, events: usize) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let ids: BTreeSet<_> = faults.into_iter().map(|fault| fault.id).collect();
        let play = Play { allowed: Allowed::Only(ids), events: Some(events), ..self.play.clone() };
        match (self.history)(&play) {
            Ok(_) => false,
            Err(failure) => {
                // Some of those that were allowed may have found nothing to strike any more.
                self.faults.clone_from(&failure.struck);
                self.events = events;
                self.smallest = failure;
                true
            }
        }
    }

    /// Leaves out all faults of a kind, and first of all every one.
    fn whole_kinds(&mut self) {
        if self.fails(Vec::new(), self.events) {
            return;
        }
        let kinds: BTreeSet<Strike> = self.faults.iter().map(|fault| fault.strike).collect();
        for kind in kinds.into_iter().rev() {
            let others: Vec<Struck> = self.faults.iter().filter(|fault| fault.strike != kind).cloned().collect();
            if others.len() < self.faults.len() {
                self.fails(others, self.events);
            }
        }
    }

    /// Leaves out one part after the other, then smaller parts, down to single faults.
    fn halves(&mut self) {
        let mut parts = 2;
        while !self.faults.is_empty() && self.left > 0 {
            let size = self.faults.len().div_ceil(parts);
            let before = self.faults.len();
            let mut at = 0;
            while at < self.faults.len() {
                let end = (at + size).min(self.faults.len());
                let rest = [&self.faults[..at], &self.faults[end..]].concat();
                if !self.fails(rest, self.events) {
                    at = end;
                }
            }
            match (self.faults.len() < before, size) {
                (false, 1) => return,
                (true, _) => parts = parts.min(self.faults.len()).max(2),
                (false, _) => parts = (parts * 2).min(self.faults.len()),
            }
        }
    }

    /// Sends less: half, three quarters, …
    fn shorter_feed(&mut self) {
        let mut by = self.events / 2;
        while by > 0 && self.left > 0 {
            if by >= self.events || !self.fails(self.faults.clone(), self.events - by) {
                by /= 2;
            }
        }
    }
}

//! What goes wrong at the log's calls.

use common::stream::TopicPartition;
use common::stream::memory::{Fault, Faults, Point};

use super::chance::{Chance, stream};
use super::schedule::{Schedule, Strike};

/// Faults at a rate that the seed picks.
pub struct SeededFaults {
    seed: u64,
    /// One call in so many goes wrong.
    rarity: u64,
    /// One transaction in so many becomes visible at once.
    prompt: u64,
    /// The coordinator loses sight of one commit in so many.
    sightless: u64,
    /// A partition number that is slow in this history.
    slow: Option<u32>,
    streams: Vec<Streams>,
    schedule: Schedule,
}

/// What a process has drawn so far.
struct Streams {
    process: String,
    hash: u64,
    calls: [u64; Point::ALL.len()],
    markers: u64,
    commits: u64,
    choices: u64,
}

impl SeededFaults {
    pub fn new(seed: u64, partitions: u32, schedule: Schedule) -> Self {
        let mut chance = Chance::new(seed ^ 0xfa17);
        let rarity = [25, 60, 200, 1000][chance.index(4)];
        let prompt = [2, 8, 100][chance.index(3)];
        let is_slow = chance.one_in(5);
        let number = u32::try_from(chance.below(u64::from(partitions))).expect("below a u32");
        let shown = || format!("partition {number} is slow");
        let is_slow = is_slow && schedule.strikes("slow partition".to_owned(), 0, Strike::SlowPartition, shown);
        let sightless = [20, 100, 1000][chance.index(3)];
        Self { seed, rarity, prompt, sightless, slow: is_slow.then_some(number), streams: Vec::new(), schedule }
    }

    fn streams(&mut self, process: &str) -> &mut Streams {
        let known = self.streams.iter().position(|streams| streams.process == process);
        let i = known.unwrap_or_else(|| {
            self.streams.push(Streams {
                process: process.to_owned(),
                hash: stream(process),
                calls: [0; Point::ALL.len()],
                markers: 0,
                commits: 0,
                choices: 0,
            });
            self.streams.len() - 1
        });
        &mut self.streams[i]
    }
}

impl Faults for SeededFaults {
    fn at(&mut self, process: &str, point: Point) -> Fault {
        // These happen far more often than anything else.
        let often = if matches!(point, Point::Poll | Point::Send) { 4 } else { 1 };
        let (seed, rarity) = (self.seed, self.rarity * often);
        let streams = self.streams(process);
        let draw = &mut streams.calls[point as usize];
        *draw += 1;
        let draw = *draw;
        let mut chance = Chance::of(seed, streams.hash ^ (point as u64 + 1), draw);
        if !chance.one_in(rarity) {
            return Fault::None;
        }
        let fault = match chance.below(4) {
            0 | 1 => Fault::Crash,
            // Reading has no effect that could outlive its failure.
            3 if point.has_effect() => Fault::FailAfter,
            _ => Fault::Fail,
        };
        let strike = Strike::Call(point, fault);
        let shown = || format!("{process}: {strike} (number {draw} of its kind)");
        if self.schedule.strikes(format!("{process} {point:?}"), draw, strike, shown) { fault } else { Fault::None }
    }

    fn delays_markers(&mut self, process: &str) -> bool {
        let (seed, prompt) = (self.seed, self.prompt);
        let streams = self.streams(process);
        streams.markers += 1;
        let draw = streams.markers;
        if Chance::of(seed, streams.hash ^ 0x3a4c, draw).one_in(prompt) {
            return false;
        }
        let shown = || format!("{process}: the markers of transaction {draw} come late");
        self.schedule.strikes(format!("{process} markers"), draw, Strike::LateMarkers, shown)
    }

    fn loses_sight(&mut self, process: &str) -> bool {
        let (seed, sightless) = (self.seed, self.sightless);
        let streams = self.streams(process);
        streams.commits += 1;
        let draw = streams.commits;
        if !Chance::of(seed, streams.hash ^ 0x1057, draw).one_in(sightless) {
            return false;
        }
        let shown = || format!("{process}: the group's coordinator loses sight of its commit {draw}");
        self.schedule.strikes(format!("{process} commits"), draw, Strike::LostSight, shown)
    }

    fn delays_fetch(&mut self, process: &str, at: &TopicPartition) -> bool {
        self.slow == Some(at.partition) && self.below(process, 12) > 0
    }

    fn below(&mut self, process: &str, n: usize) -> usize {
        let seed = self.seed;
        let streams = self.streams(process);
        streams.choices += 1;
        Chance::of(seed, streams.hash ^ 0xc401, streams.choices).index(n)
    }
}

//! The seed's random numbers, and the faults they decide.

use common::stream::memory::{Fault, Faults, Point};

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, `n > 0`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).expect("below a usize")
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Faults at the log's calls, at a rate that the seed picks.
pub struct SeededFaults {
    chance: Chance,
    /// One call in so many goes wrong.
    rarity: u64,
}

impl SeededFaults {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0xfa17);
        let rarity = [25, 60, 200, 1000][chance.index(4)];
        Self { chance, rarity }
    }
}

impl Faults for SeededFaults {
    fn at(&mut self, _instance: &str, point: Point) -> Fault {
        // A poll happens far more often than anything else.
        let rarity = if point == Point::Poll { self.rarity * 4 } else { self.rarity };
        if !self.chance.one_in(rarity) {
            return Fault::None;
        }
        match (self.chance.below(4), point) {
            (0 | 1, _) => Fault::Crash,
            // Reading has no effect that could outlive its failure.
            (3, Point::EndTransaction | Point::SendOffsets | Point::Join | Point::Send) => Fault::FailAfter,
            _ => Fault::Fail,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        self.chance.index(n)
    }
}

//! The seed's random numbers.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(STEP) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// The numbers of draw number `draw` of a stream: they depend on nothing that was drawn before.
    pub fn of(seed: u64, stream: u64, draw: u64) -> Self {
        let mut whose = Self(stream ^ seed.wrapping_mul(STEP));
        Self(whose.next() ^ draw.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
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

    /// A time of less than `n` ms, `n > 0`.
    pub fn ms(&mut self, n: i64) -> i64 {
        self.below(n.unsigned_abs()).cast_signed()
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A stream's number by its name (FNV-1a).
pub fn stream(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

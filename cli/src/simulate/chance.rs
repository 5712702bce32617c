//! Chance from a seed: every draw is a function of what it is for, never of what was drawn before it elsewhere.

/// SplitMix64 of the k-th number (Steele, Lea, Flood 2014).
pub fn mix(seed: u64, k: u64) -> u64 {
    let mut z = seed.wrapping_add(k.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// About normal, mean 0 and deviation 1, within ±3.5: four 16-bit numbers added up.
pub fn bell(chance: u64) -> f64 {
    let sum = (chance & 0xffff) + (chance >> 16 & 0xffff) + (chance >> 32 & 0xffff) + (chance >> 48);
    (f64::from(u32::try_from(sum).expect("18 bits")) / 65_535.0 - 2.0) * 3.0_f64.sqrt()
}

/// What a row of draws is for. The numbers are part of the streams: another one is another stream.
#[derive(Debug, Clone, Copy)]
pub enum Topic {
    Network = 1,
    Demand = 2,
    Incidents = 3,
    Faults = 4,
    Region = 5,
}

/// A row of draws of its own for each (seed, topic, which, day).
#[derive(Debug)]
pub struct Dice {
    seed: u64,
    drawn: u64,
}

impl Dice {
    pub fn new(seed: u64, topic: Topic, which: usize, day: i64) -> Self {
        let seed = mix(mix(mix(seed, topic as u64), which as u64), day.cast_unsigned());
        Self { seed, drawn: 0 }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed, self.drawn)
    }

    /// At least 0 and below 1.
    pub fn uniform(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let bits = (self.draw() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.uniform() * (high - low)
    }

    /// A whole number below `n`, or 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.draw() % (n.max(1) as u64)).expect("below a usize")
    }

    /// Mean 0 and deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Around `median`, with the deviation `sigma` of the logarithm.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// How often something happens that happens `mean` times on average (Knuth 1969).
    pub fn poisson(&mut self, mean: f64) -> usize {
        let (limit, mut product, mut count) = ((-mean).exp(), self.uniform(), 0);
        while product > limit {
            product *= self.uniform();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_as_they_should() {
        let mut dice = Dice::new(1, Topic::Network, 0, 0);
        let n = 20_000_u32;
        let mut sums = [0.0; 5];
        for k in 0..n {
            let (normal, bell) = (dice.normal(), bell(mix(3, u64::from(k))));
            let count = f64::from(u32::try_from(dice.poisson(2.5)).expect("small"));
            for (sum, x) in sums.iter_mut().zip([dice.uniform(), normal, normal * normal, bell * bell, count]) {
                *sum += x;
            }
        }
        for (sum, expected) in sums.iter().zip([0.5, 0.0, 1.0, 1.0, 2.5]) {
            assert!((sum / f64::from(n) - expected).abs() < 0.05, "{sums:?}");
        }
    }

    #[test]
    fn rows_differ() {
        let first = |seed, topic, which, day| Dice::new(seed, topic, which, day).draw();
        let all = [
            first(1, Topic::Network, 0, 0),
            first(2, Topic::Network, 0, 0),
            first(1, Topic::Demand, 0, 0),
            first(1, Topic::Network, 1, 0),
            first(1, Topic::Network, 0, 1),
        ];
        assert_eq!(std::collections::HashSet::from(all).len(), all.len());
    }
}

//! What a sensor makes of the truth: its own bias, noise that grows with speed, whole vehicles, one decimal.

use super::chance::{bell, mix};
use super::field::Truth;

/// A sensor's numbers, as they stand in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Tenths of a km/h.
    pub speed: u32,
    pub volume: u64,
    /// Tenths of a percent.
    pub occupancy: u32,
}

/// What this sensor multiplies speeds by: it is off by some 1.5 %, always alike.
pub fn bias(seed: u64, sensor: u64) -> f64 {
    1.0 + 0.015 * bell(mix(seed ^ 0x5e6, sensor))
}

/// Deviation of a speed: 1.2 km/h at standstill, 2.8 km/h in free flow.
fn deviation_kmh(speed_kmh: f64) -> f64 {
    1.2 + 0.015 * speed_kmh
}

pub fn read(truth: Truth, bias: f64, chance: u64) -> Reading {
    let speed_kmh = truth.speed_kmh * bias + deviation_kmh(truth.speed_kmh) * bell(chance);
    let occupancy = truth.occupancy * (1.0 + 0.05 * bell(mix(chance, 1))) + 0.05;
    Reading {
        speed: tenths(speed_kmh.clamp(1.0, 160.0)),
        volume: truth.vehicles,
        occupancy: tenths(occupancy.clamp(0.0, 100.0)),
    }
}

fn tenths(value: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0-160")]
    let tenths = (value * 10.0 + 0.5) as u32;
    tenths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_as_wide_as_said_and_counts_are_exact() {
        for speed_kmh in [20.0, 105.0] {
            let truth = Truth { speed_kmh, vehicles: 17, occupancy: 30.0 };
            let readings: Vec<Reading> = (0..10_000).map(|k| read(truth, 1.0, mix(4, k))).collect();
            let speed = |r: &Reading| f64::from(r.speed) / 10.0;
            let mean = readings.iter().map(speed).sum::<f64>() / 10_000.0;
            let deviation = (readings.iter().map(|r| (speed(r) - mean).powi(2)).sum::<f64>() / 10_000.0).sqrt();
            assert!((mean - speed_kmh).abs() < 0.1, "{mean}");
            assert!((deviation - deviation_kmh(speed_kmh)).abs() < 0.1, "{deviation}");
            assert!(readings.iter().all(|r| r.volume == 17 && (200..400).contains(&r.occupancy)));
        }
    }
}

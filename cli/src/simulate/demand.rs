//! How many vehicles come, by the local time of day, the day of the week, the day, and the minute.

use jiff::civil::Weekday;

use super::calendar::Day;
use super::chance::{Dice, Topic, bell, mix};

/// When a corridor is fullest: into town in the morning, out of it in the evening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peak {
    Morning,
    Evening,
}

/// Shares of the peak hour's demand at each full local hour: the double hump of weekdays, and the weekend's single one.
#[rustfmt::skip]
const MORNING: [f64; 24] = [
    0.10, 0.07, 0.06, 0.06, 0.11, 0.30, 0.70, 1.00, 0.98, 0.82, 0.68, 0.63,
    0.65, 0.66, 0.70, 0.76, 0.80, 0.80, 0.70, 0.52, 0.40, 0.34, 0.26, 0.16,
];
#[rustfmt::skip]
const EVENING: [f64; 24] = [
    0.11, 0.08, 0.06, 0.06, 0.09, 0.18, 0.44, 0.68, 0.71, 0.63, 0.58, 0.60,
    0.65, 0.70, 0.80, 0.94, 1.00, 1.00, 0.90, 0.66, 0.48, 0.40, 0.30, 0.18,
];
#[rustfmt::skip]
const WEEKEND: [f64; 24] = [
    0.18, 0.12, 0.09, 0.07, 0.07, 0.10, 0.16, 0.24, 0.35, 0.48, 0.60, 0.70,
    0.77, 0.81, 0.83, 0.82, 0.80, 0.77, 0.70, 0.60, 0.50, 0.42, 0.34, 0.25,
];

/// The share of the peak hour's demand at a local hour.
pub fn profile(peak: Peak, day: Day, hour: f64) -> f64 {
    let table = match (day.weekday(), peak) {
        (Weekday::Saturday | Weekday::Sunday, _) => &WEEKEND,
        (_, Peak::Morning) => &MORNING,
        (_, Peak::Evening) => &EVENING,
    };
    let (full, part) = (hour.floor(), hour - hour.floor());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an hour of 0-23")]
    let at = full.rem_euclid(24.0) as usize;
    table[at] * (1.0 - part) + table[(at + 1) % 24] * part
}

/// What a corridor's demand of one day is multiplied by: the week's days differ a little, days of the whole region
/// by some 3 %, and a corridor's own by some 4 %.
pub fn day_factor(seed: u64, corridor: usize, day: Day) -> f64 {
    let of_week = match day.weekday() {
        Weekday::Monday => 0.97,
        Weekday::Thursday => 1.02,
        Weekday::Friday => 1.03,
        _ => 1.0,
    };
    let region = Dice::new(seed, Topic::Region, 0, day.number()).normal().clamp(-2.5, 2.5);
    let own = Dice::new(seed, Topic::Demand, corridor, day.number()).normal().clamp(-2.5, 2.5);
    of_week * (0.03 * region + 0.04 * own).exp()
}

/// What the demand of one minute is multiplied by: as many vehicles come as chance has it, about as Poisson has.
/// `source`: the corridor's origin or one of its ramps.
pub fn minute_factor(seed: u64, source: usize, minute: i64, per_minute: f64) -> f64 {
    let chance = mix(mix(seed ^ 0xf1_077e, source as u64), minute.cast_unsigned());
    (1.0 + bell(chance) / per_minute.max(1.0).sqrt()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        Day::of(text.parse::<jiff::Timestamp>().expect("a time").as_millisecond())
    }

    #[test]
    fn rush_hours_are_the_weekdays() {
        let (monday, sunday) = (day("2026-01-05T20:00:00Z"), day("2026-01-04T20:00:00Z"));
        assert!(profile(Peak::Morning, monday, 7.5) > profile(Peak::Morning, monday, 17.5));
        assert!(profile(Peak::Evening, monday, 16.5) > profile(Peak::Evening, monday, 7.5));
        assert!(profile(Peak::Morning, sunday, 7.5) < 0.4);
        // After midnight the same traffic day goes on.
        assert!((profile(Peak::Morning, monday, 26.5) - profile(Peak::Morning, monday, 2.5)).abs() < 1e-12);
    }

    #[test]
    fn days_differ_a_little() {
        let factors: Vec<f64> = (0..200).map(|c| day_factor(5, c, day("2026-01-06T20:00:00Z"))).collect();
        let mean = factors.iter().sum::<f64>() / 200.0;
        let deviation = (factors.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / 200.0).sqrt();
        assert!((0.02..0.06).contains(&deviation), "{deviation}");
        assert!(factors.iter().all(|f| (0.8..1.25).contains(f)));
    }
}

//! Incidents: crashes and breakdowns that take capacity for a while, the ground truth of what an alert should find.
//!
//! How many happen is Poisson by segment and day, more of them while there is more traffic; how long they last is
//! log-normal; what they leave of the capacity is the Highway Capacity Manual's (HCM 2000, exhibit 22-6).

use super::calendar::Day;
use super::chance::{Dice, Topic};
use super::demand::profile;
use super::field::SAMPLE_MS;
use super::network::Network;

/// What happened, where, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    pub id: String,
    pub segment_id: String,
    /// The segment's place in the network.
    pub segment: usize,
    /// Epoch ms.
    pub begin_ms: i64,
    pub end_ms: i64,
    /// The share of the segment's capacity that is lost.
    pub capacity_lost: f64,
    /// 0: on the shoulder.
    pub lanes_blocked: u32,
    pub lanes: u32,
}

impl Incident {
    pub fn active(&self, at_ms: i64) -> bool {
        self.begin_ms <= at_ms && at_ms < self.end_ms
    }
}

/// What is left with 2-5 lanes: an accident on the shoulder, one lane blocked, two lanes blocked.
const LEFT: [[f64; 3]; 4] = [[0.81, 0.35, 0.35], [0.83, 0.49, 0.17], [0.85, 0.58, 0.25], [0.87, 0.65, 0.40]];
const LONGEST_MINUTES: f64 = 150.0;

/// The incidents that begin on a day, by time. `rate`: on average by segment.
pub fn of_day(network: &Network, seed: u64, rate: f64, day: Day) -> Vec<Incident> {
    let mut all = Vec::new();
    for (index, corridor) in network.corridors.iter().enumerate() {
        let mut dice = Dice::new(seed, Topic::Incidents, index, day.number());
        let segments = network.along(corridor);
        let mean = rate * f64::from(u32::try_from(segments.len()).expect("a corridor's segments"));
        for _ in 0..dice.poisson(mean) {
            let begin_ms = begin(&mut dice, |at_ms| profile(corridor.peak, day, day.hour(at_ms)), day);
            let segment = corridor.segments.start + dice.below(segments.len());
            all.push(incident(&mut dice, network, segment, begin_ms));
        }
    }
    all.sort_by_key(|incident| (incident.begin_ms, incident.segment));
    // One at a time on a segment: what begins while another is there was the same.
    let mut free_ms = vec![i64::MIN; network.segments.len()];
    all.retain(|incident| {
        let free = free_ms[incident.segment] <= incident.begin_ms;
        if free {
            free_ms[incident.segment] = incident.end_ms;
        }
        free
    });
    all
}

/// When: the more vehicles, the likelier.
fn begin(dice: &mut Dice, traffic: impl Fn(i64) -> f64, day: Day) -> i64 {
    let samples = usize::try_from((day.end_ms - day.begin_ms) / SAMPLE_MS).expect("a day");
    loop {
        let at_ms = day.begin_ms + SAMPLE_MS * i64::try_from(dice.below(samples)).expect("a day");
        if dice.uniform() < 0.1 + 0.9 * traffic(at_ms) {
            return at_ms;
        }
    }
}

fn incident(dice: &mut Dice, network: &Network, segment: usize, begin_ms: i64) -> Incident {
    let place = &network.segments[segment];
    let chance = dice.uniform();
    let lanes_blocked = if chance < 0.35 {
        0
    } else if chance < 0.8 || place.lanes < 3 {
        1
    } else {
        2
    };
    let left = LEFT[place.lanes.clamp(2, 5) as usize - 2][lanes_blocked as usize];
    let median = [25.0, 32.0, 42.0][lanes_blocked as usize];
    let minutes = dice.log_normal(median, 0.45).clamp(8.0, LONGEST_MINUTES);
    #[expect(clippy::cast_possible_truncation, reason = "minutes in half minutes")]
    let samples = (minutes * 2.0).round() as i64;
    Incident {
        id: format!("INC_{}_{}", place.id.trim_start_matches("SEG_"), begin_ms / 1_000),
        segment_id: place.id.clone(),
        segment,
        begin_ms,
        end_ms: begin_ms + samples * SAMPLE_MS,
        capacity_lost: ((1.0 - left) * 100.0).round() / 100.0,
        lanes_blocked,
        lanes: place.lanes,
    }
}

/// The incidents that are there at any time of a stretch, by time.
pub fn between(network: &Network, seed: u64, rate: f64, from_ms: i64, until_ms: i64) -> Vec<Incident> {
    // The night before may last into the day.
    let first = Day::of(from_ms).previous();
    let days = Day::span(first.begin_ms, until_ms);
    let all = days.flat_map(|day| of_day(network, seed, rate, day));
    all.filter(|i| i.end_ms > from_ms && i.begin_ms < until_ms).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_MS: i64 = 1_767_600_000_000;
    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn there_are_as_many_as_asked_for_and_they_last_as_they_should() {
        let network = Network::new(3, 200);
        let all = between(&network, 3, 0.04, FROM_MS, FROM_MS + 100 * DAY_MS);
        assert!((650..950).contains(&all.len()), "{} in 100 days of 200 segments", all.len());
        let mut minutes: Vec<i64> = all.iter().map(|i| (i.end_ms - i.begin_ms) / 60_000).collect();
        minutes.sort_unstable();
        assert!(
            (25..40).contains(&minutes[minutes.len() / 2]),
            "half of them last {} minutes",
            minutes[minutes.len() / 2]
        );
        assert!(minutes[0] >= 8 && minutes[minutes.len() - 1] <= 150);
        assert!(all.iter().all(|i| (0.1..0.9).contains(&i.capacity_lost) && i.lanes_blocked < i.lanes));
        assert!(all.iter().any(|i| i.lanes_blocked == 0) && all.iter().any(|i| i.lanes_blocked == 2));
        let hour = |i: &Incident| Day::of(i.begin_ms).hour(i.begin_ms) % 24.0;
        let (night, day) = (all.iter().filter(|i| hour(i) < 5.0).count(), all.len());
        assert!(night * 8 < day, "{night} of {day} at night");
    }

    #[test]
    fn the_stretch_decides_nothing_but_what_is_shown() {
        let network = Network::new(3, 200);
        let (middle, end) = (FROM_MS + 5 * DAY_MS / 2, FROM_MS + 5 * DAY_MS);
        let whole = between(&network, 3, 0.04, FROM_MS, end);
        let mut halves = between(&network, 3, 0.04, FROM_MS, middle);
        halves.extend(between(&network, 3, 0.04, middle, end).into_iter().filter(|i| i.begin_ms >= middle));
        assert_eq!(whole, halves);
        assert!(!whole.is_empty());
        assert!(between(&network, 3, 0.0, FROM_MS, end).is_empty());
    }
}

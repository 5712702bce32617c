//! Speeds of many segments over time, and how they are gone through window by window.

use std::collections::VecDeque;
use std::ops::Range;

use rayon::prelude::*;

use super::calendar::{Calendar, LocalTime, Slot};
use super::features::Network;
use super::profile::{BINS_PER_DAY, Past, Profile};
use super::snapshot::{History, Snapshot, fixed};

/// Windows over which the network's change is taken: half an hour.
pub const NETWORK_CHANGE: usize = 6;

/// Hears of a window: its index, its times, what is known of each segment, and of all together.
pub type Each<'e> = &'e mut dyn FnMut(usize, &Calendar, &[Option<Snapshot>], Network);

/// Speeds by segment and window.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Ids, ascending.
    pub segments: Vec<Box<str>>,
    /// The first window's end, in windows since the epoch.
    pub first: i64,
    /// By segment, then window: km/h, [`fixed`]; NaN where nothing was measured.
    pub speeds: Vec<Vec<f32>>,
}

impl Series {
    /// Orders the segments by their ids and rounds the speeds, km/h.
    #[must_use]
    pub fn new(first: i64, mut columns: Vec<(Box<str>, Vec<f32>)>) -> Self {
        columns.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let (segments, mut speeds): (Vec<_>, Vec<Vec<f32>>) = columns.into_iter().unzip();
        speeds.par_iter_mut().flatten().for_each(|speed| *speed = fixed(f64::from(*speed)));
        Self { segments, first, speeds }
    }

    #[must_use]
    pub fn windows(&self) -> usize {
        self.speeds.first().map_or(0, Vec::len)
    }

    /// The same without the windows before the first reading and after the last.
    #[must_use]
    pub fn without_empty_ends(mut self) -> Self {
        let has_one = |window: &usize| self.speeds.iter().any(|speeds| !speeds[*window].is_nan());
        let Some(first) = (0..self.windows()).find(has_one) else { return self };
        let last = (0..self.windows()).rfind(has_one).unwrap_or(first);
        self.first = self.step(first);
        self.speeds.iter_mut().for_each(|speeds| *speeds = speeds[first..=last].to_vec());
        self
    }

    #[must_use]
    pub fn step(&self, window: usize) -> i64 {
        self.first + i64::try_from(window).expect("fewer than 2^63 windows")
    }

    /// Where each window belongs in local time.
    #[must_use]
    pub fn slots(&self, time: &LocalTime) -> Vec<Slot> {
        (0..self.windows()).into_par_iter().map(|window| Slot::of(self.step(window), time)).collect()
    }

    /// Each segment's profile over some windows.
    #[must_use]
    pub fn profiles(&self, windows: Range<usize>, slots: &[Slot]) -> Vec<Profile> {
        let of = |speeds: &Vec<f32>| {
            let mut profile = Profile::default();
            for window in windows.clone().filter(|window| !speeds[*window].is_nan()) {
                profile.put(slots[window], super::calendar::epoch_hour(self.step(window)), speeds[window], None);
            }
            profile
        };
        self.speeds.par_iter().map(of).collect()
    }

    /// The first date of some windows, and each segment's speeds in them by date and bin.
    #[must_use]
    pub fn by_date(&self, windows: Range<usize>, slots: &[Slot]) -> (i32, Vec<Vec<[f32; BINS_PER_DAY]>>) {
        let dates = slots[windows.clone()].iter().map(|slot| slot.date);
        let (Some(first), Some(last)) = (dates.clone().min(), dates.max()) else { return (0, Vec::new()) };
        let place = |date: i32| usize::try_from(date - first).expect("the first is the least");
        let of = |speeds: &Vec<f32>| {
            let mut dates = vec![[f32::NAN; BINS_PER_DAY]; place(last) + 1];
            for window in windows.clone().filter(|window| !speeds[*window].is_nan()) {
                dates[place(slots[window].date)][usize::from(slots[window].bin)] = speeds[window];
            }
            dates
        };
        (first, self.speeds.par_iter().map(of).collect())
    }

    /// Goes through windows in order and tells what is known at the end of each of `windows`, with `horizons` (windows
    /// ahead). Four hours before them are gone through first, so that nobody begins with nothing.
    pub fn play<P: Past + Sync>(
        &self,
        windows: Range<usize>,
        pasts: &[P],
        horizons: &[i64],
        time: &LocalTime,
        each: Each<'_>,
    ) {
        let from = windows.start.saturating_sub(super::snapshot::HISTORY);
        let before = self.step(from) - 1;
        let mut histories: Vec<History> = self.segments.iter().map(|_| History::new(before)).collect();
        let mut means: VecDeque<f32> = VecDeque::new();
        for window in from..windows.end {
            let calendar = Calendar::at(self.step(window), horizons, time);
            let of = |(segment, history): (usize, &mut History)| {
                history.advance(calendar.step);
                let (speed, past) = (self.speeds[segment][window], &pasts[segment]);
                if !speed.is_nan() {
                    history.put(calendar.step, speed, past.usual(calendar.now));
                }
                history.snapshot(past, &calendar)
            };
            let snapshots: Vec<Option<Snapshot>> =
                histories.par_iter_mut().enumerate().with_min_len(16).map(of).collect();
            let (sum, count) = snapshots
                .iter()
                .flatten()
                .fold((0.0, 0.0), |(sum, count), s| (sum + f64::from(s.unusual[0]), count + 1.0_f64));
            let mean = fixed(sum / count.max(1.0));
            let change = if means.len() == NETWORK_CHANGE { mean - means.pop_front().unwrap_or(mean) } else { 0.0 };
            means.push_back(mean);
            if window >= windows.start {
                each(window, &calendar, &snapshots, Network { unusual: mean, change });
            }
        }
    }
}

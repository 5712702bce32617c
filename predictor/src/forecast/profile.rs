//! What speed is usual at a local time of week: a day differs from the same day a week ago less than from yesterday.
//!
//! Sums are kept per five minutes and day of the week, so that a reading costs O(1); holidays count as Sundays. The
//! profile at a time is a weighted mean over neighbouring five minutes of the day (triangular kernel of ±4) and days:
//! same day of the week 3, same kind (weekday or weekend) 1, other kind 0.05. A date's own readings are left out of its
//! profile: it would hold what it is compared with. For that the newest date's readings stand apart from the sums.

use super::calendar::Slot;
use super::snapshot::{NOTHING, packed, unpacked};

pub const BINS_PER_HOUR: usize = 12;
pub const BINS_PER_DAY: usize = 288;
pub const HOURS: usize = 168;
const KERNEL: usize = 4;
/// Weights of the kernel around its middle.
const TRIANGLE: [f64; 2 * KERNEL + 1] = [1.0, 2.0, 3.0, 4.0, 5.0, 4.0, 3.0, 2.0, 1.0];
const SAME_DAY: f64 = 3.0;
const SAME_KIND: f64 = 1.0;
const OTHER_KIND: f64 = 0.05;

/// What is usual at some time, km/h.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    pub mean: f64,
    /// Standard deviation around it.
    pub spread: f64,
}

/// What a snapshot is compared with.
pub trait Past {
    /// What is usual at a time, its own date left out; `None` without a reading near that time of day.
    fn usual(&self, at: Slot) -> Option<Usual>;
    /// The speed read at a time; NaN if none was.
    fn reading(&self, at: Slot) -> f32;
    /// The mean of the readings in the hours up to a time, km/h: its own and so many before, at most a week.
    fn mean_of_hours(&self, until_epoch_hour: i64, hours: i64) -> Option<f64>;
}

/// Readings in the same five minutes of the day on several dates: of the newest one, and the sums of those before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    pub speeds: f32,
    pub squares: f32,
    pub count: u16,
    /// The newest date's speed, [`packed`]; [`NOTHING`] where none was read.
    newest: i16,
}

impl Bin {
    #[must_use]
    pub fn new(speeds: f32, squares: f32, count: u16, newest: f32) -> Self {
        Self { speeds, squares, count, newest: packed(newest) }
    }

    /// The newest date's speed, km/h; NaN where none was read.
    #[must_use]
    pub fn newest(&self) -> f32 {
        unpacked(self.newest)
    }

    /// A newer date begins.
    fn pass(&mut self) {
        let speed = self.newest();
        if !speed.is_nan() {
            self.speeds += speed;
            self.squares += speed * speed;
            self.count = self.count.saturating_add(1);
        }
        self.newest = NOTHING;
    }
}

/// The readings of one hour of the week. There are a few hundred thousand of these.
#[derive(Debug, Clone, PartialEq)]
pub struct Hour {
    pub bins: [Bin; BINS_PER_HOUR],
    /// The newest date, days since the epoch, …
    pub date: i32,
    /// … and its hour, hours since the epoch.
    pub epoch_hour: i32,
    /// Dates with a reading.
    pub dates: u32,
}

impl Default for Hour {
    fn default() -> Self {
        let nothing = Bin::new(0.0, 0.0, 0, f32::NAN);
        Self { bins: [nothing; BINS_PER_HOUR], date: i32::MIN, epoch_hour: i32::MIN, dates: 0 }
    }
}

/// The readings of one segment by time of week.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    hours: Vec<Option<Box<Hour>>>,
}

impl Default for Profile {
    fn default() -> Self {
        Self { hours: vec![None; HOURS] }
    }
}

impl Profile {
    /// Puts the speed that was read at a time, km/h, in the place of one that was there. One of a date before the newest
    /// in that hour of the week is too late to be told apart, and left.
    ///
    /// An hour that a model knows more dates of, all of them earlier, goes on from what `fitted` says of it.
    pub fn put(&mut self, at: Slot, epoch_hour: i64, speed: f32, fitted: Option<&Self>) {
        let of_week = at.hour_of_week();
        if let Some(fitted) = fitted.and_then(|fitted| fitted.hours[of_week].as_ref())
            && fitted.date < at.date
            && !self.covers(of_week, fitted)
        {
            self.hours[of_week] = Some(fitted.clone());
        }
        let hour = self.hours[of_week].get_or_insert_default();
        if at.date > hour.date {
            hour.bins.iter_mut().for_each(Bin::pass);
            hour.date = at.date;
            hour.epoch_hour = i32::try_from(epoch_hour).unwrap_or(i32::MAX);
            hour.dates += 1;
        }
        if at.date == hour.date {
            hour.bins[usize::from(at.bin) % BINS_PER_HOUR].newest = packed(speed);
        }
    }

    /// Whether it has as many dates of an hour as another, which then tells nothing more.
    fn covers(&self, hour_of_week: usize, other: &Hour) -> bool {
        self.hour(hour_of_week).is_some_and(|own| own.dates >= other.dates)
    }

    /// The same without the hours that `own` covers; `None` if nothing is left.
    #[must_use]
    pub fn beyond(mut self, own: &Self) -> Option<Self> {
        (0..HOURS).for_each(|of_week| self.give_way(of_week, own));
        self.hours.iter().any(Option::is_some).then_some(self)
    }

    /// Forgets an hour that `own` covers.
    pub fn give_way(&mut self, hour_of_week: usize, own: &Self) {
        self.hours[hour_of_week].take_if(|hour| own.covers(hour_of_week, hour));
    }

    #[must_use]
    pub fn hour(&self, hour_of_week: usize) -> Option<&Hour> {
        self.hours[hour_of_week].as_deref()
    }

    /// Puts an hour back as it was.
    pub fn restore(&mut self, hour_of_week: usize, hour: Option<Hour>) {
        self.hours[hour_of_week] = hour.map(Box::new);
    }
}

/// What a day of the week has to say about a time.
#[must_use]
pub fn weight_of_day(day: u8, at: Slot) -> f64 {
    match (day == at.day, (day >= 5) == (at.day >= 5)) {
        (true, _) => SAME_DAY,
        (false, true) => SAME_KIND,
        (false, false) => OTHER_KIND,
    }
}

/// What is usual by some hours of the week, with what `left_out` says of each bin of the date (NaN: nothing).
fn usual<'h>(hour: impl Fn(usize) -> Option<&'h Hour>, at: Slot, left_out: impl Fn(usize) -> f32) -> Option<Usual> {
    let (mut speeds, mut squares, mut weight) = (0.0, 0.0, 0.0);
    let mut add = |w: f64, sum: f64, square: f64, count: f64| {
        speeds += w * sum;
        squares += w * square;
        weight += w * count;
    };
    for day in 0..7_u8 {
        let of_day = weight_of_day(day, at);
        for (k, triangle) in TRIANGLE.iter().enumerate() {
            let bin = (usize::from(at.bin) + BINS_PER_DAY + k - KERNEL) % BINS_PER_DAY;
            let w = of_day * triangle;
            if let Some(hour) = hour(usize::from(day) * 24 + bin / BINS_PER_HOUR) {
                let bin = &hour.bins[bin % BINS_PER_HOUR];
                add(w, f64::from(bin.speeds), f64::from(bin.squares), f64::from(bin.count));
                let newest = f64::from(bin.newest());
                if !newest.is_nan() {
                    add(w, newest, newest * newest, 1.0);
                }
            }
            if day == at.day {
                let own = f64::from(left_out(bin));
                if !own.is_nan() {
                    add(w, -own, -own * own, -1.0);
                }
            }
        }
    }
    // Weights are sums of whole multiples of 0.05.
    (weight > 1e-3).then(|| {
        let mean = speeds / weight;
        Usual { mean, spread: (squares / weight - mean * mean).max(0.0).sqrt() }
    })
}

/// A segment's own readings, upon those that a model was fitted on: of each hour of the week, whichever has more dates,
/// and its own if they have as many.
#[derive(Debug, Clone, Copy)]
pub struct Combined<'a> {
    pub own: &'a Profile,
    pub fitted: Option<&'a Profile>,
    /// What is usual is as it was when the model was fitted: own readings change nothing.
    pub frozen: bool,
}

impl Combined<'_> {
    fn hour(&self, hour_of_week: usize) -> Option<&Hour> {
        let (own, fitted) = (self.own.hour(hour_of_week), self.fitted.and_then(|fitted| fitted.hour(hour_of_week)));
        match (own, fitted) {
            (own, Some(fitted)) if !self.frozen && self.own.covers(hour_of_week, fitted) => own,
            (own, None) if !self.frozen || self.fitted.is_none() => own,
            (_, fitted) => fitted,
        }
    }
}

impl Past for Combined<'_> {
    fn usual(&self, at: Slot) -> Option<Usual> {
        usual(
            |hour| self.hour(hour),
            at,
            |bin| {
                let hour = self.hour(usize::from(at.day) * 24 + bin / BINS_PER_HOUR);
                hour.filter(|hour| hour.date == at.date)
                    .map_or(f32::NAN, |hour| hour.bins[bin % BINS_PER_HOUR].newest())
            },
        )
    }

    fn reading(&self, at: Slot) -> f32 {
        let of_week = at.hour_of_week();
        let fitted = self.fitted.and_then(|fitted| fitted.hour(of_week));
        let of = |hour: Option<&'_ Hour>| {
            let hour = hour.filter(|hour| hour.date == at.date);
            hour.map(|hour| hour.bins[usize::from(at.bin) % BINS_PER_HOUR].newest())
        };
        let or_fitted = || of(fitted.filter(|fitted| !self.own.covers(of_week, fitted)));
        of(self.own.hour(of_week)).or_else(or_fitted).unwrap_or(f32::NAN)
    }

    fn mean_of_hours(&self, until_epoch_hour: i64, hours: i64) -> Option<f64> {
        let wanted = until_epoch_hour - hours + 1..=until_epoch_hour;
        let (mut sum, mut count) = (0.0, 0.0);
        for hour in self.own.hours.iter().flatten().filter(|hour| wanted.contains(&i64::from(hour.epoch_hour))) {
            for speed in hour.bins.iter().map(Bin::newest).filter(|speed| !speed.is_nan()) {
                sum += f64::from(speed);
                count += 1.0;
            }
        }
        (count > 0.0).then(|| sum / count)
    }
}

/// All dates of a segment at once, as they stand while a model is fitted: each date's profile holds all others, earlier
/// and later ones.
#[derive(Debug)]
pub struct AllDates<'a> {
    pub profile: &'a Profile,
    /// The first date, days since the epoch.
    pub first: i32,
    /// Speeds by date and bin; NaN where nothing was read.
    pub readings: &'a [[f32; BINS_PER_DAY]],
}

impl AllDates<'_> {
    fn of(&self, date: i32) -> Option<&[f32; BINS_PER_DAY]> {
        self.readings.get(usize::try_from(date - self.first).ok()?)
    }
}

impl Past for AllDates<'_> {
    fn usual(&self, at: Slot) -> Option<Usual> {
        let own = self.of(at.date);
        usual(|hour| self.profile.hour(hour), at, |bin| own.map_or(f32::NAN, |own| own[bin]))
    }

    fn reading(&self, at: Slot) -> f32 {
        self.of(at.date).map_or(f32::NAN, |date| date[usize::from(at.bin)])
    }

    fn mean_of_hours(&self, _until_epoch_hour: i64, _hours: i64) -> Option<f64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2026-01-05, days since the epoch.
    const MONDAY: i32 = 20_458;

    fn slot(date: i32, bin: u16) -> Slot {
        Slot { date, day: u8::try_from((date - MONDAY).rem_euclid(7)).expect("a weekday"), bin }
    }

    fn put(profile: &mut Profile, date: i32, bin: u16, speed: f32) {
        profile.put(slot(date, bin), i64::from(date) * 24 + i64::from(bin) / 12, speed, None);
    }

    fn alone(own: &Profile) -> Combined<'_> {
        Combined { own, fitted: None, frozen: false }
    }

    fn mean(profile: &Profile, date: i32, bin: u16) -> Option<f64> {
        alone(profile).usual(slot(date, bin)).map(|usual| usual.mean)
    }

    #[test]
    fn the_same_day_of_the_week_counts_most_and_the_other_kind_least() {
        let mut profile = Profile::default();
        assert_eq!(mean(&profile, MONDAY, 144), None);
        put(&mut profile, MONDAY, 144, 30.0);
        put(&mut profile, MONDAY + 1, 144, 60.0);
        put(&mut profile, MONDAY + 5, 144, 110.0);
        let monday = mean(&profile, MONDAY + 7, 144).expect("readings");
        assert!((monday - (3.0 * 30.0 + 60.0 + 0.05 * 110.0) / 4.05).abs() < 1e-9, "{monday}");
        let sunday = mean(&profile, MONDAY + 6, 144).expect("readings");
        assert!((sunday - (0.05 * 90.0 + 110.0) / 1.1).abs() < 1e-9, "{sunday}");
        assert_eq!(mean(&profile, MONDAY + 7, 164), None);
        let spread = |at| alone(&profile).usual(slot(MONDAY + 7, at)).expect("readings").spread;
        assert!(spread(144) > 10.0 && (spread(140) - spread(144)).abs() < 1e-9);
    }

    #[test]
    fn a_dates_own_readings_are_left_out() {
        let mut profile = Profile::default();
        put(&mut profile, MONDAY, 144, 30.0);
        assert_eq!(mean(&profile, MONDAY, 145), None);
        put(&mut profile, MONDAY + 7, 144, 90.0);
        assert_eq!(mean(&profile, MONDAY + 7, 145), Some(30.0));
        assert_eq!(mean(&profile, MONDAY + 14, 145), Some(60.0));
        // The same, seen with all dates at once.
        let mut readings = vec![[f32::NAN; BINS_PER_DAY]; 8];
        (readings[0][144], readings[7][144]) = (30.0, 90.0);
        let all = AllDates { profile: &profile, first: MONDAY, readings: &readings };
        assert_eq!(all.usual(slot(MONDAY, 145)).map(|usual| usual.mean), Some(90.0));
        assert_eq!(all.usual(slot(MONDAY + 7, 145)).map(|usual| usual.mean), Some(30.0));
        assert_eq!((all.reading(slot(MONDAY + 7, 144)), alone(&profile).reading(slot(MONDAY + 7, 144))), (90.0, 90.0));
        assert!(all.reading(slot(MONDAY + 9, 144)).is_nan() && alone(&profile).reading(slot(MONDAY, 144)).is_nan());
    }

    #[test]
    fn a_corrected_reading_is_as_if_it_had_been_right_at_once() {
        let (mut profile, mut other) = (Profile::default(), Profile::default());
        for speed in [70.0, 50.0] {
            put(&mut profile, MONDAY, 10, speed);
        }
        put(&mut other, MONDAY, 10, 50.0);
        assert_eq!(profile.hour(0).map(|hour| hour.bins[10].newest()), Some(50.0));
        put(&mut profile, MONDAY + 7, 10, 60.0);
        put(&mut other, MONDAY + 7, 10, 60.0);
        assert_eq!(profile.hour(0), other.hour(0));
        // Too late.
        put(&mut profile, MONDAY, 10, 99.0);
        assert_eq!(mean(&profile, MONDAY + 14, 10), Some(55.0));
        let hour = i64::from(MONDAY + 7) * 24;
        assert_eq!(
            (alone(&profile).mean_of_hours(hour, 24), alone(&profile).mean_of_hours(hour - 1, 24)),
            (Some(60.0), None)
        );
    }

    #[test]
    fn a_time_that_can_not_be_is_no_reason_to_die() {
        let mut profile = Profile::default();
        profile.put(slot(MONDAY, 144), i64::MAX, 50.0, None);
        assert_eq!(mean(&profile, MONDAY + 7, 144), Some(50.0));
    }

    #[test]
    fn an_hour_goes_on_from_what_the_model_knows_of_it() {
        let (mut fitted, mut own) = (Profile::default(), Profile::default());
        put(&mut fitted, MONDAY, 144, 30.0);
        put(&mut fitted, MONDAY + 7, 144, 50.0);
        let mean = |own: &Profile, frozen| {
            Combined { own, fitted: Some(&fitted), frozen }.usual(slot(MONDAY + 21, 144)).map(|usual| usual.mean)
        };
        assert_eq!(mean(&own, false), Some(40.0));
        own.put(slot(MONDAY + 14, 144), 0, 70.0, Some(&fitted));
        assert_eq!((mean(&own, false), mean(&own, true)), (Some(50.0), Some(40.0)));
        // A model of the future is only looked at.
        let mut replayed = Profile::default();
        replayed.put(slot(MONDAY, 144), 0, 90.0, Some(&fitted));
        assert_eq!((replayed.hour(12).map(|hour| hour.dates), mean(&replayed, false)), (Some(1), Some(40.0)));
        // One that knows less than the segment itself is left.
        own.put(slot(MONDAY + 21, 145), 0, 70.0, Some(&fitted));
        assert_eq!(own.hour(12).map(|hour| hour.dates), Some(4));
    }
}

//! A partition's side of the work: aggregates become its segments' histories, markers pass windows' ends, and each
//! passed end becomes a block for everybody. Its frames close when all partitions' blocks are there.

use std::borrow::Cow;
use std::collections::BTreeMap;

use common::model::{
    Aggregate, CongestionLevel, Feature, HistoricalContext, ModelType, Position, Prediction, UncertaintyBounds,
};
use common::stream::{Outbox, Record};

use crate::Settings;
use crate::bytes::{Reader, Writer};
use crate::digest::{AHEAD, Block, Digests};
use crate::forecast::STEP_MS;
use crate::forecast::calendar::Calendar;
use crate::forecast::profile::Profile;
use crate::forecast::snapshot::Snapshot;
use crate::frames::{Duel, Forecast, Frames, Maker, Score};
use crate::live::{AtWork, Live};
use crate::machine::{DIGEST, PREDICTIONS};
use crate::queue::{Input, Queue};
use crate::segment::{Light, Segment};

/// The version of what is learnt while running.
const MODEL_VERSION: &str = "v0.1.0";

const REGRESSION_FEATURES: [Feature; 4] =
    [Feature::HistoricalSpeed, Feature::TimeOfDay, Feature::DayOfWeek, Feature::AdjacentSegments];
const MODEL_FEATURES: [Feature; 5] =
    [Feature::HistoricalSpeed, Feature::TimeOfDay, Feature::DayOfWeek, Feature::AdjacentSegments, Feature::Seasonal];
const PERSISTENCE_FEATURES: [Feature; 1] = [Feature::HistoricalSpeed];
const PROFILE_FEATURES: [Feature; 3] = [Feature::HistoricalSpeed, Feature::TimeOfDay, Feature::DayOfWeek];

/// Changelog keys begin with the kind of entry; those of frames are in `frames.rs`.
const PASSED: u8 = b'p';
const SEGMENT: u8 = b'g';
const HOUR: u8 = b'w';
const FRAMES: u8 = b'f';
const QUEUED: u8 = b'q';

/// The state of one assigned partition.
pub struct Partition {
    number: u32,
    /// The newest window end that a marker has passed.
    passed: Option<i64>,
    /// A marker on the way to which more windows are to be passed.
    marker: Option<i64>,
    /// Blocks told so far.
    told: i64,
    passed_dirty: bool,
    /// What was read and waits for frames to keep up.
    queue: Queue,
    segments: BTreeMap<Box<str>, Segment>,
    /// The model whose profiles the segments were given.
    adopted: Option<Box<str>>,
    frames: Frames,
    /// Segments forgotten since the last commit, and the hours of their profiles.
    forgotten: Vec<(Box<str>, Vec<usize>)>,
    /// The frame that waits for others, and since when.
    waiting: Option<(i64, i64)>,
    /// Aggregates that could not be read.
    pub invalid: u64,
    bytes: Vec<u8>,
}

impl Partition {
    #[must_use]
    pub fn new(number: u32, settings: &Settings) -> Self {
        Self {
            number,
            passed: None,
            marker: None,
            told: 0,
            passed_dirty: false,
            queue: Queue::default(),
            segments: BTreeMap::new(),
            adopted: None,
            frames: Frames::new(number, &settings.horizons),
            forgotten: Vec::new(),
            waiting: None,
            invalid: 0,
            bytes: Vec::new(),
        }
    }

    /// Whether everything that was read has been taken in and forecast.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.frames.closed() == self.passed && self.marker.is_none() && self.queue.is_empty()
    }

    /// Whether frames keep up with what is taken in.
    #[must_use]
    pub fn takes_more(&self) -> bool {
        !self.is_ahead() && self.marker.is_none() && self.queue.is_empty()
    }

    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The newest frame that has closed, as epoch ms of its window's end.
    #[must_use]
    pub fn closed_ms(&self) -> Option<i64> {
        self.frames.closed().map(|step| step * STEP_MS)
    }

    /// The window whose frame closes next.
    #[must_use]
    pub fn next_frame(&self) -> Option<i64> {
        self.frames.closed().map(|closed| closed + 1)
    }

    pub fn scores(&self) -> impl Iterator<Item = (u32, Score)> {
        self.frames.scores()
    }

    /// How the forecasts of the model with this version did lately, by horizon in minutes.
    pub fn recent<'a>(&'a self, version: &str) -> impl Iterator<Item = (u32, Score)> + use<'a> {
        self.frames.recent(version)
    }

    /// How a challenger did beside what was published.
    #[must_use]
    pub fn duel(&self, version: &str) -> Duel {
        self.frames.duel(version)
    }

    /// A record of the aggregates' topic.
    pub fn record(&mut self, record: &Record<'_>, live: Option<&Live>, settings: &Settings, out: &mut Outbox) {
        let input = match (record.watermark_ms(), record.value) {
            (Some(marker_ms), _) => Input::Marker(marker_ms.div_euclid(STEP_MS)),
            (None, None) => return,
            (None, Some(value)) => match serde_json::from_slice::<Aggregate<'_>>(value) {
                Ok(aggregate) => match Input::of(&aggregate) {
                    Some(input) => input,
                    None => return,
                },
                Err(error) => {
                    self.invalid += 1;
                    tracing::warn!(
                        partition = self.number, offset = record.offset, %error,
                        "record {} of partition {} is no aggregate: {error}", record.offset, self.number
                    );
                    return;
                }
            },
        };
        self.queue.push(input);
        self.work(live, settings, out);
    }

    /// Takes in what has come, in order, as far as frames keep up.
    fn work(&mut self, live: Option<&Live>, settings: &Settings, out: &mut Outbox) {
        self.adopt(live, settings);
        loop {
            if let Some(marker) = self.marker {
                while let Some(step) = self.next_step(marker) {
                    if self.is_ahead() {
                        return;
                    }
                    self.pass(step, settings, out);
                }
                self.marker = None;
                self.forget_silent(marker, settings);
                out.hurry();
            }
            match self.queue.pop() {
                Some(Input::Aggregate { segment, step, speed, vehicles, position }) => {
                    let segment = self.hearing(segment, step, live, settings);
                    segment.position = position.or(segment.position);
                    segment.hear(step, (speed, vehicles), light(settings));
                }
                Some(Input::Marker(step)) => {
                    self.marker = Some(step).filter(|step| self.passed.is_none_or(|passed| *step > passed));
                    self.passed_dirty = true;
                }
                None => return,
            }
        }
    }

    /// Gives the segments what another model knows of them.
    fn adopt(&mut self, live: Option<&Live>, settings: &Settings) {
        let version = live.map(|live| &live.version);
        if self.adopted.as_ref() != version {
            self.segments.iter_mut().for_each(|(id, segment)| segment.adopt(fitted(id, live), settings.frozen));
            self.adopted = version.cloned();
        }
    }

    /// The segment that a window's aggregate is of.
    fn hearing(&mut self, segment: Box<str>, step: i64, live: Option<&Live>, settings: &Settings) -> &mut Segment {
        let passed = self.passed.unwrap_or(step - 1).min(step - 1);
        let segment = self.segments.entry(segment).or_insert_with_key(|id| {
            let mut segment = Segment::new(passed);
            segment.adopt(fitted(id, live), settings.frozen);
            segment
        });
        if let Some(passed) = self.passed {
            segment.catch_up(passed);
        }
        segment
    }

    /// The next window end to pass on the way to a marker. Of a long silence only the end is gone through window by
    /// window, so that a gap of weeks costs nothing.
    fn next_step(&self, marker: i64) -> Option<i64> {
        let (first, latest) = match self.passed {
            Some(passed) if passed >= marker => return None,
            Some(passed) => (passed + 1, marker - AHEAD + 1),
            None => (i64::MIN, marker),
        };
        if first >= latest {
            return Some(first);
        }
        let heard = self.segments.values().flat_map(Segment::open).min().unwrap_or(latest);
        Some(heard.clamp(first, latest))
    }

    fn is_ahead(&self) -> bool {
        matches!((self.passed, self.frames.closed()), (Some(passed), Some(closed)) if passed - closed >= AHEAD)
    }

    fn pass(&mut self, step: i64, settings: &Settings, out: &mut Outbox) {
        if self.frames.closed().is_none() {
            self.frames.begin(step);
        }
        let horizons: Vec<i64> = settings.horizons.iter().map(|m| i64::from(m / crate::forecast::STEP_MIN)).collect();
        let calendar = Calendar::at(step, &horizons, &settings.time);
        let mut segments = Vec::with_capacity(self.segments.len());
        for (id, segment) in &mut self.segments {
            let snapshot = segment.pass(&calendar, light(settings));
            if let Some(snapshot) = snapshot.filter(|s| i64::from(s.age) <= settings.silent_after) {
                segments.push((id.clone(), snapshot));
            }
        }
        let block = Block { partition: self.number, step, segments };
        block.encode(&mut self.bytes);
        out.emit(DIGEST, Some(0), Some(&block.key(self.told)), Some(&self.bytes), &[]);
        self.told += 1;
        self.passed = Some(step);
        self.passed_dirty = true;
    }

    fn forget_silent(&mut self, step: i64, settings: &Settings) {
        let forgotten = &mut self.forgotten;
        let frames = &mut self.frames;
        self.segments.retain(|id, segment| {
            let keep = step - segment.heard() <= settings.forget_after || segment.open().next().is_some();
            if !keep {
                let hours = (0..crate::forecast::profile::HOURS).filter(|hour| segment.profile.hour(*hour).is_some());
                forgotten.push((id.clone(), hours.collect()));
                frames.forget(id);
            }
            keep
        });
    }

    /// Closes the frames that may be closed now.
    pub fn close_frames(
        &mut self,
        digests: &Digests,
        at_work: &AtWork,
        now_ms: i64,
        settings: &Settings,
        out: &mut Outbox,
    ) {
        let live = at_work.live.as_deref();
        while let (Some(passed), Some(closed)) = (self.passed, self.frames.closed()) {
            let step = closed + 1;
            // Our own block comes back once it is committed.
            let told = digests.newest(self.number).is_some_and(|newest| newest >= step);
            if step > passed || !told || !(digests.is_complete(step) || self.is_overdue(step, now_ms, settings)) {
                return;
            }
            self.waiting = None;
            let (segments, bytes, partition) = (&self.segments, &mut self.bytes, self.number);
            let version = live.map_or(MODEL_VERSION, |live| &live.version);
            self.frames.close(digests, at_work, &settings.time, &mut |id, snapshot, forecasts| {
                let position = segments.get(id).and_then(|segment| segment.position);
                for (h, forecast) in forecasts.iter().enumerate() {
                    let volume = snapshot.volumes.get(h).copied();
                    emit(partition, (id, position), step, snapshot, (forecast, volume), version, bytes, out);
                }
            });
            out.hurry();
            self.work(live, settings, out);
        }
    }

    /// Whether a frame has waited long enough for partitions that say nothing.
    fn is_overdue(&mut self, step: i64, now_ms: i64, settings: &Settings) -> bool {
        // A clock that was set back begins the wait anew.
        let since_ms =
            self.waiting.filter(|(waiting, _)| *waiting == step).map_or(now_ms, |(_, since)| since.min(now_ms));
        self.waiting = Some((step, since_ms));
        step * STEP_MS > now_ms - settings.recent_ms && now_ms - since_ms >= settings.deadline_ms
    }

    /// Puts what changed since the last commit.
    pub fn flush(&mut self, out: &mut Outbox) {
        let (number, bytes) = (self.number, &mut self.bytes);
        if std::mem::take(&mut self.passed_dirty) {
            let mut fields = Writer::new(bytes);
            fields.i64(self.passed.unwrap_or(i64::MIN));
            fields.i64(self.marker.unwrap_or(i64::MIN));
            fields.i64(self.told);
            out.put(number, &[PASSED], bytes);
        }
        self.queue.flush(bytes, &mut |place, value| match value {
            Some(value) => out.put(number, &queue_key(place), value),
            None => out.delete(number, &queue_key(place)),
        });
        for (id, hours) in self.forgotten.drain(..) {
            out.delete(number, &segment_key(&id));
            hours.into_iter().for_each(|hour| out.delete(number, &hour_key(&id, hour)));
        }
        for (id, segment) in &mut self.segments {
            if std::mem::take(&mut segment.dirty) {
                segment.encode(bytes);
                out.put(number, &segment_key(id), bytes);
            }
            for hour in std::mem::take(&mut segment.dirty_hours) {
                if segment.encode_hour(hour, bytes).is_some() {
                    out.put(number, &hour_key(id, hour), bytes);
                }
            }
        }
        self.frames.flush(bytes, &mut |key, value| out.put(number, &[&[FRAMES], key].concat(), value));
    }

    /// Puts an entry of the changelog back.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) {
        match (key, value) {
            ([PASSED], Some(value)) => {
                let Some(mut fields) = Reader::new(value) else { return };
                let mut step = || fields.i64().filter(|step| *step != i64::MIN);
                (self.passed, self.marker) = (step(), step());
                self.told = fields.i64().unwrap_or(0);
            }
            ([QUEUED, place @ ..], value) => {
                if let Ok(place) = place.try_into() {
                    self.queue.restore(u64::from_be_bytes(place), value);
                }
            }
            ([FRAMES, rest @ ..], Some(value)) => {
                self.frames.restore(rest, value);
            }
            ([SEGMENT, id @ ..], value) => {
                let Ok(id) = std::str::from_utf8(id) else { return };
                match value {
                    Some(value) => {
                        self.segment(id).restore(value);
                    }
                    None => drop(self.segments.remove(id)),
                }
            }
            ([HOUR, hour, id @ ..], value) => {
                let (Ok(id), hour) = (std::str::from_utf8(id), usize::from(*hour)) else { return };
                if hour < crate::forecast::profile::HOURS && (value.is_some() || self.segments.contains_key(id)) {
                    self.segment(id).restore_hour(hour, value);
                }
            }
            _ => {}
        }
    }

    /// A segment that is being restored.
    fn segment(&mut self, id: &str) -> &mut Segment {
        let segment = self.segments.entry(id.into()).or_insert_with(|| Segment::new(i64::MIN / 2));
        segment.dirty = false;
        segment
    }
}

/// What a segment's windows are seen in the light of.
fn light(settings: &Settings) -> Light<'_> {
    Light { time: &settings.time, frozen: settings.frozen }
}

/// The profile that a model knows of a segment.
fn fitted(id: &str, live: Option<&Live>) -> Option<Profile> {
    live.and_then(|live| Some(live.model.segments[live.model.index(id)?].profile.unpack()))
}

fn segment_key(id: &str) -> Vec<u8> {
    [&[SEGMENT], id.as_bytes()].concat()
}

fn queue_key(place: u64) -> Vec<u8> {
    [&[QUEUED][..], &place.to_be_bytes()].concat()
}

fn hour_key(id: &str, hour: usize) -> Vec<u8> {
    [&[HOUR, u8::try_from(hour).expect("168 hours")], id.as_bytes()].concat()
}

/// To hundredths: more is noise.
fn rounded(speed: f64) -> f64 {
    (speed * 100.0).round() / 100.0
}

fn known(speed: f32) -> Option<f64> {
    (!speed.is_nan()).then(|| rounded(f64::from(speed)))
}

#[expect(clippy::too_many_arguments, reason = "what a message is made of")]
fn emit(
    partition: u32,
    (id, position): (&str, Option<(f64, f64)>),
    step: i64,
    snapshot: &Snapshot,
    (forecast, volume): (&Forecast, Option<u16>),
    version: &str,
    bytes: &mut Vec<u8>,
    out: &mut Outbox,
) {
    let made_ms = step * STEP_MS;
    let quantiles = forecast.quantiles.map(rounded);
    let speed = rounded(forecast.median());
    let (model_type, features, version): (_, &[Feature], _) = match (forecast.maker, snapshot.profiled) {
        (Maker::Model, _) => (ModelType::GradientBoosting, &MODEL_FEATURES, version),
        (Maker::Regression, _) => (ModelType::LinearRegression, &REGRESSION_FEATURES, MODEL_VERSION),
        (Maker::Fallback, true) => (ModelType::Persistence, &PROFILE_FEATURES, MODEL_VERSION),
        (Maker::Fallback, false) => (ModelType::Persistence, &PERSISTENCE_FEATURES, MODEL_VERSION),
    };
    let prediction = Prediction {
        prediction_id: format!("PRED_{id}_{made_ms}_{}", forecast.horizon).into(),
        segment_id: id.into(),
        prediction_timestamp: made_ms,
        prediction_horizon: forecast.horizon,
        target_timestamp: made_ms + i64::from(forecast.horizon) * 60_000,
        predicted_speed: speed,
        predicted_volume: volume.map(u32::from),
        current_speed: rounded(f64::from(snapshot.filled)),
        predicted_congestion_level: CongestionLevel::of(speed),
        uncertainty_bounds: UncertaintyBounds {
            speed_lower: quantiles[0],
            speed_upper: quantiles[quantiles.len() - 1],
        },
        speed_quantiles: quantiles,
        confidence_score: (forecast.confidence * 1000.0).round() / 1000.0,
        model_version: version.into(),
        model_type,
        features_used: Cow::Borrowed(features),
        coordinates: position.map(|(latitude, longitude)| Position { latitude, longitude }),
        historical_context: HistoricalContext {
            avg_speed_1h: known(snapshot.mean_1h),
            avg_speed_24h: known(snapshot.mean_24h),
            avg_speed_7d: known(snapshot.mean_7d),
        },
    };
    bytes.clear();
    serde_json::to_writer(&mut *bytes, &prediction).expect("a prediction is always JSON");
    out.emit(PREDICTIONS, Some(partition), Some(id.as_bytes()), Some(bytes), &[]);
}

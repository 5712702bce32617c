//! Counts events anew, all at once and however late they came: the same windows, without a watermark.

use std::collections::{BTreeMap, HashMap};

use common::model::{Aggregate, Event};

use crate::Settings;
use crate::window::{Window, hash_of, identity};

/// Windows of some hours of events.
pub struct Recount {
    settings: Settings,
    numbers: HashMap<Box<str>, u32>,
    segments: Vec<(Box<str>, u64)>,
    windows: BTreeMap<i64, Window>,
    /// Events seen before.
    pub duplicates: u64,
}

impl Recount {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, numbers: HashMap::new(), segments: Vec::new(), windows: BTreeMap::new(), duplicates: 0 }
    }

    /// Counts an event, unless one like it was counted. Of several with one identity the first counts, as in the stream:
    /// give them in the order of their offsets.
    ///
    /// # Panics
    /// With more than four billion segments.
    pub fn add(&mut self, event: &Event<'_>) {
        let segment = match self.numbers.get(event.segment_id.as_ref()) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.segments.len()).expect("segments fit in 32 bits");
                self.segments.push((event.segment_id.as_ref().into(), hash_of(&event.segment_id)));
                self.numbers.insert(event.segment_id.as_ref().into(), number);
                number
            }
        };
        let start_ms = event.timestamp_ms.div_euclid(self.settings.window_ms) * self.settings.window_ms;
        let hash = identity(self.segments[segment as usize].1, event);
        let window = self.windows.entry(start_ms).or_default();
        if window.seen.insert(hash) {
            window.accumulator(segment).add(event, hash);
        } else {
            self.duplicates += 1;
        }
    }

    /// The aggregate of each window and segment, by window.
    pub fn aggregates(&mut self, mut each: impl FnMut(&Aggregate<'_>)) {
        for (start_ms, window) in &mut self.windows {
            for (segment, accumulator) in window.all() {
                let (id, _) = &self.segments[segment as usize];
                each(&accumulator.aggregate(id, *start_ms, &self.settings));
            }
        }
    }
}

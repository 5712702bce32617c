//! The aggregates of the archive as a series to train on.

use std::collections::HashMap;

use arrow::array::Array as _;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use common::archive::layout::{Hour, Table};
use common::archive::read::{Rows, read_hour};
use common::archive::{ArchiveError, Dataset};
use common::store::Store;

use crate::forecast::STEP_MS;
use crate::forecast::series::Series;

/// Tries at an hour whose files are compacted away while they are read.
const TRIES: usize = 5;

/// Reads the aggregates of a topic whose windows end after `from_ms` and by `to_ms`; `progress` hears of each hour.
///
/// # Errors
/// `Retry` where the store does not answer, `Fatal` where a file cannot be read.
///
/// # Panics
/// If there are more windows than fit in memory.
pub async fn read(
    store: &Store,
    topic: &str,
    from_ms: i64,
    to_ms: i64,
    progress: &dyn Fn(),
) -> Result<Series, ArchiveError> {
    let first = from_ms.div_euclid(STEP_MS) + 1;
    let windows = usize::try_from(to_ms.div_euclid(STEP_MS) - first + 1).unwrap_or(0);
    let mut readings = Readings { first, windows, indices: HashMap::new(), columns: Vec::new() };
    let (mut hour, last) = (Hour::of_ms(from_ms), Hour::of_ms(to_ms - 1));
    while hour <= last {
        let mut tried = 1;
        while let Err(error) = readings.add_hour(store, topic, hour).await {
            match error {
                ArchiveError::Retry(_) if tried < TRIES => tried += 1,
                error => return Err(error),
            }
        }
        progress();
        hour = hour.next();
    }
    let mut speeds: Vec<Vec<f32>> = readings.columns.into_iter().map(|column| column.speeds).collect();
    let of = |(id, index): (Box<str>, usize)| (id, std::mem::take(&mut speeds[index]));
    Ok(Series::new(first, readings.indices.into_iter().map(of).collect()))
}

struct Readings {
    first: i64,
    windows: usize,
    indices: HashMap<Box<str>, usize>,
    columns: Vec<Column>,
}

struct Column {
    speeds: Vec<f32>,
    /// Events that each speed is of: a correction has more.
    events: Vec<u32>,
}

impl Readings {
    async fn add_hour(&mut self, store: &Store, topic: &str, hour: Hour) -> Result<(), ArchiveError> {
        read_hour(store, Table::Accepted(Dataset::Aggregates), topic, hour, &mut |batch| {
            let rows = Rows(batch);
            let segments = rows.text("segment_id");
            let ends = rows.numbers::<TimestampMillisecondType>("window_end");
            let speeds = rows.numbers::<Float64Type>("avg_speed");
            let events = rows.numbers::<Int64Type>("event_count");
            for row in 0..batch.num_rows() {
                let window = usize::try_from(ends.value(row).div_euclid(STEP_MS) - self.first);
                let Ok(window) = window else { continue };
                if window < self.windows && speeds.is_valid(row) {
                    let events = u32::try_from(events.value(row)).unwrap_or(u32::MAX);
                    self.put(segments.value(row), window, speeds.value(row), events);
                }
            }
            Ok(())
        })
        .await
    }

    fn put(&mut self, segment: &str, window: usize, speed: f64, events: u32) {
        let index = match self.indices.get(segment) {
            Some(index) => *index,
            None => {
                let column = Column { speeds: vec![f32::NAN; self.windows], events: vec![0; self.windows] };
                self.columns.push(column);
                self.indices.insert(segment.into(), self.columns.len() - 1);
                self.columns.len() - 1
            }
        };
        let column = &mut self.columns[index];
        if events >= column.events[window] {
            column.events[window] = events;
            #[expect(clippy::cast_possible_truncation, reason = "a speed")]
            {
                column.speeds[window] = speed as f32;
            }
        }
    }
}

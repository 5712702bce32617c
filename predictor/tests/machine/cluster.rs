//! Predictors on a log made of vectors: what they commit is kept, everything else dies with them.

use std::collections::BTreeMap;

use common::model::{Aggregate, Prediction};
use common::stream::{Header, Machine as _, Outbox, Records, StoredRecord, Tick, WATERMARK_HEADER};
use predictor::{DIGEST, Duel, PREDICTIONS, Predictor, Score, Settings, Slot};

pub const STEP_MS: i64 = 300_000;

/// One partition of the input, its reader and its committed state.
#[derive(Default)]
struct Part {
    input: Vec<StoredRecord>,
    /// Committed, and read by the present owner.
    committed: usize,
    read: usize,
    changelog: BTreeMap<Vec<u8>, Vec<u8>>,
    owner: usize,
}

struct Instance {
    machine: Predictor,
    outbox: Outbox,
    tailed: usize,
}

/// Instances, their partitions, and what was committed.
pub struct Cluster {
    settings: Settings,
    /// The model of all instances.
    pub model: Slot,
    parts: Vec<Part>,
    instances: Vec<Instance>,
    digest: Vec<StoredRecord>,
    /// Committed forecasts by partition, as JSON.
    pub predictions: Vec<Vec<Vec<u8>>>,
    now_ms: i64,
}

impl Cluster {
    pub fn new(settings: Settings, partitions: usize, instances: usize) -> Self {
        let mut cluster = Self {
            parts: (0..partitions).map(|p| Part { owner: p % instances, ..Part::default() }).collect(),
            instances: Vec::new(),
            digest: Vec::new(),
            predictions: vec![Vec::new(); partitions],
            // Long after the events: history waits for everybody.
            now_ms: 4_000_000_000_000,
            settings,
            model: Slot::default(),
        };
        for i in 0..instances {
            cluster.instances.push(cluster.boot(i));
        }
        cluster
    }

    pub fn send(&mut self, partition: usize, aggregate: &Aggregate<'_>) {
        let value = Some(serde_json::to_vec(aggregate).expect("JSON"));
        let key = Some(aggregate.segment_id.as_bytes().to_vec());
        self.push(partition, StoredRecord { key, value, ..StoredRecord::default() });
    }

    pub fn marker(&mut self, step: i64) {
        for partition in 0..self.parts.len() {
            let value = (step * STEP_MS).to_string().into_bytes();
            let headers = vec![Header { name: WATERMARK_HEADER.into(), value }];
            self.push(partition, StoredRecord { headers, ..StoredRecord::default() });
        }
    }

    fn push(&mut self, partition: usize, mut record: StoredRecord) {
        let input = &mut self.parts[partition].input;
        record.offset = i64::try_from(input.len()).expect("small");
        input.push(record);
    }

    /// A new process in place of instance `i`: everything that was not committed is gone.
    pub fn restart(&mut self, i: usize) {
        self.instances[i] = self.boot(i);
        self.parts.iter_mut().filter(|part| part.owner == i).for_each(|part| part.read = part.committed);
    }

    fn boot(&self, i: usize) -> Instance {
        let mut machine = Predictor::new(self.settings.clone(), self.model.clone());
        let count = u32::try_from(self.parts.len()).expect("few");
        for (number, part) in self.parts.iter().enumerate().filter(|(_, part)| part.owner == i) {
            let number = u32::try_from(number).expect("few");
            machine.assign(number, count);
            part.changelog.iter().for_each(|(key, value)| machine.restore(number, key, Some(value)));
        }
        Instance { machine, outbox: Outbox::default(), tailed: 0 }
    }

    /// Partition `p` moves to instance `to`; its owner commits first.
    pub fn give(&mut self, p: usize, to: usize) {
        let from = self.parts[p].owner;
        if from == to {
            return;
        }
        self.commit(from);
        self.parts[p].owner = to;
        self.commit(to);
        self.restart(from);
        self.restart(to);
    }

    /// Lets partition `p`'s owner read up to `n` records, if it takes any.
    pub fn read(&mut self, p: usize, n: usize) {
        let part = &mut self.parts[p];
        let instance = &mut self.instances[part.owner];
        let number = u32::try_from(p).expect("few");
        let end = (part.read + n).min(part.input.len());
        if part.read == end || !instance.machine.takes_more(number) {
            return;
        }
        let records = Records::stored(0, number, &part.input[part.read..end]);
        instance.machine.records(&records, self.now_ms, &mut instance.outbox);
        part.read = end;
    }

    /// Lets instance `i` read up to `n` records of the digests.
    pub fn tail(&mut self, i: usize, n: usize) {
        let instance = &mut self.instances[i];
        let end = (instance.tailed + n).min(self.digest.len());
        for record in &self.digest[instance.tailed..end] {
            instance.machine.tailed(&record.as_record(), self.now_ms, &mut instance.outbox);
        }
        instance.tailed = end;
        let tick = Tick { now_ms: self.now_ms, at_end_for_ms: None };
        instance.machine.tick(0, tick, &mut instance.outbox);
    }

    /// Commits what instance `i` did, all of it together.
    pub fn commit(&mut self, i: usize) {
        let instance = &mut self.instances[i];
        for (number, _) in self.parts.iter().enumerate().filter(|(_, part)| part.owner == i) {
            let number = u32::try_from(number).expect("few");
            instance.machine.flush(number, self.now_ms, &mut instance.outbox);
        }
        for emitted in instance.outbox.emitted(DIGEST) {
            let offset = i64::try_from(self.digest.len()).expect("small");
            let (key, value) = (emitted.key, emitted.value);
            self.digest.push(StoredRecord { offset, key, value, ..StoredRecord::default() });
        }
        for emitted in instance.outbox.emitted(PREDICTIONS) {
            let partition = emitted.partition.expect("forecasts name their partition") as usize;
            self.predictions[partition].push(emitted.value.expect("forecasts have a value"));
        }
        for (number, key, value) in instance.outbox.entries() {
            let changelog = &mut self.parts[number as usize].changelog;
            match value {
                Some(value) => drop(changelog.insert(key, value)),
                None => drop(changelog.remove(&key)),
            }
        }
        instance.outbox.clear();
        self.parts.iter_mut().filter(|part| part.owner == i).for_each(|part| part.committed = part.read);
    }

    /// Everything is read, committed and forecast.
    pub fn finish(&mut self) {
        for _ in 0..100_000 {
            for p in 0..self.parts.len() {
                self.read(p, 50);
            }
            for i in 0..self.instances.len() {
                self.commit(i);
                self.tail(i, usize::MAX - self.digest.len());
                self.commit(i);
            }
            let read = self.parts.iter().all(|part| part.read == part.input.len());
            if read && self.instances.iter().all(|instance| instance.machine.is_settled()) {
                return;
            }
        }
        panic!("it does not come to an end");
    }

    /// How a challenger did, over all partitions.
    pub fn duel(&self, version: &str) -> Duel {
        let mut sum = Duel::default();
        self.instances.iter().for_each(|instance| sum.merge(&instance.machine.duel(version)));
        sum
    }

    /// How the model at work did lately, over all partitions and horizons.
    pub fn recent(&self) -> Score {
        let mut sum = Score::default();
        self.instances.iter().flat_map(|instance| instance.machine.recent()).for_each(|(_, score)| sum.merge(&score));
        sum
    }

    /// The committed forecasts, parsed.
    pub fn forecasts(&self) -> impl Iterator<Item = Prediction<'_>> {
        self.predictions.iter().flatten().map(|json| serde_json::from_slice(json).expect("a prediction"))
    }
}

/// What five minutes of a segment came to.
pub fn aggregate(segment: &str, step: i64, speed: f64, events: u64) -> Aggregate<'_> {
    let window_start = (step - 1) * STEP_MS;
    Aggregate {
        aggregate_id: format!("AGG_{segment}_{window_start}").into(),
        segment_id: segment.into(),
        window_start,
        window_end: step * STEP_MS,
        avg_speed: Some(speed),
        speed_stddev: None,
        speed_min: None,
        speed_max: None,
        vehicle_count: events * 3,
        occupancy_avg: 0.0,
        occupancy_max: None,
        congestion_level: None,
        coordinates: None,
        event_count: events,
        quality_score: 1.0,
    }
}

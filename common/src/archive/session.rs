//! One membership of the sink in its group: takes partitions over, fills batches, commits them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ArchiveError;
use super::batch::Batch;
use super::classify::classify;
use super::concurrent::{all, try_all};
use super::layout::{Hour, Place, Table};
use super::ledger::{Committed, Ledger};
use super::manifest::{Kind, Manifest, Start, VERSION, start};
use super::registrar::Notices;
use super::sink::{Control, Health, Sink};
use crate::clock::has_passed;
use crate::store::Store;
use crate::stream::{Event, Member, Record, Records, TopicPartition};

const POLL: Duration = Duration::from_millis(100);
/// After a failed flush the next one is tried this soon, to know when it works again, ms.
const PROBE_MS: i64 = 2_000;

pub(super) struct Session<'s> {
    sink: &'s Sink,
    control: &'s Control<'s>,
    health: &'s mut Health,
    /// Whether the group has given us our partitions, perhaps none.
    joined: bool,
    /// Ours, but not taken over yet.
    waiting: BTreeSet<u32>,
    /// When taking over failed, and the pause before it is tried again.
    failed_at_ms: i64,
    pause_ms: i64,
    owned: BTreeMap<u32, Owned>,
    /// Rows in memory, over all partitions.
    held_bytes: usize,
    /// What the group's offsets are to follow to.
    committed: BTreeMap<u32, i64>,
}

struct Owned {
    ledger: Ledger,
    batch: Batch,
    at_end: bool,
    /// Nothing was read since the partition was taken over: a jump may be retention's doing.
    fresh: bool,
}

impl<'s> Session<'s> {
    pub(super) fn new(sink: &'s Sink, control: &'s Control<'s>, health: &'s mut Health) -> Self {
        Self {
            sink,
            control,
            health,
            joined: false,
            waiting: BTreeSet::new(),
            failed_at_ms: i64::MIN,
            pause_ms: 0,
            owned: BTreeMap::new(),
            held_bytes: 0,
            committed: BTreeMap::new(),
        }
    }

    pub(super) fn run(&mut self) -> Result<(), ArchiveError> {
        let mut member = self.sink.log.join(&self.sink.membership())?;
        let outcome = self.serve(&mut *member);
        let left: Vec<u32> = self.owned.keys().copied().collect();
        self.forget(&left);
        outcome
    }

    fn serve(&mut self, member: &mut dyn Member) -> Result<(), ArchiveError> {
        loop {
            let stopping = (self.control.shutdown)();
            if let Some(revoked) = self.handle(member.poll(POLL)?)? {
                self.revoked(&revoked)?;
                self.commit_offsets(member)?;
                member.release()?;
            }
            self.take_over_waiting(member)?;
            self.flush_due()?;
            if stopping {
                return self.stop(member);
            }
            if self.control.exit_at_end && self.at_end() {
                self.flush(&self.unflushed())?;
                return self.commit_offsets(member);
            }
            self.commit_offsets(member)?;
            if self.owned.contains_key(&0) && !self.control.exit_at_end {
                let notices = self.health.registrar();
                self.health.schedule.look(self.sink, notices);
            }
        }
    }

    /// Takes in what the poll brought; returns what is to be let go.
    fn handle(&mut self, event: Event<'_>) -> Result<Option<Vec<TopicPartition>>, ArchiveError> {
        match event {
            Event::Idle => {}
            Event::Assigned(partitions) => {
                self.joined = true;
                self.waiting.extend(partitions.iter().map(|at| at.partition));
                if self.waiting.is_empty() {
                    (self.control.ready)(true);
                }
            }
            Event::Revoked(partitions) => return Ok(Some(partitions)),
            Event::Records(records) => self.records(&records)?,
            Event::End { partition, .. } => {
                if let Some(owned) = self.owned.get_mut(&partition) {
                    owned.at_end = true;
                }
            }
        }
        Ok(None)
    }

    fn at_end(&self) -> bool {
        self.joined && self.waiting.is_empty() && self.owned.values().all(|owned| owned.at_end)
    }

    fn place(&self, partition: u32) -> Place {
        Place { topic: self.sink.topic.clone(), partition }
    }

    fn at(&self, partition: u32) -> TopicPartition {
        TopicPartition::new(self.sink.topic.clone(), partition)
    }

    /// Finishes what the last owners left and begins to read. While the store is out of reach this is tried
    /// again and again, and the log goes on being polled.
    fn take_over_waiting(&mut self, member: &mut dyn Member) -> Result<(), ArchiveError> {
        let now_ms = self.sink.clock.now_ms();
        if self.waiting.is_empty() || !has_passed(self.pause_ms, self.failed_at_ms, now_ms) {
            return Ok(());
        }
        let places: Vec<Place> = self.waiting.iter().map(|partition| self.place(*partition)).collect();
        let store = &self.sink.store;
        let taking = async { try_all(places.iter().map(|place| Ledger::take_over(store, place)).collect()).await };
        match self.sink.wait(self.control, taking) {
            Ok(ledgers) => self.begin(ledgers, member),
            Err(ArchiveError::Retry(error)) => {
                (self.control.ready)(false);
                let pause = self.health.failed(&self.sink.config);
                self.failed_at_ms = now_ms;
                self.pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
                tracing::warn!(
                    topic = self.sink.topic,
                    error,
                    "taking over {}: {error}; trying again",
                    self.sink.topic
                );
                Ok(())
            }
            Err(fatal) => Err(fatal),
        }
    }

    fn begin(&mut self, ledgers: Vec<Ledger>, member: &mut dyn Member) -> Result<(), ArchiveError> {
        let mut starts = Vec::new();
        for mut ledger in ledgers {
            let partition = ledger.place().partition;
            let at = self.at(partition);
            let archived_end = ledger.chain().end();
            let ends = self.sink.log.ends(&at)?;
            let next = match start(archived_end, ends) {
                Start::At(next) => next,
                Start::AfterGap { first, end } => {
                    self.commit_gap(&mut ledger, first, end)?;
                    end
                }
                Start::LogTooShort => {
                    return Err(ArchiveError::Fatal(format!(
                        "{at} ends at offset {}, but the archive already holds it up to {archived_end}: the topic was \
                         deleted and made anew, or this is another log; move /traffic-data/_commits/{} away to \
                         archive it from its beginning",
                        ends.high, at.topic
                    )));
                }
            };
            tracing::info!(topic = at.topic, partition, next, "archiving {at} from offset {next}");
            let batch = Batch::new(ledger.place(), next, (self.sink.batch_id)());
            self.owned.insert(partition, Owned { ledger, batch, at_end: false, fresh: true });
            self.committed.insert(partition, next);
            starts.push((at, Some(next)));
        }
        member.start(&starts)?;
        self.waiting.clear();
        // The last owner may not have come to it.
        if let Some(registrar) = self.health.registrar() {
            registrar.look();
        }
        if !self.health.flush_failed {
            self.health.recovered();
            (self.control.ready)(true);
        }
        Ok(())
    }

    /// Records in the chain that the log has forgotten a range.
    fn commit_gap(&mut self, ledger: &mut Ledger, first: i64, end: i64) -> Result<(), ArchiveError> {
        let Place { topic, partition } = ledger.place().clone();
        tracing::error!(
            topic,
            partition,
            first,
            end,
            "{topic}-{partition}: offsets {first} to {end} were deleted by retention before they were archived"
        );
        metrics::counter!("traffic_archive_gaps_total", "topic" => topic.clone()).increment(1);
        let manifest = Manifest {
            version: VERSION,
            kind: Kind::Gap,
            topic,
            partition,
            first,
            end,
            batch: (self.sink.batch_id)(),
            created_ms: self.sink.clock.now_ms(),
            files: Vec::new(),
        };
        let committed = self.sink.wait(self.control, ledger.commit(manifest))?;
        if committed == Committed::Overtaken {
            return Err(overtaken(ledger.place()));
        }
        self.health.summary.gaps += 1;
        Ok(())
    }

    fn records(&mut self, records: &Records<'_>) -> Result<(), ArchiveError> {
        let now_ms = self.sink.clock.now_ms();
        let partition = records.partition;
        for record in records.iter() {
            let Some(owned) = self.owned.get_mut(&partition) else { return Ok(()) };
            owned.at_end = false;
            let next = owned.batch.next();
            if record.offset < next {
                continue;
            }
            // A transaction marker takes one offset. A longer jump, or the first, may be retention's.
            if record.offset > next + 1 || (owned.fresh && record.offset > next) {
                self.check_jump(partition, next, record.offset)?;
            }
            self.add(partition, &record, now_ms)?;
        }
        Ok(())
    }

    fn check_jump(&mut self, partition: u32, from: i64, to: i64) -> Result<(), ArchiveError> {
        let first_kept = self.sink.log.ends(&self.at(partition))?.first;
        if first_kept <= from {
            return Ok(());
        }
        self.flush(&[partition])?;
        let Some(mut owned) = self.owned.remove(&partition) else { return Ok(()) };
        let end = first_kept.min(to);
        self.commit_gap(&mut owned.ledger, from, end)?;
        owned.batch = Batch::new(owned.ledger.place(), end, (self.sink.batch_id)());
        self.owned.insert(partition, owned);
        Ok(())
    }

    fn add(&mut self, partition: u32, record: &Record<'_>, now_ms: i64) -> Result<(), ArchiveError> {
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(()) };
        owned.fresh = false;
        if record.watermark_ms().is_some() {
            owned.batch.skip_to(record.offset + 1, now_ms);
            return Ok(());
        }
        let placed = classify(self.sink.dataset, &self.sink.normaliser, record);
        let home = placed.home;
        let config = &self.sink.config;
        if owned.batch.opens(home) && owned.batch.hours() >= config.open_hours {
            self.flush(&[partition])?;
        }
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(()) };
        self.held_bytes += owned.batch.push(record, &placed, now_ms);
        if owned.batch.rows(home) >= config.row_group_rows {
            self.spill(partition, home)?;
        }
        while self.held_bytes as u64 > config.memory_bytes {
            let largest = self.owned.iter().filter_map(|(p, owned)| Some((*p, owned.batch.largest()?)));
            let Some((partition, (home, _))) = largest.max_by_key(|(_, (_, bytes))| *bytes) else { break };
            self.spill(partition, home)?;
        }
        Ok(())
    }

    /// Moves an hour's rows from memory to its file.
    fn spill(&mut self, partition: u32, home: (Table, Hour)) -> Result<(), ArchiveError> {
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(()) };
        let spilt = self.sink.wait(self.control, owned.batch.spill(&self.sink.store, &self.sink.config, home));
        self.health.flush_failed |= spilt.is_err();
        self.held_bytes -= spilt?;
        Ok(())
    }

    fn unflushed(&self) -> Vec<u32> {
        self.owned.iter().filter(|(_, owned)| !owned.batch.is_empty()).map(|(partition, _)| *partition).collect()
    }

    fn flush_due(&mut self) -> Result<(), ArchiveError> {
        let (config, now_ms) = (&self.sink.config, self.sink.clock.now_ms());
        let patience_ms = i64::try_from(config.flush_interval_s * 1000).unwrap_or(i64::MAX);
        let patience_ms = if self.health.flush_failed { patience_ms.min(PROBE_MS) } else { patience_ms };
        let due = |batch: &Batch| {
            !batch.is_empty() && (batch.is_overdue(patience_ms, now_ms) || batch.file_bytes() >= config.file_bytes)
        };
        let due: Vec<u32> = self.owned.iter().filter(|(_, owned)| due(&owned.batch)).map(|(p, _)| *p).collect();
        if due.is_empty() { Ok(()) } else { self.flush(&due) }
    }

    /// Commits the batches of these partitions, at once; those that could be are committed even where
    /// another fails.
    fn flush(&mut self, partitions: &[u32]) -> Result<(), ArchiveError> {
        let now_ms = self.sink.clock.now_ms();
        let mut work = Vec::new();
        for (partition, owned) in self.owned.iter_mut().filter(|(partition, _)| partitions.contains(partition)) {
            if owned.batch.is_empty() {
                continue;
            }
            let fresh = Batch::new(owned.ledger.place(), owned.batch.next(), (self.sink.batch_id)());
            let batch = std::mem::replace(&mut owned.batch, fresh);
            self.held_bytes -= batch.bytes();
            work.push(commit(self.sink, *partition, &mut owned.ledger, batch, self.health.registrar(), now_ms));
        }
        let outcomes = self.sink.wait(self.control, async { Ok(all(work).await) });
        self.health.flush_failed |= outcomes.is_err();
        let mut failure = None;
        for outcome in outcomes? {
            match outcome {
                Ok(done) => self.note(&done),
                Err(error) => failure = Some(error),
            }
        }
        self.health.flush_failed = failure.is_some();
        match failure {
            Some(error) => Err(error),
            None => {
                self.health.recovered();
                (self.control.ready)(true);
                Ok(())
            }
        }
    }

    fn note(&mut self, done: &Flushed) {
        self.committed.insert(done.partition, done.end);
        let summary = &mut self.health.summary;
        summary.manifests += 1;
        summary.rows += done.rows;
        summary.files += done.files;
        summary.file_bytes += done.file_bytes;
        let topic = &self.sink.topic;
        metrics::counter!("traffic_archive_rows_total", "topic" => topic.clone()).increment(done.rows);
        metrics::counter!("traffic_archive_files_total", "topic" => topic.clone()).increment(done.files);
        metrics::counter!("traffic_archive_bytes_total", "topic" => topic.clone()).increment(done.file_bytes);
    }

    /// Lets the group's offsets follow the manifests.
    fn commit_offsets(&mut self, member: &mut dyn Member) -> Result<(), ArchiveError> {
        if self.committed.is_empty() {
            return Ok(());
        }
        let offsets: Vec<_> = self.committed.iter().map(|(partition, next)| (self.at(*partition), *next)).collect();
        member.commit(&offsets)?;
        self.committed.clear();
        Ok(())
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), ArchiveError> {
        let partitions: Vec<u32> = partitions.iter().map(|at| at.partition).collect();
        match self.flush(&partitions) {
            Err(ArchiveError::Retry(error)) => {
                tracing::warn!(
                    topic = self.sink.topic,
                    error,
                    "flush at revocation: {error}; the next owner reads again"
                );
            }
            flushed => flushed?,
        }
        self.waiting.retain(|partition| !partitions.contains(partition));
        self.forget(&partitions);
        Ok(())
    }

    /// Drops what is open of these partitions.
    fn forget(&mut self, partitions: &[u32]) {
        let batches: Vec<Batch> =
            partitions.iter().filter_map(|partition| self.owned.remove(partition)).map(|owned| owned.batch).collect();
        self.held_bytes -= batches.iter().map(Batch::bytes).sum::<usize>();
        let store = &self.sink.store;
        let discarding = async {
            all(batches.iter().map(|batch| batch.discard(store)).collect()).await;
            Ok(())
        };
        // Best effort: takeovers remove what stays.
        let _ = self.sink.wait(self.control, discarding);
    }

    fn stop(&mut self, member: &mut dyn Member) -> Result<(), ArchiveError> {
        match self.flush(&self.unflushed()) {
            Err(ArchiveError::Retry(error)) => {
                tracing::warn!(
                    topic = self.sink.topic,
                    error,
                    "flush at shutdown: {error}; the next start reads again"
                );
            }
            flushed => flushed?,
        }
        self.commit_offsets(member)
    }
}

/// A committed batch.
struct Flushed {
    partition: u32,
    end: i64,
    rows: u64,
    files: u64,
    file_bytes: u64,
}

async fn commit(
    sink: &Sink,
    partition: u32,
    ledger: &mut Ledger,
    mut batch: Batch,
    registrar: Option<Notices>,
    now_ms: i64,
) -> Result<Flushed, ArchiveError> {
    let store: &Store = &sink.store;
    let manifest = match batch.finish(store, &sink.config, now_ms).await {
        Ok(manifest) => manifest,
        Err(error) => {
            batch.discard(store).await;
            return Err(error);
        }
    };
    let flushed = Flushed {
        partition,
        end: manifest.end,
        rows: manifest.files.iter().map(|file| file.rows).sum(),
        files: manifest.files.len() as u64,
        file_bytes: manifest.files.iter().map(|file| file.size_bytes).sum(),
    };
    let files = registrar.is_some().then(|| manifest.files.clone());
    match ledger.commit(manifest).await? {
        Committed::Done => {}
        Committed::Overtaken => return Err(overtaken(ledger.place())),
    }
    if let (Some(registrar), Some(files)) = (registrar, files) {
        registrar.committed(&files);
    }
    if ledger.chain().manifests.len() >= sink.config.checkpoint_manifests {
        ledger.write_checkpoint().await?;
    }
    Ok(flushed)
}

fn overtaken(place: &Place) -> ArchiveError {
    ArchiveError::Retry(format!("another instance archived {}-{} meanwhile", place.topic, place.partition))
}

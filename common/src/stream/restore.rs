//! What happens between an assignment and its first record.
//!
//! The markers of one transaction reach the offsets topic and the changelog at different moments
//! (Kafka Streams learnt it in KAFKA-10167), so the order is fixed: (1) the *stable* committed offsets;
//! (2) then the changelog's high watermark, open transactions included; (3) wait until its read_committed
//! end has reached it; (4) only then read the changelog to its end; (5) see that both agree; (6) read on from (1). Any
//! shorter way can lose committed state.
//!
//! A broker can lose sight of a transaction's end: the log holds its marker, the group's coordinator has (1) pending for
//! good. So a takeover that finds (1) unstable after more time than a transaction can take does without: with (2) taken
//! after that time, (3) and (4) lead to the changelog's place (`place.rs`), which is the group's offset, since
//!
//! - whoever hands offsets to the group has their place in the changelog before;
//! - the group takes none from members of earlier generations: what is pending was handed over before our assignment, and
//!   its place stands below (2);
//! - at (3) all of these are decided, so the place read at (4) is that of the last commit.
//!
//! The time proves nothing: it tells a transaction that is under way, behind which (5) is possible, from one whose end
//! nobody will see. Without a place nothing is known, and the takeover waits on.

use tracing::warn;

use super::log::{Log, LogError, TopicPartition};
use super::machine::Machine;
use super::place::{self, Found};

/// The restoration of one partition number, advanced without blocking.
#[derive(Debug)]
pub(crate) struct Restore {
    pub partition: u32,
    inputs: Vec<TopicPartition>,
    changelog: Option<TopicPartition>,
    /// Set by (1).
    committed: Option<Vec<Option<i64>>>,
    /// Why (1) has not been answered.
    unstable: Option<String>,
    /// Set by (2).
    high: Option<i64>,
    /// Where the changelog's undecided transaction begins, once one was met at (3).
    undecided: Option<i64>,
    /// Set by (4); empty if the changelog has none.
    place: Option<Vec<Option<i64>>>,
}

/// Where an input of a restored partition is read on from.
#[derive(Debug)]
pub(crate) struct Start {
    pub at: TopicPartition,
    /// `None`: the first record kept.
    pub from: Option<i64>,
    /// Whether that is known to be the group's own offset: not one behind records that are gone, nor the changelog's place.
    pub is_committed: bool,
}

impl Restore {
    pub fn new(partition: u32, inputs: &[String], changelog: Option<&str>) -> Self {
        Self {
            partition,
            inputs: inputs.iter().map(|topic| TopicPartition::new(topic, partition)).collect(),
            changelog: changelog.map(|topic| TopicPartition::new(topic, partition)),
            committed: None,
            unstable: None,
            high: None,
            undecided: None,
            place: None,
        }
    }

    /// What to tell whoever waits for it longer than a transaction of ours can take.
    pub fn why_so_long(&self) -> Option<String> {
        let Some((changelog, from)) = self.changelog.as_ref().zip(self.undecided) else {
            let why = self.unstable.as_ref()?;
            return Some(format!("partition {} is not taken over, and nothing of it goes on: {why}", self.partition));
        };
        Some(format!(
            "{changelog} has a transaction that began at offset {from} and is not decided, though its time is over: the \
             broker has lost sight of it, and nothing of this partition goes on. To end it: kafka-transactions.sh \
             --bootstrap-server … abort --topic {} --partition {} --start-offset {from}",
            changelog.topic, changelog.partition
        ))
    }

    /// Goes as far as it can; `None` while a transaction of the last owner is still undecided. `overdue`: our assignment
    /// is longer ago than a transaction can take.
    ///
    /// # Errors
    /// Those of the log; `Fatal` if the group's offsets, the changelog and the inputs contradict each other.
    pub fn advance(
        &mut self,
        log: &dyn Log,
        group: &str,
        machine: &mut dyn Machine,
        overdue: bool,
    ) -> Result<Option<Vec<Start>>, LogError> {
        if self.committed.is_none() {
            match log.committed(group, &self.inputs) {
                Ok(committed) => {
                    // What was read before proves nothing of these.
                    (self.committed, self.unstable, self.high, self.place) = (Some(committed), None, None, None);
                }
                Err(LogError::Unstable(why)) => self.unstable = Some(why),
                Err(error) => return Err(error),
            }
        }
        if (self.committed.is_none() && !overdue) || !self.read_changelog(log, machine)? {
            return Ok(None);
        }
        let place = self.place.as_deref().unwrap_or_default();
        if self.committed.is_none() && place.is_empty() {
            return Ok(None);
        }
        if let (Some(changelog), Some(why)) = (&self.changelog, &self.unstable) {
            warn!(
                partition = self.partition,
                ?place,
                "the group's offsets are unstable for longer than a transaction can take; reading on from the place in \
                 {changelog}, where every commit has put them too: nothing is lost or doubled. {why}"
            );
        }
        let mut starts = Vec::new();
        for (number, input) in self.inputs.iter().enumerate() {
            let state = place.get(number).copied().flatten();
            let committed = self.committed.as_ref().map_or(state, |committed| committed[number]);
            let changelog = self.changelog.as_ref().map(|changelog| (changelog, state));
            let found = Found { input, group, committed, changelog, ends: log.ends(input)? };
            let from = found.start().or_else(|refusal| {
                // They may differ because the group has gone on meanwhile: with others, without us.
                Err(if self.committed.is_none() || log.committed(group, &self.inputs)?[number] == committed {
                    refusal
                } else {
                    LogError::Retry(format!("{input} is read by others"))
                })
            })?;
            let is_committed = self.committed.is_some() && from == committed;
            starts.push(Start { at: input.clone(), from, is_committed });
        }
        Ok(Some(starts))
    }

    /// (2), (3), (4); `false` while (3) has to wait.
    fn read_changelog(&mut self, log: &dyn Log, machine: &mut dyn Machine) -> Result<bool, LogError> {
        let Some(changelog) = &self.changelog else { return Ok(true) };
        if self.place.is_some() {
            return Ok(true);
        }
        let high = match self.high {
            Some(high) => high,
            None => *self.high.insert(log.ends(changelog)?.high),
        };
        let stable = log.ends(changelog)?.stable;
        self.undecided = (stable < high).then_some(stable);
        if self.undecided.is_some() {
            return Ok(false);
        }
        let (partition, mut place) = (self.partition, Vec::new());
        let mut reader = log.read(changelog, None)?;
        while reader.next(&mut |entry| match entry.key {
            Some(place::KEY) => place = entry.value.and_then(place::decode).unwrap_or_default(),
            Some(key) => machine.restore(partition, key, entry.value),
            None => {}
        })? {}
        self.place = Some(place);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;
    use crate::stream::memory::{Fault, Faults, MemoryLog, Point};
    use crate::stream::{Cleanup, Event, Member, Membership, Outbox, Outgoing, Records, Tick, TopicSpec};

    /// Every commit is lost sight of.
    struct Sightless;

    impl Faults for Sightless {
        fn at(&mut self, _process: &str, _point: Point) -> Fault {
            Fault::None
        }

        fn delays_markers(&mut self, _process: &str) -> bool {
            false
        }

        fn loses_sight(&mut self, _process: &str) -> bool {
            true
        }

        fn below(&mut self, _process: &str, _n: usize) -> usize {
            0
        }
    }

    struct Stateless;

    impl Machine for Stateless {
        fn assign(&mut self, _partition: u32, _partitions: u32) {}
        fn restore(&mut self, _partition: u32, _key: &[u8], _value: Option<&[u8]>) {}
        fn records(&mut self, _records: &Records<'_>, _now_ms: i64, _out: &mut Outbox) {}
        fn tick(&mut self, _partition: u32, _tick: Tick, _out: &mut Outbox) {}
        fn flush(&mut self, _partition: u32, _now_ms: i64, _out: &mut Outbox) {}
        fn release(&mut self, _partition: u32) {}
    }

    /// A log, its one member, and an input with nine records.
    fn scene() -> (MemoryLog, Box<dyn Member>) {
        let log = MemoryLog::with_faults(Arc::new(ManualClock::at(0)), Box::new(Sightless));
        let spec = |name: &str| {
            let cleanup = Cleanup::Delete { retention_ms: None };
            TopicSpec { name: name.to_owned(), partitions: 1, replication: 1, cleanup }
        };
        log.ensure_topics(&[spec("in"), spec("state")]).expect("topics");
        let mut producer = log.producer().expect("a producer");
        for _ in 0..9 {
            let record = Outgoing { topic: "in", partition: Some(0), key: None, value: Some(b"x"), headers: &[] };
            producer.send(&record).expect("sent");
        }
        let membership = Membership {
            application_id: "worker".to_owned(),
            instance: "one".to_owned(),
            inputs: vec!["in".to_owned()],
            transactional: true,
        };
        let mut member = log.join(&membership).expect("joined");
        assert!(matches!(member.poll(Duration::ZERO), Ok(Event::Assigned(_))));
        (log, member)
    }

    fn keep_place(member: &mut dyn Member, next: i64) {
        let value = place::encode(&[Some(next)]);
        let (topic, key) = ("state", Some(place::KEY));
        member.send(&Outgoing { topic, partition: Some(0), key, value: Some(&value), headers: &[] }).expect("sent");
    }

    fn commit(member: &mut dyn Member, next: i64) {
        member.commit(&[(TopicPartition::new("in", 0), next)]).expect("committed");
    }

    fn restoration(changelog: Option<&str>) -> Restore {
        Restore::new(0, &["in".to_owned()], changelog)
    }

    /// Where it reads on, and whether that is the group's own offset; `None` while it waits.
    fn advance(restore: &mut Restore, log: &MemoryLog, overdue: bool) -> Result<Option<(Option<i64>, bool)>, LogError> {
        let starts = restore.advance(log, "worker", &mut Stateless, overdue)?;
        Ok(starts.map(|starts| (starts[0].from, starts[0].is_committed)))
    }

    #[test]
    fn a_commit_that_was_lost_sight_of_is_found_in_the_changelog_once_its_time_is_over() {
        let (log, mut member) = scene();
        keep_place(member.as_mut(), 3);
        commit(member.as_mut(), 3);
        let mut restore = restoration(Some("state"));
        assert!(matches!(advance(&mut restore, &log, false), Ok(None)));
        assert!(matches!(advance(&mut restore, &log, true), Ok(Some((Some(3), false)))));
        log.restart_coordinator();
        assert!(matches!(advance(&mut restoration(Some("state")), &log, true), Ok(Some((Some(3), true)))));
    }

    #[test]
    fn a_transaction_that_is_open_is_waited_for_even_then() {
        let (log, mut member) = scene();
        keep_place(member.as_mut(), 3);
        commit(member.as_mut(), 3);
        keep_place(member.as_mut(), 5);
        let mut restore = restoration(Some("state"));
        assert!(matches!(advance(&mut restore, &log, true), Ok(None)));
        let why = restore.why_so_long().expect("it waits");
        assert!(why.contains("state-0") && why.contains("--start-offset 2"), "{why}");
        commit(member.as_mut(), 5);
        assert!(matches!(advance(&mut restore, &log, true), Ok(Some((Some(5), false)))));
    }

    #[test]
    fn without_a_place_nothing_is_known() {
        let (log, mut member) = scene();
        commit(member.as_mut(), 3);
        let (mut stateless, mut emptied) = (restoration(None), restoration(Some("state")));
        for restore in [&mut stateless, &mut emptied] {
            assert!(matches!(advance(restore, &log, true), Ok(None)));
            let why = restore.why_so_long().expect("it waits");
            assert!(why.contains("partition 0") && why.contains("unstable"), "{why}");
        }
        log.restart_coordinator();
        assert!(matches!(advance(&mut stateless, &log, true), Ok(Some((Some(3), true)))));
        let refusal = advance(&mut emptied, &log, true).expect_err("the group stands at 3");
        assert!(matches!(&refusal, LogError::Fatal(why) if why.contains("emptied")), "{refusal}");
    }

    #[test]
    fn a_place_behind_the_input_is_refused_without_the_group_too() {
        let (log, mut member) = scene();
        keep_place(member.as_mut(), 10);
        commit(member.as_mut(), 10);
        let refusal = advance(&mut restoration(Some("state")), &log, true).expect_err("the input ends at 9");
        assert!(matches!(&refusal, LogError::Fatal(why) if why.contains("ends at 9")), "{refusal}");
    }
}

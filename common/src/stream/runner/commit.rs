//! When a transaction is committed, and what it holds: outputs, changed state, the place, the inputs' offsets.

use std::collections::BTreeSet;

use super::Runner;
use crate::clock::has_passed;
use crate::stream::log::{LogError, Outgoing, TopicPartition};
use crate::stream::machine::{Destination, Machine};
use crate::stream::place;
use crate::stream::topology::Notice;

/// In a backlog commits come so many times rarer, and what changes often is written less often.
const BACKLOG_INTERVALS: i64 = 5;

impl<M: Machine> Runner<M> {
    pub(super) fn due(&self, now_ms: i64) -> bool {
        let interval_ms = self.pace.commit_interval_ms * if self.behind { BACKLOG_INTERVALS } else { 1 };
        let is_full = self.uncommitted >= self.pace.commit_records || self.open_bytes >= self.pace.commit_bytes;
        (self.uncommitted > 0 || self.open) && (is_full || has_passed(interval_ms, self.committed_at_ms, now_ms))
    }

    /// Hands the outbox to the log's open transaction.
    pub(super) fn send(&mut self) -> Result<(), LogError> {
        self.urgent |= self.outbox.take_urgent();
        if self.outbox.is_empty() {
            return Ok(());
        }
        let member = self.member.as_mut().expect("a machine works only while its runner is a member");
        for entry in self.outbox.iter() {
            let topic = match entry.destination {
                Destination::Output(index) => &self.topology.outputs[index],
                Destination::Changelog => match &self.topology.changelog {
                    Some(changelog) => changelog,
                    None => continue,
                },
            };
            if let Some(input) = self.topology.membership.inputs.iter().position(|input| input == topic) {
                self.grown.push((input, entry.partition));
            }
            member.send(&Outgoing {
                topic,
                partition: entry.partition,
                key: entry.key,
                value: entry.value,
                headers: &entry.headers,
            })?;
        }
        self.open_bytes += self.outbox.bytes();
        self.outbox.clear();
        self.open = true;
        Ok(())
    }

    pub(super) fn commit(&mut self) -> Result<(), LogError> {
        let now_ms = self.clock.now_ms();
        self.committed_at_ms = now_ms;
        if self.member.is_none() {
            return Ok(());
        }
        for &partition in self.held.keys() {
            self.machine.flush(partition, now_ms, &mut self.outbox);
        }
        self.send()?;
        let mut offsets = Vec::new();
        for (&partition, held) in &self.held {
            for (input, topic) in self.topology.membership.inputs.iter().enumerate() {
                if let (true, Some(next)) = (held.moved[input], held.positions[input]) {
                    offsets.push((TopicPartition::new(topic, partition), next));
                }
            }
        }
        if offsets.is_empty() && !self.open {
            return Ok(());
        }
        if offsets.is_empty() {
            offsets.extend(self.place()?);
        }
        self.keep_place(&offsets)?;
        self.member.as_mut().expect("checked above").commit(&offsets)?;
        self.held.values_mut().for_each(|held| held.moved.fill(false));
        // Our own inputs have grown just now: an end that was confirmed before is the end no longer.
        for (input, to) in self.grown.drain(..) {
            let grown = self.held.iter_mut().filter(|(number, _)| to.is_none_or(|to| to == **number));
            grown.for_each(|(_, held)| held.ends[input] = None);
        }
        let records = std::mem::take(&mut self.uncommitted);
        self.open = false;
        self.open_bytes = 0;
        self.urgent = false;
        (self.observer)(Notice::Committed { records, machine: &self.machine });
        Ok(())
    }

    /// Notes in the changelog what is about to be committed.
    fn keep_place(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        let Some(changelog) = &self.topology.changelog else { return Ok(()) };
        let member = self.member.as_mut().expect("commits only as a member");
        let partitions: BTreeSet<u32> = offsets.iter().map(|(at, _)| at.partition).collect();
        for (partition, held) in self.held.iter().filter(|(partition, _)| partitions.contains(partition)) {
            member.send(&Outgoing {
                topic: changelog,
                partition: Some(*partition),
                key: Some(place::KEY),
                value: Some(&place::encode(&held.positions)),
                headers: &[],
            })?;
        }
        Ok(())
    }

    /// Where we stand in some input. Even what was done without a record is committed with an offset: only by its
    /// offsets does the group see that a transaction comes from one whose partitions were given to others.
    fn place(&mut self) -> Result<Option<(TopicPartition, i64)>, LogError> {
        let inputs = &self.topology.membership.inputs;
        let known = self.held.iter().find_map(|(&partition, held)| {
            let place =
                |(topic, next): (&String, &Option<i64>)| Some((TopicPartition::new(topic, partition), (*next)?));
            inputs.iter().zip(&held.positions).find_map(place)
        });
        match (known, self.held.iter_mut().next(), inputs.first()) {
            (None, Some((&partition, held)), Some(topic)) => {
                let at = TopicPartition::new(topic, partition);
                let first = self.log.ends(&at)?.first;
                held.positions[0] = Some(first);
                Ok(Some((at, first)))
            }
            (known, ..) => Ok(known),
        }
    }
}

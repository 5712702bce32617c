//! A member: its place in the group and its transactions.

use std::time::Duration;

use super::group::{Group, offset_list};
use super::signal::Signal;
use super::transactions::Transactions;
use crate::stream::log::{Event, LogError, Member, Outgoing, TopicPartition};

/// A member of a group, or only its producer if there are no inputs.
pub(super) struct KafkaMember {
    /// Closed before the producer.
    pub group: Option<Group>,
    pub transactions: Option<Transactions>,
}

impl KafkaMember {
    fn group(&mut self) -> Result<&mut Group, LogError> {
        self.group.as_mut().ok_or_else(|| LogError::Fatal("a member without inputs has no partitions".to_owned()))
    }
}

impl Member for KafkaMember {
    fn poll(&mut self, timeout: Duration) -> Result<Event<'_>, LogError> {
        match &self.group {
            Some(group) => group.poll(timeout),
            None => {
                // Nothing ever comes.
                Signal::default().wait(timeout);
                Ok(Event::Idle)
            }
        }
    }

    fn start(&mut self, at: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
        self.group()?.start(at)
    }

    fn release(&mut self) -> Result<(), LogError> {
        self.group()?.release()
    }

    fn pause(&mut self, at: &[TopicPartition]) -> Result<(), LogError> {
        self.group()?.set_paused(at, true)
    }

    fn resume(&mut self, at: &[TopicPartition]) -> Result<(), LogError> {
        self.group()?.set_paused(at, false)
    }

    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), LogError> {
        match &mut self.transactions {
            Some(transactions) => transactions.send(record),
            None => Err(LogError::Fatal(format!("a member without transactions cannot write to {}", record.topic))),
        }
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        match &mut self.transactions {
            None if offsets.is_empty() => Ok(()),
            None => self.group()?.commit(offsets),
            Some(transactions) if offsets.is_empty() => {
                if transactions.is_open() {
                    transactions.commit(None)
                } else {
                    Ok(())
                }
            }
            Some(transactions) => {
                let Some(group) = &self.group else {
                    return Err(LogError::Fatal("a member without inputs has no offsets to commit".to_owned()));
                };
                transactions.commit(Some((offset_list(offsets)?, group.metadata()?)))
            }
        }
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.transactions.as_mut().map_or(Ok(()), Transactions::abort)
    }
}

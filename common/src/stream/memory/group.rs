//! A consumer group: static members, generations, the range assignor, transactional offsets.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::TransactionId;
use crate::stream::log::{LogError, TopicPartition};

pub(super) struct Group {
    inputs: Vec<String>,
    generation: u64,
    members: BTreeMap<String, MemberState>,
    /// Members whose partitions must be given back before the next generation begins.
    holding: BTreeSet<String>,
    rebalancing: bool,
    offsets: BTreeMap<TopicPartition, i64>,
    /// Offsets of transactions whose marker has not arrived here.
    pending: BTreeMap<TransactionId, Vec<(TopicPartition, i64)>>,
    /// By transactional id: offsets that are committed, which the coordinator has lost sight of.
    lost: BTreeMap<String, Vec<(TopicPartition, i64)>>,
    sessions: u64,
}

struct MemberState {
    /// A later session under the same name fences the earlier.
    session: u64,
    assignment: Vec<u32>,
    /// The generation this member has been told of.
    told: u64,
}

/// What a member has to do for its group.
pub(super) enum Duty {
    None,
    GiveBack(Vec<TopicPartition>),
    Take(Vec<TopicPartition>),
}

impl Group {
    pub fn new(inputs: &[String]) -> Self {
        Self {
            inputs: inputs.to_vec(),
            generation: 0,
            members: BTreeMap::new(),
            holding: BTreeSet::new(),
            rebalancing: false,
            offsets: BTreeMap::new(),
            pending: BTreeMap::new(),
            lost: BTreeMap::new(),
            sessions: 0,
        }
    }

    /// A known name takes its place back without a rebalance; a new one causes one. Returns the session.
    pub fn join(&mut self, instance: &str, topics: &BTreeMap<String, u32>) -> u64 {
        self.sessions += 1;
        let session = self.sessions;
        if let Some(member) = self.members.get_mut(instance) {
            member.session = session;
            member.told = 0;
            // A predecessor that died holds nothing any more.
            self.holding.remove(instance);
            self.finish_rebalance(topics);
            return session;
        }
        self.members.insert(instance.to_owned(), MemberState { session, assignment: Vec::new(), told: 0 });
        self.rebalance(topics);
        session
    }

    pub fn leave(&mut self, instance: &str, topics: &BTreeMap<String, u32>) {
        if self.members.remove(instance).is_some() {
            self.holding.remove(instance);
            self.rebalance(topics);
        }
    }

    fn rebalance(&mut self, topics: &BTreeMap<String, u32>) {
        if !self.rebalancing {
            self.rebalancing = true;
            let holders = self.members.iter().filter(|(_, m)| m.told == self.generation && !m.assignment.is_empty());
            self.holding = holders.map(|(name, _)| name.clone()).collect();
        }
        self.finish_rebalance(topics);
    }

    /// Begins the next generation once nobody holds partitions of the last.
    fn finish_rebalance(&mut self, topics: &BTreeMap<String, u32>) {
        if !self.rebalancing || !self.holding.is_empty() {
            return;
        }
        self.rebalancing = false;
        self.generation += 1;
        let partitions = self.inputs.first().and_then(|t| topics.get(t)).copied().unwrap_or(0) as usize;
        let count = self.members.len().max(1);
        let mut next = 0;
        for (i, member) in self.members.values_mut().enumerate() {
            let share = partitions / count + usize::from(i < partitions % count);
            member.assignment = (next..next + share).filter_map(|p| u32::try_from(p).ok()).collect();
            next += share;
        }
    }

    pub fn duty(&mut self, instance: &str, session: u64) -> Result<Duty, LogError> {
        let (rebalancing, generation) = (self.rebalancing, self.generation);
        let member = self.member(instance, session)?;
        let current = member.told == generation;
        if rebalancing && current && !member.assignment.is_empty() {
            let assignment = member.assignment.clone();
            return Ok(Duty::GiveBack(parts(&self.inputs, &assignment)));
        }
        if rebalancing || current {
            return Ok(Duty::None);
        }
        member.told = generation;
        let assignment = member.assignment.clone();
        Ok(Duty::Take(parts(&self.inputs, &assignment)))
    }

    pub fn gave_back(&mut self, instance: &str, session: u64, topics: &BTreeMap<String, u32>) -> Result<(), LogError> {
        let member = self.member(instance, session)?;
        member.told = 0;
        member.assignment.clear();
        self.holding.remove(instance);
        self.finish_rebalance(topics);
        Ok(())
    }

    fn member(&mut self, instance: &str, session: u64) -> Result<&mut MemberState, LogError> {
        match self.members.get_mut(instance) {
            None => Err(LogError::Retry(format!("{instance} is no member: its session has expired"))),
            Some(member) if member.session != session => {
                Err(LogError::Fatal(format!("another process uses the instance name {instance}")))
            }
            Some(member) => Ok(member),
        }
    }

    /// Whether this session may still commit: it is a member and knows the current generation.
    pub fn may_commit(&mut self, instance: &str, session: u64) -> Result<(), LogError> {
        let generation = self.generation;
        let member = self.member(instance, session)?;
        if member.told == generation { Ok(()) } else { Err(LogError::Retry("illegal generation".into())) }
    }

    pub fn add_pending(&mut self, id: TransactionId, offsets: &[(TopicPartition, i64)]) {
        self.pending.entry(id).or_default().extend_from_slice(offsets);
    }

    pub fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Vec<String> {
        let mut violations = Vec::new();
        for (at, next) in offsets {
            let before = self.offsets.insert(at.clone(), *next);
            if let Some(before) = before.filter(|before| before > next) {
                violations.push(format!("the committed offset of {at} moved back from {before} to {next}"));
            }
        }
        violations
    }

    pub fn mark(&mut self, id: TransactionId, transactional_id: &str, committed: bool) -> Vec<String> {
        match self.pending.remove(&id) {
            Some(offsets) if committed => {
                // Its commits before it become visible with it.
                let lost = self.lost.remove(transactional_id).unwrap_or_default();
                self.catch_up(lost);
                self.commit(&offsets)
            }
            _ => Vec::new(),
        }
    }

    /// The transaction's marker is in the log, and its offsets stay pending.
    pub fn lose_sight(&mut self, id: TransactionId, transactional_id: &str) {
        let offsets = self.pending.remove(&id).unwrap_or_default();
        self.lost.entry(transactional_id.to_owned()).or_default().extend(offsets);
    }

    /// Reads from the log what was decided.
    pub fn reload(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        self.catch_up(lost.into_values().flatten().collect());
    }

    /// Others may have committed since: the later one counts.
    fn catch_up(&mut self, lost: Vec<(TopicPartition, i64)>) {
        for (at, next) in lost {
            let known = self.offsets.entry(at).or_insert(next);
            *known = next.max(*known);
        }
    }

    pub fn stable_offsets(&self, at: &[TopicPartition]) -> Result<Vec<Option<i64>>, LogError> {
        if self.pending.values().chain(self.lost.values()).flatten().any(|(pending, _)| at.contains(pending)) {
            return Err(LogError::Unstable("committed offsets are unstable: a transaction is undecided".into()));
        }
        Ok(at.iter().map(|at| self.offsets.get(at).copied()).collect())
    }
}

fn parts(inputs: &[String], numbers: &[u32]) -> Vec<TopicPartition> {
    numbers.iter().flat_map(|n| inputs.iter().map(|topic| TopicPartition::new(topic, *n))).collect()
}

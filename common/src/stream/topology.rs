//! A worker's place in the flow, its pace, and what its runner has to say.

use super::log::{Log, LogError, Membership};

/// A worker's place in the flow.
#[derive(Debug, Clone)]
pub struct Topology {
    pub membership: Membership,
    /// Output topics; a machine names them by index.
    pub outputs: Vec<String>,
    /// The compacted topic of state entries, with as many partitions as the inputs.
    pub changelog: Option<String>,
    /// A topic of one partition that every instance reads as a whole, while its machine waits for something.
    pub tail: Option<String>,
}

/// When the runner commits and ticks.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub commit_interval_ms: i64,
    /// Commit earlier after this many records.
    pub commit_records: usize,
    /// Commit earlier after writing this many bytes: a log may hold an open transaction in memory.
    pub commit_bytes: usize,
    pub tick_interval_ms: i64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { commit_interval_ms: 100, commit_records: 200_000, commit_bytes: 4 << 20, tick_interval_ms: 100 }
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Records were handled, or partitions moved.
    Worked,
    /// Nothing to do within the timeout.
    Idle,
    /// The input has ended, every input of every assigned partition stands at its end, and all of it is committed.
    AtEnd,
    /// Not a member, or waiting for the last owner's transaction: come again a little later.
    Waiting,
}

/// What the runner has to say to its worker: for readiness, metrics and logs.
pub enum Notice<'a, M> {
    /// Joined and restored.
    Ready { machine: &'a M },
    /// The session was lost; the runner joins again by itself.
    Lost(&'a LogError),
    /// A transaction was committed.
    Committed { records: usize, machine: &'a M },
}

/// Hears what happens to a runner.
pub type Observer<M> = Box<dyn FnMut(Notice<'_, M>) + Send>;

/// What to do about partitions that do not fit.
const WAY_OUT: &str = "Kafka can add partitions but not take them away: give the flow's other topics as many (kafka-topics \
    --alter), but not a changelog (…-state), and start all instances under another application id (--application-id, \
    TRAFFIC_APPLICATION_ID), which begins anew with a changelog that fits";

/// The number of partitions that inputs and changelog share.
pub(super) fn common_partitions(log: &dyn Log, topology: &Topology) -> Result<u32, LogError> {
    if let Some(tail) = &topology.tail
        && log.partitions(tail)? != Some(1)
    {
        return Err(LogError::Fatal(format!("topic {tail} must have one partition; create it with `traffic init`")));
    }
    let mut found: Option<(&String, u32)> = None;
    for topic in topology.membership.inputs.iter().chain(&topology.changelog) {
        let Some(partitions) = log.partitions(topic)? else {
            return Err(LogError::Fatal(format!("topic {topic} does not exist; create it with `traffic init`")));
        };
        match found {
            Some((first, expected)) if expected != partitions => {
                return Err(LogError::Fatal(format!(
                    "topic {topic} has {partitions} partitions, but {first} has {expected}; they are read together and must agree. {WAY_OUT}"
                )));
            }
            _ => found = Some((topic, partitions)),
        }
    }
    let Some((input, expected)) = found else { return Ok(1) };
    // What is made of a partition goes to the partition of that number; or all of it to the one there is.
    for output in &topology.outputs {
        if let Some(partitions) = log.partitions(output)?.filter(|partitions| (2..expected).contains(partitions)) {
            return Err(LogError::Fatal(format!(
                "topic {output} has {partitions} partitions, but {input} has {expected}, and what is made of a partition is \
                 written to the partition of that number. {WAY_OUT}"
            )));
        }
    }
    Ok(expected)
}

/// The topics must have as many partitions as when the process began: machines are told once.
pub(super) fn verify_partitions(log: &dyn Log, topology: &Topology, before: u32) -> Result<(), LogError> {
    match common_partitions(log, topology) {
        Ok(now) if now == before => Ok(()),
        Ok(now) => Err(LogError::Fatal(format!(
            "{:?} have {now} partitions now, and had {before} when this process began: start all instances again",
            topology.membership.inputs
        ))),
        // A broker that has just started may not know of it yet; and what was deleted may be made again.
        Err(LogError::Fatal(why)) if is_any_missing(log, topology)? => Err(LogError::Retry(why)),
        Err(error) => Err(error),
    }
}

fn is_any_missing(log: &dyn Log, topology: &Topology) -> Result<bool, LogError> {
    for topic in topology.membership.inputs.iter().chain(&topology.changelog).chain(&topology.tail) {
        if log.partitions(topic)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

//! What must hold after every history, whatever the machine.

use std::collections::BTreeMap;

use common::stream::{Log, Outbox, Record, Tick, TopicPartition};

use super::world::{Feed, Kind, World, each};

/// Announced by a partition that has never had an event; what it has later begins in the past.
pub const UNCONSTRAINED: i64 = i64::MAX;

/// Checks a finished history; says what does not hold.
pub fn check<F: Feed>(world: &World<'_, F>) -> Result<(), String> {
    if let Some(violation) = world.log.violations().first() {
        return Err(violation.clone());
    }
    for topic in &world.topics {
        (0..topic.partitions).try_for_each(|partition| markers_never_go_back(&world.log, &topic.name, partition))?;
    }
    for kind in &world.kinds {
        everything_was_read(&world.log, kind)?;
        a_successor_has_nothing_to_say(&world.log, kind, world.now_ms())?;
    }
    Ok(())
}

/// A partition's watermark markers never go back; in a topic to which many announce their watermarks, each of these.
fn markers_never_go_back(log: &dyn Log, topic: &str, partition: u32) -> Result<(), String> {
    let mut last: BTreeMap<Option<i64>, i64> = BTreeMap::new();
    let mut wrong = None;
    each(log, topic, partition, &mut |record| {
        let Some(marker) = record.watermark_ms().filter(|marker| *marker != UNCONSTRAINED) else { return };
        let before = last.insert(record.header_number("partition"), marker).unwrap_or(i64::MIN);
        if marker < before {
            wrong = Some(format!("a marker of {topic}-{partition} went back from {before} to {marker}"));
        }
    })?;
    wrong.map_or(Ok(()), Err)
}

/// Behind the committed offsets there is nothing left.
fn everything_was_read(log: &dyn Log, kind: &Kind<'_>) -> Result<(), String> {
    let membership = &kind.topology.membership;
    for topic in &membership.inputs {
        for partition in 0..partitions(log, topic)? {
            let at = TopicPartition::new(topic, partition);
            let committed = log.committed(&membership.application_id, std::slice::from_ref(&at));
            let from = committed.map_err(|e| e.to_string())?.first().copied().flatten();
            let mut left = 0;
            let mut reader = log.read(&at, from).map_err(|e| e.to_string())?;
            while reader.next(&mut |_| left += 1).map_err(|e| e.to_string())? {}
            if left > 0 {
                return Err(format!("{left} records of {at} were not read: its committed offset is {from:?}"));
            }
        }
    }
    Ok(())
}

/// No state without its output: a fresh machine, restored from the changelog alone, has nothing to write that is not
/// there already.
fn a_successor_has_nothing_to_say(log: &dyn Log, kind: &Kind<'_>, now_ms: i64) -> Result<(), String> {
    let (mut machine, mut outbox) = ((kind.machine)(), Outbox::default());
    let inputs = &kind.topology.membership.inputs;
    let count = inputs.first().map_or(Ok(0), |topic| partitions(log, topic))?;
    for partition in 0..count {
        machine.assign(partition, count);
        if let Some(changelog) = &kind.topology.changelog {
            let restore = &mut |entry: Record<'_>| {
                machine.restore(partition, entry.key.unwrap_or_default(), entry.value);
            };
            each(log, changelog, partition, restore)?;
        }
    }
    if let Some(tail) = &kind.topology.tail {
        each(log, tail, 0, &mut |record| machine.tailed(&record, now_ms, &mut outbox))?;
    }
    for partition in 0..count {
        machine.tick(partition, Tick { now_ms, at_end_for_ms: None }, &mut outbox);
        machine.flush(partition, now_ms, &mut outbox);
    }
    for (output, topic) in kind.topology.outputs.iter().enumerate() {
        // Announcements are made anew whenever a partition is taken over.
        if let Some(said) = outbox.emitted(output).iter().find(|emitted| emitted.value.is_some()) {
            let value = said.value.as_deref().unwrap_or_default();
            return Err(format!("a successor would still write to {topic}: {}", String::from_utf8_lossy(value)));
        }
    }
    Ok(())
}

/// What a changelog amounts to: by partition and key, the newest value that was not deleted.
pub type State = BTreeMap<(u32, Vec<u8>), Vec<u8>>;

/// What a machine would restore from a changelog. The runner's own entries, which begin with a zero, hold offsets: these
/// differ where transactions end elsewhere.
pub fn state(log: &dyn Log, changelog: &str) -> Result<State, String> {
    let mut state = State::new();
    for partition in 0..partitions(log, changelog)? {
        each(log, changelog, partition, &mut |record| {
            let key = (partition, record.key.unwrap_or_default().to_vec());
            if key.1.first() == Some(&0) {
                return;
            }
            match record.value {
                Some(value) => state.insert(key, value.to_vec()),
                None => state.remove(&key),
            };
        })?;
    }
    Ok(state)
}

/// Whether what would be restored is what would be restored if nothing had gone wrong.
pub fn same_state(found: &dyn Log, undisturbed: &dyn Log, changelog: &str) -> Result<(), String> {
    let (found, expected) = (state(found, changelog)?, state(undisturbed, changelog)?);
    match found.keys().chain(expected.keys()).find(|key| found.get(*key) != expected.get(*key)) {
        Some(key) => Err(format!(
            "{changelog}: state of {}-{} is {:?} instead of {:?}",
            key.0,
            String::from_utf8_lossy(&key.1),
            found.get(key),
            expected.get(key)
        )),
        None => Ok(()),
    }
}

fn partitions(log: &dyn Log, topic: &str) -> Result<u32, String> {
    Ok(log.partitions(topic).map_err(|e| e.to_string())?.unwrap_or(0))
}

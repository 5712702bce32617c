//! `traffic inspect topic NAME`: committed records as NDJSON.

use std::io::Write;

use anyhow::{Result, bail};
use common::stream::{Log, StoredRecord, TopicPartition};
use serde_json::{Map, Value, json};

/// Writes a topic's committed records, a line each, partition after partition.
///
/// # Errors
/// If the topic does not exist, the log does not answer or `out` can not be written.
pub fn topic(log: &dyn Log, name: &str, limit: Option<usize>, out: &mut dyn Write) -> Result<()> {
    let Some(partitions) = log.partitions(name)? else {
        bail!("topic {name} does not exist; `traffic init` creates the topics of the flow");
    };
    let mut left = limit.unwrap_or(usize::MAX);
    for partition in 0..partitions {
        let mut reader = log.read(&TopicPartition::new(name, partition), None)?;
        let mut more = left > 0;
        while more {
            let mut batch: Vec<StoredRecord> = Vec::new();
            more = reader.next(&mut |record| batch.push(record.to_stored()))? && left > 0;
            for record in batch.iter().take(left) {
                serde_json::to_writer(&mut *out, &line(name, partition, record))?;
                out.write_all(b"\n")?;
            }
            left = left.saturating_sub(batch.len());
        }
    }
    Ok(())
}

fn line(topic: &str, partition: u32, record: &StoredRecord) -> Value {
    let headers: Map<String, Value> =
        record.headers.iter().map(|h| (h.name.clone(), Value::from(String::from_utf8_lossy(&h.value)))).collect();
    json!({
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": record.key.as_deref().map(String::from_utf8_lossy),
        "value": record.value.as_deref().map(value),
        "headers": headers,
    })
}

/// The value as JSON if it is JSON, else as text.
fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(bytes)))
}

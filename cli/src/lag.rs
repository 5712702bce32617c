//! `traffic lag`: how far each worker is behind the topics it reads.

use anyhow::{Result, bail};
use clap::Args;
use common::stream::{Log, LogError, TopicPartition};
use serde::Serialize;

use crate::flow::Reading;

/// How far a group is behind, partition by partition
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic lag                         what the aggregator and the archive have still to read
  traffic lag --group aggregator      one group
  traffic lag --json | jq '.lag'      for programs

`records` counts what a consumer would still be given; transaction markers take offsets but are no records.")]
pub struct LagArgs {
    /// Only these groups (application ids) [default: every worker's]
    #[arg(long = "group")]
    pub groups: Vec<String>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Row {
    group: String,
    topic: String,
    partition: u32,
    committed: Option<i64>,
    end: i64,
    records: u64,
}

pub fn run(args: &LagArgs, log: &dyn Log, readings: &[Reading]) -> Result<()> {
    let mut rows = Vec::new();
    let known: Vec<&str> = readings.iter().map(|r| r.group.as_str()).collect();
    if let Some(unknown) = args.groups.iter().find(|g| !known.contains(&g.as_str())) {
        bail!("--group {unknown}: no such group; known are {}", known.join(", "));
    }
    for reading in readings.iter().filter(|r| args.groups.is_empty() || args.groups.contains(&r.group)) {
        for topic in &reading.topics {
            let Some(partitions) = log.partitions(topic)? else {
                bail!("topic {topic} does not exist; create it with `traffic init`");
            };
            for partition in 0..partitions {
                rows.push(row(log, &reading.group, topic, partition)?);
            }
        }
    }
    let total: u64 = rows.iter().map(|r| r.records).sum();
    if args.json {
        println!("{}", serde_json::json!({ "lag": total, "partitions": rows }));
        return Ok(());
    }
    println!("{:<20} {:<32} {:>9} {:>12} {:>12} {:>10}", "GROUP", "TOPIC", "PARTITION", "COMMITTED", "END", "RECORDS");
    for r in &rows {
        let committed = r.committed.map_or("-".to_owned(), |c| c.to_string());
        println!(
            "{:<20} {:<32} {:>9} {:>12} {:>12} {:>10}",
            r.group, r.topic, r.partition, committed, r.end, r.records
        );
    }
    println!("{total} records to read");
    Ok(())
}

/// Beyond this many offsets the difference of offsets is exact enough.
const COUNTED: i64 = 100_000;

/// So often a transaction may be about to change an offset: the log waits a moment each time.
const ASKED: usize = 5;

fn committed(log: &dyn Log, group: &str, at: &TopicPartition) -> Result<Option<i64>, LogError> {
    let ask = || log.committed(group, std::slice::from_ref(at));
    for _ in 1..ASKED {
        match ask() {
            Err(LogError::Unstable(_)) => {}
            answer => return Ok(answer?[0]),
        }
    }
    Ok(ask()?[0])
}

fn row(log: &dyn Log, group: &str, topic: &str, partition: u32) -> Result<Row> {
    let at = TopicPartition::new(topic, partition);
    let committed = committed(log, group, &at)?;
    let ends = log.ends(&at)?;
    let from = committed.unwrap_or(ends.first).max(ends.first);
    let offsets = (ends.stable - from).max(0);
    let mut records = u64::try_from(offsets)?;
    if offsets > 0 && offsets <= COUNTED {
        records = 0;
        let mut reader = log.read(&at, Some(from))?;
        while reader.next(&mut |_| records += 1)? {}
    }
    Ok(Row { group: group.to_owned(), topic: topic.to_owned(), partition, committed, end: ends.stable, records })
}

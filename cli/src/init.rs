//! `traffic init`: makes the topics, and verifies what is there.

use anyhow::Result;
use clap::Args;
use common::worker::Process;

/// Create the topics that are missing and verify the others
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic init                                     topics in the embedded log
  TRAFFIC_LOG=kafka://kafka:9092 traffic init      topics on Kafka
  traffic init --json

Safe to run again. Directories of the store appear with their first file. A topic that exists with other
partitions or another cleanup policy is refused, with both named: Kafka can not shrink a topic, and growing one
would move segments between partitions.")]
pub struct InitArgs {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &InitArgs, process: &Process) -> Result<()> {
    let log = process.log()?;
    let mut rows = Vec::new();
    for spec in crate::flow::topics(&process.config) {
        let there = log.partitions(&spec.name)?.is_some();
        log.ensure_topics(std::slice::from_ref(&spec))?;
        rows.push(serde_json::json!({
            "topic": spec.name,
            "partitions": spec.partitions,
            "state": if there { "verified" } else { "created" },
        }));
        if !args.json {
            println!(
                "{:<34} {:>3} partitions  {}",
                spec.name,
                spec.partitions,
                if there { "verified" } else { "created" }
            );
        }
    }
    if args.json {
        println!("{}", serde_json::json!({ "topics": rows }));
    }
    Ok(())
}

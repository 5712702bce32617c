//! The aggregator process.

use std::process::ExitCode;

use aggregator::APPLICATION;
use clap::Parser;
use common::worker::{Failure, WorkerArgs, exit};

/// Sensor events to 5-minute aggregates per segment
#[derive(Debug, Parser)]
#[command(
    name = "aggregator",
    version,
    after_help = "Examples:
  aggregator                                       the embedded log
  TRAFFIC_LOG=kafka://kafka:9092 aggregator --instance a
  aggregator --exit-at-end                         catch up and exit

SIGTERM drains, commits and exits 0; a second signal ends at once.
Health and metrics: http://HOST:9102/health/live, /health/ready, /metrics."
)]
struct Arguments {
    #[command(flatten)]
    worker: WorkerArgs,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse().worker;
    exit(APPLICATION, run(&arguments))
}

fn run(arguments: &WorkerArgs) -> Result<(), Failure> {
    aggregator::run(arguments.settings()?, arguments.exit_at_end)
}

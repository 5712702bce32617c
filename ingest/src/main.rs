//! The ingest process.

use std::process::ExitCode;

use clap::Parser;
use common::worker::{Failure, WorkerArgs, exit};
use ingest::APPLICATION;

/// The raw archive of sensor events
#[derive(Debug, Parser)]
#[command(
    name = "ingest",
    version,
    after_help = "Examples:
  ingest                                       the embedded log
  TRAFFIC_LOG=kafka://kafka:9092 ingest --instance a
  ingest --exit-at-end                         catch up and exit

SIGTERM drains, commits and exits 0; a second signal ends at once.
Health and metrics: http://HOST:9101/health/live, /health/ready, /metrics."
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
    ingest::run(arguments.settings()?, arguments.exit_at_end)
}

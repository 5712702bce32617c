//! The predictor process.

use std::process::ExitCode;

use clap::Parser;
use common::worker::{Failure, WorkerArgs, exit};
use predictor::APPLICATION;

/// Aggregates to speed forecasts
#[derive(Debug, Parser)]
#[command(
    name = "predictor",
    version,
    after_help = "Examples:
  predictor                                       the embedded log
  TRAFFIC_LOG=kafka://kafka:9092 predictor --instance a
  predictor --exit-at-end                         catch up and exit

SIGTERM drains, commits and exits 0; a second signal ends at once.
Health and metrics: http://HOST:9103/health/live, /health/ready, /metrics."
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
    predictor::run(arguments.settings()?, arguments.exit_at_end)
}

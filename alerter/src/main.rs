//! The alerter process.

use std::process::ExitCode;

use alerter::APPLICATION;
use clap::Parser;
use common::worker::{Failure, WorkerArgs, exit};

/// Rules over forecasts and aggregates: alerts that open, escalate and end
#[derive(Debug, Parser)]
#[command(
    name = "alerter",
    version,
    after_help = "Examples:
  alerter                                       the embedded log
  TRAFFIC_LOG=kafka://kafka:9092 alerter --instance a
  alerter --exit-at-end                         catch up and exit

Rules are tables of the settings file, such as [alerter.predicted_congestion.NAME].
Operators speak to it by `traffic alerts`.

SIGTERM drains, commits and exits 0; a second signal ends at once.
Health and metrics: http://HOST:9104/health/live, /health/ready, /metrics."
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
    alerter::run(arguments.settings()?, arguments.exit_at_end)
}

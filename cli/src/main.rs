//! `traffic`: everything an operator does.

mod demo;
mod feed;
mod init;
mod inspect;
mod lag;
mod migrate;
mod replay;
mod simulate;
mod units;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand};
use common::config::Config;
use common::worker::Process;

/// Streaming traffic prediction: everything an operator does
#[derive(Debug, Parser)]
#[command(name = "traffic", version, propagate_version = true)]
struct Cli {
    /// Settings (TOML); variables like TRAFFIC_LOG go over it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Init(init::InitArgs),
    Replay(replay::ReplayArgs),
    Simulate(simulate::SimulateArgs),
    Migrate(migrate::MigrateArgs),
    Lag(lag::LagArgs),
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let config = Config::from_process(cli.config.as_deref(), &[])?;
    let process = Process::start("traffic", config, None)?;
    let (runtime, stop) = (process.runtime().clone(), process.shutdown.clone());
    match &cli.command {
        Command::Demo(args) => demo::run(args, &runtime, &stop),
        Command::Init(args) => init::run(args, &process),
        Command::Replay(args) => {
            let mut source = args.source()?;
            feed_log(&process, source.as_mut(), args.speed)
        }
        Command::Simulate(args) => {
            let mut source = args.source(process.clock.now_ms())?;
            if args.out == "log" { feed_log(&process, &mut source, feed::Speed::Max) } else { args.write(&mut source) }
        }
        Command::Migrate(args) => migrate::run(args, &process),
        Command::Lag(args) => lag::run(args, process.log()?.as_ref(), &readings(&process)),
        Command::Inspect(args) => inspect::run(args, &process),
        Command::Verify(args) => verify::run(args, &process),
    }
}

/// Sends a source's events to the topic of events.
fn feed_log(process: &Process, source: &mut dyn feed::Source, speed: feed::Speed) -> Result<()> {
    let log = process.log()?;
    let topic = process.config.topics.names().events;
    let Some(partitions) = log.partitions(&topic)? else {
        bail!("topic {topic} does not exist; create it with `traffic init`");
    };
    let mut producer = log.producer()?;
    let stop = || process.shutdown.requested();
    let mut target = feed::Target {
        producer: producer.as_mut(),
        topic: &topic,
        partitions,
        speed,
        clock: process.clock.as_ref(),
        stop: &stop,
    };
    let began_ms = process.clock.now_ms();
    let sent = feed::feed(source, &mut target)?;
    let took_ms = process.clock.now_ms() - began_ms;
    eprintln!("{sent} events sent to {topic} in {}.{:03} s", took_ms / 1000, took_ms % 1000);
    ensure!(!process.shutdown.requested(), "stopped before the end");
    Ok(())
}

/// The groups of the flow, and what they read.
fn readings(process: &Process) -> Vec<lag::Reading> {
    let topics = process.config.topics.names();
    vec![
        lag::Reading { group: aggregator::APPLICATION.into(), topics: vec![topics.events.clone(), topics.rekeyed] },
        lag::Reading { group: ingest::APPLICATION.into(), topics: vec![topics.events] },
    ]
}

//! The long hunt: plays seeded histories until one goes wrong, and shows the few faults that it takes.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use common::shutdown::Shutdown;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tests::simulator::{self, Failure, Play, Report, Summary, hunt};

/// Plays seeded histories of the workers in the simulator: the real runner and machines on a log in memory, while
/// processes die, sessions expire, clocks jump and commits fail. Exit code 1 if one ends otherwise than it must.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  traffic-sim                                      1,000 seeds of each machine
  traffic-sim --seeds 100000 --machine aggregator  a longer hunt
  traffic-sim --seeds 1 --from 4711                one seed again
  traffic-sim --forever --from 1000000             overnight, until Ctrl-C or a failure")]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "S")]
    from: u64,
    /// Whose histories.
    #[arg(long, value_enum, default_value_t = Machine::All)]
    machine: Machine,
    /// Histories played at a time [default: one per processor].
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: Option<u64>,
    /// Go on until Ctrl-C or a failure.
    #[arg(long, conflicts_with = "seeds")]
    forever: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Machine {
    Aggregator,
    Predictor,
    Alerter,
    All,
}

impl Machine {
    fn members(self) -> Vec<Self> {
        match self {
            Self::All => vec![Self::Aggregator, Self::Predictor, Self::Alerter],
            one => vec![one],
        }
    }

    fn history(self) -> fn(&Play) -> Result<Summary, Failure> {
        match self {
            Self::Predictor => simulator::predictor,
            Self::Alerter => simulator::alerter,
            Self::Aggregator | Self::All => simulator::aggregator,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Aggregator => "aggregator",
            Self::Predictor => "predictor",
            Self::Alerter => "alerter",
            Self::All => "all",
        }
    }
}

/// What was played so far, by all hands together.
#[derive(Default)]
struct Hunt {
    played: Mutex<BTreeMap<Machine, (u64, Summary)>>,
    failed: Mutex<Vec<(Machine, Box<Report>)>>,
    next: AtomicU64,
    over: AtomicBool,
}

impl Hunt {
    /// Plays seed after seed until there is no more, one has failed, or `stop` says so.
    fn go_on(&self, arguments: &Arguments, stop: &Shutdown, bar: &ProgressBar) {
        while !stop.requested() && !self.over.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if !arguments.forever && number >= arguments.seeds {
                return;
            }
            for machine in arguments.machine.members() {
                match hunt(&machine.history(), arguments.from + number) {
                    Ok(summary) => {
                        let mut played = self.played.lock().expect("no panic while it is locked");
                        let (histories, sum) = played.entry(machine).or_default();
                        *histories += 1;
                        *sum += summary;
                    }
                    Err(report) => {
                        self.over.store(true, Ordering::Relaxed);
                        self.failed.lock().expect("no panic while it is locked").push((machine, report));
                        return;
                    }
                }
                bar.inc(1);
            }
        }
    }

    /// Shows what was played, and what was wrong; returns whether anything was.
    fn show(self, took: Duration, jobs: u64) -> bool {
        let (mut all, mut tally) = (0, simulator::Tally::default());
        for (machine, (histories, sum)) in self.played.into_inner().expect("all hands are done") {
            println!(
                "{:<10} {} histories: {} records sent, {} results, {} deaths, {} rebalances",
                machine.name(),
                HumanCount(histories),
                HumanCount(sum.events as u64),
                HumanCount(sum.outputs as u64),
                HumanCount(sum.crashes as u64),
                HumanCount(sum.rebalances as u64)
            );
            all += histories;
            tally += sum.tally;
        }
        println!("{} histories/s with {jobs} jobs", HumanCount(per_second(all, took)));
        println!("faults that struck:");
        tally.0.iter().for_each(|(strike, times)| println!("  {:>13}  {strike}", HumanCount(*times).to_string()));
        let failed = self.failed.into_inner().expect("all hands are done");
        for (machine, report) in &failed {
            println!("\n{} {report}", machine.name());
            println!("again: traffic-sim --machine {} --seeds 1 --from {}", machine.name(), report.seed);
        }
        println!("{} in {:.1} s", if failed.is_empty() { "no failure" } else { "FAILED" }, took.as_secs_f64());
        !failed.is_empty()
    }
}

fn progress(arguments: &Arguments) -> ProgressBar {
    let each = arguments.machine.members().len() as u64;
    let (bar, shown) = if arguments.forever {
        (ProgressBar::new_spinner(), "{spinner} {human_pos} histories, {per_sec}, {elapsed_precise}")
    } else {
        (
            ProgressBar::new(arguments.seeds.saturating_mul(each)),
            "{bar:30} {human_pos}/{human_len} histories, {per_sec}, {eta} left",
        )
    };
    bar.set_style(ProgressStyle::with_template(shown).expect("a valid template"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let stop = Shutdown::default();
    let mut signals = tokio::task::JoinSet::new();
    signals.spawn(stop.watch_signals()?);
    #[expect(clippy::disallowed_methods, reason = "how long the hunt took, to be shown")]
    let began = Instant::now();
    let failed = tokio::task::spawn_blocking(move || {
        let (hunt, bar) = (Hunt::default(), progress(&arguments));
        let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, |n| n.get() as u64));
        std::thread::scope(|scope| {
            (0..jobs).for_each(|_| drop(scope.spawn(|| hunt.go_on(&arguments, &stop, &bar))));
        });
        bar.finish_and_clear();
        let took = began.elapsed();
        hunt.show(took, jobs)
    })
    .await?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "to be shown")]
fn per_second(histories: u64, took: Duration) -> u64 {
    (histories as f64 / took.as_secs_f64().max(0.001)).round() as u64
}

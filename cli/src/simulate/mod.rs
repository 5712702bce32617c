//! `traffic simulate`: events of the sensors on simulated freeways, to a file, stdout or the log.
//!
//! From the road to the message: `network` (where) and `demand` (how many come) feed `ctm` (how they move), `field`
//! keeps speed and counts over space and time, `incidents` block lanes, `sensor` and `faults` are what is measured of
//! it, and `generator` makes events of that. docs/simulation.md tells the model and its sources.

mod calendar;
mod chance;
mod ctm;
mod demand;
mod faults;
mod field;
mod generator;
mod incidents;
mod network;
mod plot;
mod reference;
mod roads;
mod sensor;
mod simulation;

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

pub use generator::{Emission, Generator, GeneratorConfig, Position};
pub use incidents::Incident;
pub use simulation::Simulation;

use simulation::End;

/// Simulate traffic on freeways, and the events of its sensors
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic simulate --hours 1 --out events.ndjson         an hour of 200 segments
  traffic simulate --segments 2000 --events 5000000 --out - | head
  traffic simulate --hours 24 --start 2026-01-05T08:00Z  into the log, with watermark markers
  traffic simulate --hours 24 --out day.ndjson --reference truth
      beside the events the network and the true incidents, as CSV
  traffic simulate --hours 24 --start 2026-01-05T08:00Z --out none --plot day.svg
      only a picture of the first corridor's speeds; --corridor names another

The same --seed and --start give the same events. Rush hours are those of America/Los_Angeles.
The model is a cell transmission model; docs/simulation.md tells it and its sources.")]
pub struct SimulateArgs {
    /// A file, `-` for stdout, `log` for the topic of events, or `none`
    #[arg(long, default_value = "log")]
    pub out: String,
    /// Stop after so many hours of event time
    #[arg(long)]
    pub hours: Option<f64>,
    /// Stop after so many events
    #[arg(long)]
    pub events: Option<u64>,
    #[arg(long, default_value_t = 200)]
    pub segments: u32,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Event time of the first event, RFC 3339 [default: so that the last event is now]
    #[arg(long)]
    pub start: Option<jiff::Timestamp>,
    /// Each segment reports once in this time
    #[arg(long, default_value = "30s", value_parser = crate::units::duration_ms)]
    pub interval: i64,
    /// Share of events that are sent twice
    #[arg(long, default_value_t = 0.01)]
    pub duplicates: f64,
    /// Share of events that arrive up to 25 s after their time
    #[arg(long, default_value_t = 0.05)]
    pub disorder: f64,
    /// Share of events that arrive 45 minutes or more after their time
    #[arg(long, default_value_t = 0.001)]
    pub late: f64,
    /// Share of events that are broken
    #[arg(long, default_value_t = 0.001)]
    pub malformed: f64,
    /// Incidents by segment and day
    #[arg(long, default_value_t = GeneratorConfig::default().incidents)]
    pub incidents: f64,
    /// Times a sensor falls silent in a day; it gets stuck a quarter as often
    #[arg(long, default_value_t = GeneratorConfig::default().dropouts)]
    pub dropouts: f64,
    /// Also write segments.csv, edges.csv, incidents.csv and dropouts.csv there
    #[arg(long, value_name = "DIR")]
    pub reference: Option<PathBuf>,
    /// Also draw speed over time and space of one corridor, as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// The corridor to draw, like I405_N [default: the first]
    #[arg(long, value_name = "NAME", requires = "plot")]
    pub corridor: Option<String>,
    /// A summary as one JSON object, the last line on stdout
    #[arg(long)]
    pub json: bool,
}

/// Event times that messages may carry, epoch ms.
const TIMES_MS: std::ops::RangeInclusive<i64> = 1_000_000_000_000..=9_999_999_999_999;
const WINDOW_MS: i64 = 300_000;

/// Simulates; `feed` sends events to the log. `now_ms`: wall clock, epoch ms.
///
/// # Errors
/// If the arguments contradict each other, or something can not be written or sent.
pub fn run(args: &SimulateArgs, now_ms: i64, feed: &mut dyn FnMut(&mut Simulation) -> Result<()>) -> Result<()> {
    ensure!(!(args.json && args.out == "-"), "--json and --out -: both want stdout; give a file with --out");
    let mut simulation = args.source(now_ms)?;
    args.describe(&simulation)?;
    match args.out.as_str() {
        "log" => feed(&mut simulation)?,
        "none" => {
            ensure!(args.reference.is_some() || args.plot.is_some(), "--out none: give --reference or --plot, or both");
            return Ok(());
        }
        _ => args.write(&mut simulation)?,
    }
    if args.json {
        println!("{}", serde_json::to_string(&simulation.summary())?);
    } else if args.out != "-" {
        eprintln!("{}", simulation.summary());
    }
    Ok(())
}

/// The incidents of a configuration that are there at any time from its start until `until_ms`, by their begin.
#[must_use]
pub fn incidents(config: &GeneratorConfig, until_ms: i64) -> Vec<Incident> {
    let network = network::Network::new(config.seed, config.segments);
    incidents::between(&network, config.seed, config.incidents, config.start_ms, until_ms)
}

/// A segment and those before it on its freeway, against the direction of travel, `most` in all; empty if there is no
/// such segment.
#[must_use]
pub fn upstream(config: &GeneratorConfig, segment_id: &str, most: usize) -> Vec<String> {
    let network = network::Network::new(config.seed, config.segments);
    let Some(place) = network.segments.iter().position(|segment| segment.id == segment_id) else { return Vec::new() };
    let first = network.corridors[network.segments[place].corridor].segments.start;
    (first..=place).rev().take(most).map(|i| network.segments[i].id.clone()).collect()
}

impl SimulateArgs {
    /// The events these arguments ask for.
    fn source(&self, now_ms: i64) -> Result<Simulation> {
        self.check()?;
        let per_event = f64::from(u32::try_from(self.interval).context("--interval: at most 49 days are allowed")?)
            / f64::from(self.segments);
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "milliseconds")]
        let length_ms = match (self.events, self.hours) {
            (Some(_), Some(_)) => bail!("--events and --hours: give one of them"),
            (Some(events), None) => (events as f64 * per_event) as i64,
            (None, Some(hours)) => (hours * 3_600_000.0) as i64,
            (None, None) => bail!("--hours or --events says when to stop; give one of them"),
        };
        let begin_ms = |length_ms: i64| now_ms.saturating_sub(length_ms).div_euclid(WINDOW_MS) * WINDOW_MS;
        let start_ms = self.start.map_or_else(|| begin_ms(length_ms), jiff::Timestamp::as_millisecond);
        let until_ms = start_ms.saturating_add(length_ms);
        ensure!(
            TIMES_MS.contains(&start_ms) && TIMES_MS.contains(&until_ms),
            "event times from {} to {}: 2001-09-09 to 2286-11-20 are allowed; mend --start, --hours or --events",
            reference::time(start_ms),
            reference::time(until_ms)
        );
        let mut config = GeneratorConfig {
            seed: self.seed,
            segments: self.segments,
            start_ms,
            interval_ms: self.interval,
            duplicates: self.duplicates,
            disorder: self.disorder,
            late: self.late,
            malformed: self.malformed,
            incidents: self.incidents,
            dropouts: self.dropouts,
        };
        let Some(events) = self.events else { return Ok(Simulation::new(config, End::At(until_ms), until_ms)) };
        // Silent sensors stretch it, and a stretch that begins earlier has other silences.
        let mut silence_ms = 0;
        for _ in 0..8 {
            if self.start.is_none() {
                config.start_ms = begin_ms(length_ms + silence_ms);
            }
            let more_ms = simulation::silence_ms(&config, config.start_ms + length_ms + silence_ms);
            if more_ms <= silence_ms {
                break;
            }
            silence_ms = more_ms;
        }
        let until_ms = config.start_ms + length_ms + silence_ms;
        Ok(Simulation::new(config, End::Events(events), until_ms))
    }

    fn check(&self) -> Result<()> {
        ensure!(self.segments > 0, "--segments 0: at least one is needed");
        for (name, rate) in [
            ("duplicates", self.duplicates),
            ("disorder", self.disorder),
            ("late", self.late),
            ("malformed", self.malformed),
        ] {
            ensure!((0.0..=1.0).contains(&rate), "--{name} {rate}: a share of 0-1 is allowed");
        }
        for (name, rate) in [("incidents", self.incidents), ("dropouts", self.dropouts)] {
            ensure!((0.0..=10.0).contains(&rate), "--{name} {rate}: 0-10 a day are allowed");
        }
        ensure!(self.hours.is_none_or(|hours| hours > 0.0), "--hours: more than 0 is needed");
        Ok(())
    }

    /// Writes what stands beside the events.
    fn describe(&self, simulation: &Simulation) -> Result<()> {
        let (network, config) = (simulation.generator().network(), simulation.generator().config());
        if let Some(dir) = &self.reference {
            reference::write(dir, network, config, simulation.until_ms)?;
        }
        if let Some(path) = &self.plot {
            let name = self.corridor.as_deref().unwrap_or(&network.corridors[0].name);
            let Some(corridor) = network.corridor(name) else {
                let names: Vec<&str> = network.corridors.iter().map(|c| c.name.as_str()).collect();
                bail!("--corridor {name}: there is none; these are: {}", names.join(", "));
            };
            let svg = plot::draw(config, corridor, simulation.until_ms);
            std::fs::write(path, svg).with_context(|| format!("--plot {}", path.display()))?;
        }
        Ok(())
    }

    /// Writes the events as NDJSON to the file or stdout that `--out` names.
    fn write(&self, simulation: &mut Simulation) -> Result<()> {
        let out: Box<dyn Write> = if self.out == "-" {
            Box::new(std::io::stdout().lock())
        } else {
            let path = PathBuf::from(&self.out);
            Box::new(std::fs::File::create(&path).with_context(|| format!("--out {}", path.display()))?)
        };
        let mut out = BufWriter::with_capacity(1 << 20, out);
        while simulation.advance() {
            let line = out.write_all(&simulation.emission.value).and_then(|()| out.write_all(b"\n"));
            match line {
                // `| head` has seen enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                other => other.with_context(|| format!("--out {}", self.out))?,
            }
        }
        match out.flush() {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.with_context(|| format!("--out {}", self.out)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: SimulateArgs,
    }

    const NOW_MS: i64 = 1_795_507_512_345;

    fn source(line: &str) -> Result<Simulation> {
        Command::try_parse_from(std::iter::once("simulate").chain(line.split_whitespace()))?.args.source(NOW_MS)
    }

    #[test]
    fn examples_of_the_help_work() {
        let help = <Command as clap::CommandFactory>::command().get_after_help().expect("examples").to_string();
        let mut examples = 0;
        for line in help.lines().filter_map(|line| line.strip_prefix("  traffic simulate ")) {
            // Behind two spaces or a pipe stands what it is for.
            let arguments = line.split("  ").next().and_then(|line| line.split('|').next()).expect("a line");
            assert!(source(arguments).is_ok(), "{line}");
            examples += 1;
        }
        assert!(examples >= 5);
    }

    #[test]
    fn without_a_start_the_last_event_is_now() {
        for line in ["--events 5000 --segments 7", "--events 20000 --segments 1 --dropouts 5", "--hours 3"] {
            let mut simulation = source(line).expect("arguments");
            let start_ms = simulation.generator().config().start_ms;
            let mut newest_ms = 0;
            while simulation.advance() {
                newest_ms = newest_ms.max(simulation.emission.timestamp_ms);
            }
            assert!(newest_ms <= NOW_MS, "{line}: {} ms after now", newest_ms - NOW_MS);
            assert!(start_ms % WINDOW_MS == 0 && simulation.summary().events > 0);
            assert!(NOW_MS - newest_ms < (NOW_MS - start_ms) / 2, "{line}: {} ms before now", NOW_MS - newest_ms);
        }
    }

    #[test]
    fn arguments_that_can_not_be_are_refused() {
        for (line, part) in [
            ("--segments 0 --hours 1", "--segments 0"),
            ("--hours 1 --events 1", "give one of them"),
            ("--segments 5", "--hours or --events"),
            ("--hours -1", "unexpected argument"),
            ("--hours 0", "--hours"),
            ("--hours 1 --late 1.5", "--late 1.5"),
            ("--hours 1 --incidents 11", "--incidents 11"),
            ("--hours 1 --start 1999-01-01T00:00:00Z", "1999-01-01"),
            ("--events 99999999999999999", "--events"),
            ("--hours 1 --corridor I5_N", "--plot"),
        ] {
            let error = source(line).err().map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(error.contains(part), "{line}: {error:?}");
        }
    }

    #[test]
    fn the_same_incidents_are_told_to_whoever_asks() {
        let simulation = source("--hours 24 --start 2026-11-24T08:00:00Z").expect("arguments");
        let config = simulation.generator().config();
        let told = incidents(config, simulation.until_ms);
        assert!((3..20).contains(&told.len()), "{}", told.len());
        assert!(told.iter().all(|i| i.end_ms > config.start_ms && i.begin_ms < simulation.until_ms));
        assert_eq!(incidents(config, config.start_ms + 1).iter().filter(|i| i.begin_ms > config.start_ms).count(), 0);
    }
}

//! `traffic simulate`: made-up sensor events, to a file, stdout or the log.

mod generator;

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

pub use generator::{DISORDER_MS, Emission, Generator, GeneratorConfig, Position};

use crate::feed::{Item, Source};

/// Make up sensor events
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic simulate --hours 1 --out events.ndjson            an hour of 200 segments
  traffic simulate --segments 2000 --events 5000000 --out - | head
  traffic simulate --hours 24 --start 2026-01-05T00:00:00Z  into the log, with watermark markers

The same --seed gives the same events.")]
pub struct SimulateArgs {
    /// A file, `-` for stdout, or `log` for the topic of events
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
}

impl SimulateArgs {
    /// The events these arguments ask for. `now_ms`: wall clock, epoch ms.
    ///
    /// # Errors
    /// If they contradict each other or are out of range.
    pub fn source(&self, now_ms: i64) -> Result<Simulation> {
        ensure!(self.segments > 0, "--segments 0: at least one is needed");
        for (name, rate) in [
            ("duplicates", self.duplicates),
            ("disorder", self.disorder),
            ("late", self.late),
            ("malformed", self.malformed),
        ] {
            ensure!((0.0..=1.0).contains(&rate), "--{name} {rate}: a share of 0-1 is allowed");
        }
        let per_event = f64::from(u32::try_from(self.interval)?) / f64::from(self.segments);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of events")]
        let events = match (self.events, self.hours) {
            (Some(_), Some(_)) => bail!("--events and --hours: give one of them"),
            (Some(events), None) => events,
            (None, Some(hours)) => (hours * 3_600_000.0 / per_event) as u64,
            (None, None) => bail!("--hours or --events says when to stop; give one of them"),
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "milliseconds")]
        let length_ms = (events as f64 * per_event) as i64;
        let start_ms = self.start.map_or((now_ms - length_ms).div_euclid(300_000) * 300_000, |s| s.as_millisecond());
        let config = GeneratorConfig {
            seed: self.seed,
            segments: self.segments,
            start_ms,
            interval_ms: self.interval,
            duplicates: self.duplicates,
            disorder: self.disorder,
            late: self.late,
            malformed: self.malformed,
        };
        Ok(Simulation { generator: Generator::new(config), emission: Emission::default(), left: events, events })
    }

    /// Writes the events as NDJSON to the file or stdout that `--out` names.
    ///
    /// # Errors
    /// If it can not be written.
    pub fn write(&self, source: &mut Simulation) -> Result<()> {
        let out: Box<dyn Write> = if self.out == "-" {
            Box::new(std::io::stdout().lock())
        } else {
            let path = PathBuf::from(&self.out);
            Box::new(std::fs::File::create(&path).with_context(|| format!("--out {}", path.display()))?)
        };
        let mut out = BufWriter::with_capacity(1 << 20, out);
        while source.left > 0 {
            source.left -= 1;
            source.generator.next(&mut source.emission);
            let line = out.write_all(&source.emission.value).and_then(|()| out.write_all(b"\n"));
            match line {
                // `| head` has seen enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                other => other.with_context(|| format!("--out {}", self.out))?,
            }
        }
        out.flush().with_context(|| format!("--out {}", self.out))
    }
}

/// A stretch of simulated events.
pub struct Simulation {
    generator: Generator,
    emission: Emission,
    left: u64,
    events: u64,
}

impl Source for Simulation {
    fn next(&mut self) -> Result<Option<Item<'_>>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.generator.next(&mut self.emission);
        Ok(Some(Item {
            key: Some(&self.emission.key),
            value: &self.emission.value,
            at_ms: Some(self.emission.timestamp_ms),
        }))
    }

    fn complete_ms(&self) -> Option<i64> {
        Some(self.generator.now_ms() - DISORDER_MS)
    }

    fn done(&self) -> (u64, u64) {
        (self.events - self.left, self.events)
    }
}

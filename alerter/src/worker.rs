//! The process around the machines: their places in the flow, their settings and their metrics.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::config::Config;
use common::health::Component;
use common::model::Severity;
use common::stream::{Log, Machine, Membership, Notice, Observer, Pace, Runner, Topology};
use common::topics::Topics;
use common::worker::{Crew, Ended, Failure, Process};

use crate::voice::Counts;
use crate::{Incidents, Rules, Settings};

/// The worker's name, and the application id unless another is set.
pub const APPLICATION: &str = "alerter";
/// Where health and metrics are served, unless another address is set.
const PORT: u16 = 9104;

/// The application id of the second machine, beside that of the first.
#[must_use]
pub fn incidents_id(application_id: &str) -> String {
    format!("{application_id}-incidents")
}

/// The rules' inputs, output and changelog, in the order that `rules.rs` numbers them.
#[must_use]
pub fn rules_topology(topics: &Topics, application_id: &str, instance: &str) -> Topology {
    Topology {
        membership: Membership {
            application_id: application_id.to_owned(),
            instance: instance.to_owned(),
            inputs: vec![topics.predictions.clone(), topics.aggregates.clone(), topics.alerter_commands.clone()],
            transactional: true,
        },
        outputs: vec![topics.alert_transitions.clone()],
        changelog: Some(topics.changelog(application_id)),
        tail: None,
    }
}

/// The incidents' input, output and changelog, beside rules of that application id.
#[must_use]
pub fn incidents_topology(topics: &Topics, application_id: &str, instance: &str) -> Topology {
    let application_id = incidents_id(application_id);
    Topology {
        changelog: Some(topics.changelog(&application_id)),
        membership: Membership {
            application_id,
            instance: instance.to_owned(),
            inputs: vec![topics.alert_transitions.clone()],
            transactional: true,
        },
        outputs: vec![topics.alerts.clone()],
        tail: None,
    }
}

/// Runs the worker until a signal, or to the end of its input.
///
/// # Errors
/// What trying again can not mend.
pub fn run(config: Config, exit_at_end: bool) -> Result<(), Failure> {
    let process = Process::start(APPLICATION, config, Some(PORT))?;
    let Some(log) = process.wait_for_log()? else { return Ok(()) };
    let mut crew = Crew::new(&process);
    enlist(&mut crew, &log, &Ended::when(exit_at_end))?;
    crew.run()
}

/// Adds the worker's parts to a process. `predictions_ended` tells that forecasts and aggregates have ended; returns
/// what tells that the alerts have.
///
/// # Errors
/// None so far.
pub fn enlist(crew: &mut Crew<'_>, log: &Arc<dyn Log>, predictions_ended: &Ended) -> Result<Ended, Failure> {
    let process = crew.process();
    let config = &process.config;
    let (topics, id) = (config.topics.names(), config.application_id(APPLICATION));
    let (decided, written) = (Ended::default(), Ended::default());

    let rules = Part {
        process,
        log: log.clone(),
        name: APPLICATION,
        topology: rules_topology(&topics, id, &config.instance),
        input_ended: predictions_ended.clone(),
        ended: decided.clone(),
    };
    crew.add(rules.name, move || {
        let settings = Settings::from(&process.config.alerter);
        rules.run(&|| Rules::new(settings.clone()), &|| {
            let mut seen = 0;
            Box::new(move |machine: &Rules| report_rules(machine, &mut seen))
        })
    });

    let incidents = Part {
        process,
        log: log.clone(),
        name: "alerter-incidents",
        topology: incidents_topology(&topics, id, &config.instance),
        input_ended: decided,
        ended: written.clone(),
    };
    crew.add(incidents.name, move || {
        incidents.run(&Incidents::new, &|| {
            let (mut seen, mut shown) = (0, BTreeSet::new());
            Box::new(move |machine: &Incidents| report_incidents(machine, &mut seen, &mut shown))
        })
    });
    crew.project_alerts(log, &written);
    Ok(written)
}

/// One machine of the worker, on a thread of its own.
struct Part<'p> {
    process: &'p Process,
    log: Arc<dyn Log>,
    /// Also the name of its readiness.
    name: &'static str,
    topology: Topology,
    input_ended: Ended,
    ended: Ended,
}

type Report<M> = Box<dyn FnMut(&M) + Send>;

impl Part<'_> {
    fn run<M: Machine + 'static>(
        &self,
        machine: &dyn Fn() -> M,
        report: &dyn Fn() -> Report<M>,
    ) -> Result<(), Failure> {
        let Self { process, log, topology, .. } = self;
        let ready = process.health.component(self.name);
        let commit_interval_ms = i64::try_from(process.config.alerter.commit_interval.as_millis()).unwrap_or(i64::MAX);
        let pace = Pace { commit_interval_ms, ..Pace::default() };
        let runner = process.until_it_works(&ready, || {
            process.ensure_topics(log.as_ref(), topology)?;
            let observer = observer(self.name, ready.clone(), report());
            Runner::new(machine(), log.clone(), topology.clone(), pace, process.clock.clone(), observer)
        })?;
        if let Some(mut runner) = runner {
            runner.run(&|| process.shutdown.requested(), &|| self.input_ended.get())?;
            tracing::info!(part = self.name, "{} has stopped", self.name);
        }
        if !process.shutdown.requested() {
            self.ended.set();
        }
        Ok(())
    }
}

/// Readiness and metrics, from what the runner says.
fn observer<M: 'static>(worker: &'static str, ready: Component, mut report: Report<M>) -> Observer<M> {
    Box::new(move |notice| match notice {
        Notice::Ready { machine } => {
            ready.ready();
            report(machine);
        }
        Notice::Lost(error) => {
            ready.not_ready(error.to_string());
            metrics::counter!("traffic_sessions_lost_total", "worker" => worker).increment(1);
        }
        Notice::Committed { records, machine } => {
            metrics::counter!("traffic_records_total", "worker" => worker).increment(records as u64);
            metrics::counter!("traffic_commits_total", "worker" => worker).increment(1);
            report(machine);
        }
    })
}

fn report_rules(machine: &Rules, seen: &mut u64) {
    let counts = machine.counts();
    metrics::counter!("traffic_alert_transitions_total").absolute(counts.transitions);
    for (fate, count) in [("followed", counts.commands_followed), ("ignored", counts.commands_ignored)] {
        metrics::counter!("traffic_alerter_commands_total", "fate" => fate).absolute(count);
    }
    for (fate, count) in [("invalid", counts.invalid), ("late", counts.late)] {
        metrics::counter!("traffic_alerter_records_left_out_total", "fate" => fate).absolute(count);
    }
    for remark in news(counts, seen) {
        tracing::warn!("{remark}");
    }
}

fn report_incidents(machine: &Incidents, seen: &mut u64, shown: &mut BTreeSet<(String, Severity)>) {
    let (written, dropped, astray) = machine.totals();
    for (fate, count) in [("written", written), ("dropped", dropped), ("astray", astray)] {
        metrics::counter!("traffic_alerts_total", "fate" => fate).absolute(count);
    }
    let open = machine.open();
    shown.extend(open.keys().map(|(rule, severity)| ((*rule).to_owned(), *severity)));
    for (rule, severity) in &*shown {
        let count = open.get(&(rule.as_str(), *severity)).copied().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        metrics::gauge!("traffic_alerts_open", "rule" => rule.clone(), "severity" => name_of(*severity))
            .set(count as f64);
    }
    for remark in news(machine.counts(), seen) {
        tracing::error!("{remark}");
    }
}

/// What was remarked since the last time.
fn news<'c>(counts: &'c Counts, seen: &mut u64) -> Vec<&'c str> {
    let news: Vec<(u64, &str)> = counts.remarks(*seen).collect();
    *seen = news.last().map_or(*seen, |(number, _)| number + 1);
    news.into_iter().map(|(_, remark)| remark).collect()
}

fn name_of(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "LOW",
        Severity::Medium => "MEDIUM",
        Severity::High => "HIGH",
        Severity::Critical => "CRITICAL",
    }
}

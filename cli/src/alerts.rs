//! `traffic alerts`: what is wrong on the roads, and what operators say about it.
//!
//! Reads `traffic-alerts` as it stands; changes nothing but by commands to the alerter in `alerter-commands`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use common::config::AlerterSettings;
use common::model::{Alert, AlertStatus, AlerterCommand, CommandKind};
use common::stream::{Log, Outgoing, TopicPartition};
use common::topics::Topics;
use common::worker::Process;

use crate::units::duration_ms;

/// List alerts; acknowledge, clear and silence them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic alerts list --active
  traffic alerts ack ALERT_S17_predicted-congestion_1759674900000 --by Ada
  traffic alerts silence --segment S17 --for 2h --by Ada --reason roadworks
  traffic alerts silences

All but the lists are commands to the alerter, which follows them when it comes to them.")]
pub struct AlertsArgs {
    #[command(subcommand)]
    command: AlertsCommand,
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    List(ListArgs),
    Ack(AckArgs),
    Clear(ClearArgs),
    Silence(SilenceArgs),
    Unsilence(UnsilenceArgs),
    Silences(SilencesArgs),
}

/// Alerts, each as its newest transition left it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic alerts list --active
  traffic alerts list --json | jq -r '.alerts[] | select(.severity == \"CRITICAL\") | .segment_id'")]
struct ListArgs {
    /// Only those that have not ended
    #[arg(long)]
    active: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Say that somebody looks after an alert: it becomes INVESTIGATING
#[derive(Debug, Args)]
#[command(after_help = "Example:
  traffic alerts ack ALERT_S17_predicted-congestion_1759674900000 --by Ada")]
struct AckArgs {
    /// The alert's id
    id: String,
    /// Who says so
    #[arg(long, value_name = "NAME")]
    by: String,
    #[arg(long)]
    reason: Option<String>,
}

/// End an alert: it becomes CLEARED
#[derive(Debug, Args)]
#[command(after_help = "Example:
  traffic alerts clear ALERT_S17_predicted-congestion_1759674900000 --by Ada --reason \"false alarm\"

If its condition holds on, a new alert opens after the rule's `reopen_after`: silence it to have quiet.")]
struct ClearArgs {
    /// The alert's id
    id: String,
    /// Who says so
    #[arg(long, value_name = "NAME")]
    by: String,
    #[arg(long)]
    reason: Option<String>,
}

/// Let no alert open for a while: of a segment, of a rule, or at all
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic alerts silence --segment S17 --for 2h --by Ada --reason roadworks
  traffic alerts silence --rule sensor-silent --until 2026-05-01T06:00:00Z --by Ada --reason maintenance

Prints the silence's id. Times are event time, which in a replay is not that of the clock: use --until then.
An alert whose condition still holds when the silence ends opens then.")]
struct SilenceArgs {
    /// Only alerts of this segment
    #[arg(long, value_name = "ID")]
    segment: Option<String>,
    /// Only alerts of this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// For so long from now on, like 2h
    #[arg(long = "for", value_parser = duration_ms, value_name = "DURATION", required_unless_present = "until")]
    lasts_ms: Option<i64>,
    /// Until then: 2026-05-01T06:00:00Z, or epoch ms
    #[arg(long, value_parser = instant_ms, value_name = "TIME", conflicts_with = "lasts_ms")]
    until: Option<i64>,
    /// From then on [default: at once]
    #[arg(long, value_parser = instant_ms, value_name = "TIME")]
    from: Option<i64>,
    /// Who says so
    #[arg(long, value_name = "NAME")]
    by: String,
    /// Why
    #[arg(long)]
    reason: String,
}

/// End a silence before its time
#[derive(Debug, Args)]
#[command(after_help = "Example:
  traffic alerts unsilence 7d1f4a52c3be4d63a1d0 --by Ada")]
struct UnsilenceArgs {
    /// The silence's id, as `silence` printed it and `silences` lists it
    id: String,
    /// Who says so
    #[arg(long, value_name = "NAME")]
    by: String,
}

/// Silences that were asked for and are not over
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic alerts silences
  traffic alerts silences --all --json | jq '.silences[].reason'")]
struct SilencesArgs {
    /// Those that are over by the clock too, as far as the topic reaches back
    #[arg(long)]
    all: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Epoch ms, or a time with zone.
fn instant_ms(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    text.parse::<jiff::Timestamp>()
        .map(jiff::Timestamp::as_millisecond)
        .map_err(|_| format!("{text:?} is no time: like 2026-05-01T06:00:00Z, or epoch ms"))
}

/// # Errors
/// If the log does not answer, or what is asked for can not be.
pub fn run(args: &AlertsArgs, process: &Process) -> Result<()> {
    let log = process.log()?;
    let desk = Desk {
        log: log.as_ref(),
        topics: process.config.topics.names(),
        rules: rules(&process.config.alerter),
        now_ms: process.clock.now_ms(),
    };
    let new_id = || uuid::Uuid::new_v4().simple().to_string();
    match &args.command {
        AlertsCommand::List(args) => desk.list(args),
        AlertsCommand::Silences(args) => desk.list_silences(args),
        AlertsCommand::Ack(args) => desk.acknowledge(new_id(), args),
        AlertsCommand::Clear(args) => desk.clear(new_id(), args),
        AlertsCommand::Silence(args) => desk.silence(new_id(), args),
        AlertsCommand::Unsilence(args) => desk.unsilence(new_id(), args),
    }
}

/// The names of the rules that are on.
fn rules(set: &AlerterSettings) -> Vec<String> {
    let congestion = set.predicted_congestion.iter().filter(|(_, rule)| rule.enabled).map(|(name, _)| name);
    let silent = set.sensor_silent.iter().filter(|(_, rule)| rule.enabled).map(|(name, _)| name);
    congestion.chain(silent).cloned().collect()
}

/// Where an operator sits.
struct Desk<'a> {
    log: &'a dyn Log,
    topics: Topics,
    rules: Vec<String>,
    now_ms: i64,
}

impl Desk<'_> {
    fn list(&self, args: &ListArgs) -> Result<()> {
        let mut alerts: Vec<Alert<'_>> = self.alerts()?.into_values().collect();
        alerts.retain(|alert| !args.active || alert.status.is_open());
        alerts.sort_by(|a, b| (a.opened_at, &a.alert_id).cmp(&(b.opened_at, &b.alert_id)));
        if args.json {
            println!("{}", serde_json::json!({ "alerts": alerts }));
            return Ok(());
        }
        println!("{:<20} {:<13} {:<8} {:<60} DESCRIPTION", "OPENED", "STATUS", "SEVERITY", "ID");
        for alert in &alerts {
            let (status, severity) = (name_of(&alert.status), name_of(&alert.severity));
            let opened = shown(alert.opened_at);
            println!("{opened:<20} {status:<13} {severity:<8} {:<60} {}", alert.alert_id, alert.description);
        }
        let open = alerts.iter().filter(|alert| alert.status.is_open()).count();
        println!("{} alerts, {open} of them open", alerts.len());
        Ok(())
    }

    /// Each alert's newest transition, by id.
    fn alerts(&self) -> Result<BTreeMap<String, Alert<'static>>> {
        let mut newest: BTreeMap<String, Alert<'static>> = BTreeMap::new();
        let topic = &self.topics.alerts;
        for partition in 0..self.partitions(topic)? {
            self.read(topic, partition, |value| {
                let alert: Alert<'static> = serde_json::from_slice(value)
                    .with_context(|| format!("{topic} holds something that is no alert"))?;
                let known = newest.get(&*alert.alert_id).map_or(0, |known| known.sequence);
                if alert.sequence > known {
                    newest.insert(alert.alert_id.clone().into_owned(), alert);
                }
                Ok(())
            })?;
        }
        Ok(newest)
    }

    fn list_silences(&self, args: &SilencesArgs) -> Result<()> {
        let mut silences = self.silences()?;
        silences.retain(|silence| args.all || silence.until.is_some_and(|until| until > self.now_ms));
        if args.json {
            println!("{}", serde_json::json!({ "silences": silences }));
            return Ok(());
        }
        println!("{:<32} {:<20} {:<20} {:<20} {:<20} {:<12} REASON", "ID", "SEGMENT", "RULE", "FROM", "UNTIL", "BY");
        for s in &silences {
            let (segment, rule) = (s.segment_id.as_deref().unwrap_or("all"), s.rule.as_deref().unwrap_or("all"));
            let (from, until) = (s.from.map_or("-".to_owned(), shown), s.until.map_or("-".to_owned(), shown));
            let reason = s.reason.as_deref().unwrap_or_default();
            println!("{:<32} {segment:<20} {rule:<20} {from:<20} {until:<20} {:<12} {reason}", s.command_id, s.by);
        }
        Ok(())
    }

    /// The silences that were asked for and not taken back, in that order. Every partition has all of them.
    fn silences(&self) -> Result<Vec<AlerterCommand<'static>>> {
        let topic = &self.topics.alerter_commands;
        self.partitions(topic)?;
        let mut silences: Vec<AlerterCommand<'static>> = Vec::new();
        self.read(topic, 0, |value| {
            // The alerter ignores what is not a command.
            let Ok(command) = AlerterCommand::parse(value) else { return Ok(()) };
            let over = match command.command {
                CommandKind::Silence => Some(&command.command_id),
                CommandKind::Unsilence => command.silence_id.as_ref(),
                CommandKind::Acknowledge | CommandKind::Clear => None,
            };
            silences.retain(|silence| Some(&silence.command_id) != over);
            if command.command == CommandKind::Silence {
                silences.push(serde_json::from_slice::<AlerterCommand<'_>>(value).map(owned)?);
            }
            Ok(())
        })?;
        Ok(silences)
    }

    fn acknowledge(&self, id: String, args: &AckArgs) -> Result<()> {
        let alert = self.open_alert(&args.id)?;
        if alert.status == AlertStatus::Investigating {
            bail!("{} is INVESTIGATING already", args.id);
        }
        let command = self.command(id, CommandKind::Acknowledge, &args.by);
        self.tell_about(&AlerterCommand { reason: args.reason.as_deref().map(Into::into), ..command }, &alert)
    }

    fn clear(&self, id: String, args: &ClearArgs) -> Result<()> {
        let alert = self.open_alert(&args.id)?;
        let command = self.command(id, CommandKind::Clear, &args.by);
        self.tell_about(&AlerterCommand { reason: args.reason.as_deref().map(Into::into), ..command }, &alert)
    }

    fn open_alert(&self, id: &str) -> Result<Alert<'static>> {
        let Some(alert) = self.alerts()?.remove(id) else {
            bail!("there is no alert {id} in {}; `traffic alerts list` shows those that there are", self.topics.alerts)
        };
        if !alert.status.is_open() {
            bail!("{id} has ended: it is {}", name_of(&alert.status));
        }
        Ok(alert)
    }

    fn silence(&self, id: String, args: &SilenceArgs) -> Result<()> {
        if let Some(rule) = &args.rule
            && !self.rules.contains(rule)
        {
            bail!("--rule {rule}: there is no such rule; configured are {}", self.rules.join(", "));
        }
        let until = args.until.or_else(|| self.now_ms.checked_add(args.lasts_ms?));
        let command = AlerterCommand {
            segment_id: args.segment.as_deref().map(Into::into),
            rule: args.rule.as_deref().map(Into::into),
            from: args.from,
            until,
            reason: Some(args.reason.as_str().into()),
            ..self.command(id, CommandKind::Silence, &args.by)
        };
        self.tell_all(&command.command_id, &command)?;
        println!("{}", command.command_id);
        Ok(())
    }

    fn unsilence(&self, id: String, args: &UnsilenceArgs) -> Result<()> {
        if !self.silences()?.iter().any(|silence| silence.command_id == args.id.as_str()) {
            bail!("there is no silence {}; `traffic alerts silences` shows those that there are", args.id);
        }
        let silence_id = Some(Cow::Borrowed(args.id.as_str()));
        let command = AlerterCommand { silence_id, ..self.command(id, CommandKind::Unsilence, &args.by) };
        self.tell_all(&args.id, &command)
    }

    fn command<'c>(&self, id: String, command: CommandKind, by: &'c str) -> AlerterCommand<'c> {
        AlerterCommand {
            command_id: id.into(),
            command,
            alert_id: None,
            segment_id: None,
            rule: None,
            silence_id: None,
            from: None,
            until: None,
            by: by.into(),
            reason: None,
            timestamp: self.now_ms,
        }
    }

    /// Sends a command about one alert to the partition of its segment.
    fn tell_about(&self, command: &AlerterCommand<'_>, alert: &Alert<'_>) -> Result<()> {
        let (alert_id, segment_id) = (Some((*alert.alert_id).into()), Some((*alert.segment_id).into()));
        let command = AlerterCommand { alert_id, segment_id, ..command.clone() };
        self.send(&command, &alert.segment_id, &[None])
    }

    /// Sends a command to every partition.
    fn tell_all(&self, silence_id: &str, command: &AlerterCommand<'_>) -> Result<()> {
        let partitions: Vec<Option<u32>> = (0..self.partitions(&self.topics.alerter_commands)?).map(Some).collect();
        self.send(command, silence_id, &partitions)
    }

    fn send(&self, command: &AlerterCommand<'_>, key: &str, partitions: &[Option<u32>]) -> Result<()> {
        command.check()?;
        let topic = &self.topics.alerter_commands;
        self.partitions(topic)?;
        let value = serde_json::to_vec(command)?;
        let mut producer = self.log.producer()?;
        for partition in partitions {
            producer.send(&Outgoing {
                topic,
                partition: *partition,
                key: Some(key.as_bytes()),
                value: Some(&value),
                headers: &[],
            })?;
        }
        Ok(producer.flush()?)
    }

    fn partitions(&self, topic: &str) -> Result<u32> {
        match self.log.partitions(topic)? {
            Some(partitions) => Ok(partitions),
            None => bail!("topic {topic} does not exist; create it with `traffic init`"),
        }
    }

    /// Hands the values of a partition's committed records to `each`.
    fn read(&self, topic: &str, partition: u32, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut reader = self.log.read(&TopicPartition::new(topic, partition), None)?;
        let mut done = Ok(());
        while reader.next(&mut |record| {
            if let (Ok(()), Some(value)) = (&done, record.value) {
                done = each(value);
            }
        })? {}
        done
    }
}

fn owned(command: AlerterCommand<'_>) -> AlerterCommand<'static> {
    let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
    AlerterCommand {
        command_id: own(command.command_id),
        command: command.command,
        alert_id: command.alert_id.map(own),
        segment_id: command.segment_id.map(own),
        rule: command.rule.map(own),
        silence_id: command.silence_id.map(own),
        from: command.from,
        until: command.until,
        by: own(command.by),
        reason: command.reason.map(own),
        timestamp: command.timestamp,
    }
}

/// A status or severity as messages have it.
fn name_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

fn shown(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::Parser;
    use common::clock::ManualClock;
    use common::model::{AlertType, DetectionSource, Severity};
    use common::stream::memory::MemoryLog;
    use common::stream::partitioner::partition_of;
    use common::stream::{Cleanup, TopicSpec};

    use super::*;

    const NOW_MS: i64 = 1_759_675_000_000;
    const PARTITIONS: u32 = 3;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: AlertsArgs,
    }

    fn log() -> MemoryLog {
        let log = MemoryLog::new(Arc::new(ManualClock::at(NOW_MS)));
        let topics = Topics::default();
        let spec = |name: String| TopicSpec {
            name,
            partitions: PARTITIONS,
            replication: 1,
            cleanup: Cleanup::Delete { retention_ms: None },
        };
        log.ensure_topics(&[spec(topics.alerts), spec(topics.alerter_commands)]).expect("new topics");
        log
    }

    fn desk(log: &MemoryLog) -> Desk<'_> {
        Desk { log, topics: Topics::default(), rules: rules(&AlerterSettings::default()), now_ms: NOW_MS }
    }

    fn say(desk: &Desk<'_>, id: &str, line: &str) -> Result<()> {
        let words = ["alerts"].into_iter().chain(line.split(' '));
        let line = Line::try_parse_from(words)?;
        match &line.args.command {
            AlertsCommand::List(args) => desk.list(args),
            AlertsCommand::Silences(args) => desk.list_silences(args),
            AlertsCommand::Ack(args) => desk.acknowledge(id.into(), args),
            AlertsCommand::Clear(args) => desk.clear(id.into(), args),
            AlertsCommand::Silence(args) => desk.silence(id.into(), args),
            AlertsCommand::Unsilence(args) => desk.unsilence(id.into(), args),
        }
    }

    /// The commands in each partition: key and command.
    fn sent(log: &MemoryLog, partition: u32) -> Vec<(String, AlerterCommand<'static>)> {
        let mut found = Vec::new();
        let mut reader = log.read(&TopicPartition::new("alerter-commands", partition), None).expect("readable");
        let mut each = |record: common::stream::Record<'_>| {
            let key = String::from_utf8_lossy(record.key.expect("a key")).into_owned();
            found.push((key, owned(AlerterCommand::parse(record.value.expect("a value")).expect("valid"))));
        };
        while reader.next(&mut each).expect("readable") {}
        found
    }

    fn transition(log: &MemoryLog, segment: &str, sequence: u32, status: AlertStatus) -> String {
        let alert = Alert {
            alert_id: Alert::id_of(segment, "sensor-silent", NOW_MS).into(),
            sequence,
            segment_id: segment.into(),
            rule: "sensor-silent".into(),
            alert_type: AlertType::SystemAnomaly,
            severity: Severity::Medium,
            status,
            timestamp: NOW_MS,
            opened_at: NOW_MS,
            resolved_at: (!status.is_open()).then_some(NOW_MS),
            detection_source: DetectionSource::SensorAnomaly,
            description: "No readings".into(),
            value: None,
            threshold: None,
            confidence_score: None,
            coordinates: None,
            by: None,
        };
        let value = serde_json::to_vec(&alert).expect("JSON");
        let (key, value) = (Some(segment.as_bytes()), Some(value.as_slice()));
        let record = Outgoing { topic: "traffic-alerts", partition: None, key, value, headers: &[] };
        log.producer().and_then(|mut producer| producer.send(&record)).expect("sent");
        alert.alert_id.into_owned()
    }

    #[test]
    fn the_newest_transition_is_an_alerts_state() {
        let log = log();
        transition(&log, "S1", 1, AlertStatus::Active);
        transition(&log, "S2", 1, AlertStatus::Active);
        transition(&log, "S1", 2, AlertStatus::Resolved);
        let alerts = desk(&log).alerts().expect("readable");
        let states: Vec<_> = alerts.values().map(|a| (&*a.segment_id, a.status)).collect();
        assert_eq!(states, [("S1", AlertStatus::Resolved), ("S2", AlertStatus::Active)]);
    }

    #[test]
    fn a_command_about_an_alert_goes_to_its_segments_partition() {
        let log = log();
        let id = transition(&log, "S2", 1, AlertStatus::Active);
        say(&desk(&log), "C1", &format!("ack {id} --by Ada")).expect("sent");
        say(&desk(&log), "C2", &format!("clear {id} --by Ada --reason mended")).expect("sent");
        let at = partition_of(b"S2", PARTITIONS);
        let sent = sent(&log, at);
        assert!(sent.iter().all(|(key, command)| {
            key == "S2" && command.segment_id.as_deref() == Some("S2") && command.alert_id.as_deref() == Some(&id)
        }));
        let kinds: Vec<_> = sent.iter().map(|(_, c)| (c.command, c.reason.as_deref())).collect();
        assert_eq!(kinds, [(CommandKind::Acknowledge, None), (CommandKind::Clear, Some("mended"))]);
    }

    #[test]
    fn a_silence_goes_to_every_partition_and_may_be_taken_back() {
        let log = log();
        let desk = desk(&log);
        say(&desk, "C1", "silence --segment S1 --rule sensor-silent --for 2h --by Ada --reason works").expect("sent");
        say(&desk, "C2", "silence --until 2025-10-06T00:00:00Z --by Ada --reason works").expect("sent");
        for partition in 0..PARTITIONS {
            let sent = sent(&log, partition);
            assert_eq!(sent.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["C1", "C2"]);
            assert_eq!((sent[0].1.from, sent[0].1.until), (None, Some(NOW_MS + 7_200_000)));
            assert_eq!(sent[1].1.until, Some(1_759_708_800_000));
        }
        say(&desk, "C3", "unsilence C1 --by Ada").expect("sent");
        assert_eq!(sent(&log, 2)[2].0, "C1", "keyed by the silence");
        let left: Vec<_> = desk.silences().expect("readable").into_iter().map(|s| s.command_id).collect();
        assert_eq!(left, ["C2"]);
    }

    #[test]
    fn what_can_not_be_is_said_and_nothing_is_sent() {
        let log = log();
        let ended = transition(&log, "S1", 1, AlertStatus::Resolved);
        let held = transition(&log, "S2", 1, AlertStatus::Investigating);
        for (line, expected) in [
            ("ack ALERT_1 --by Ada".to_owned(), "there is no alert ALERT_1"),
            (format!("clear {ended} --by Ada"), "has ended: it is RESOLVED"),
            (format!("ack {held} --by Ada"), "INVESTIGATING already"),
            (format!("ack {held}"), "--by <NAME>"),
            ("silence --by Ada --reason x".to_owned(), "--for <DURATION>"),
            ("silence --for 1h --until 5 --by Ada --reason x".to_owned(), "cannot be used with"),
            ("silence --until soon --by Ada --reason x".to_owned(), "is no time"),
            ("silence --until 5 --by Ada --reason x".to_owned(), "until is not in epoch milliseconds"),
            ("silence --for 1h --rule none --by Ada --reason x".to_owned(), "configured are predicted-congestion"),
            ("unsilence C1 --by Ada".to_owned(), "there is no silence C1"),
        ] {
            let error = format!("{:#}", say(&desk(&log), "C1", &line).expect_err(&line));
            assert!(error.contains(expected), "{line}: {error}");
        }
        assert_eq!((0..PARTITIONS).map(|partition| sent(&log, partition).len()).sum::<usize>(), 0);
    }
}

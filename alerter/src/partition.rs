//! The state of one partition, and what happens to a record.

use std::collections::BTreeMap;

use common::model::{Alert, AlertStatus, AlerterCommand, CommandKind};
use common::stream::{Outbox, Record};

use crate::codec::{self, Key};
use crate::episode::Episode;
use crate::input::{Forecast, Window, check_time};
use crate::settings::{Kind, Settings};
use crate::silences::{MOST, Silence, Silences};
use crate::table::Table;
use crate::voice::{CONGESTION, Counts, SILENT, Voice, Words};
use crate::{congestion, silent};

pub struct Partition {
    number: u32,
    /// By rule, in the order of the settings.
    tables: Vec<Table>,
    silences: Silences,
    /// What the changelog has of rules that are configured no more, by rule (its name in state entries) and segment.
    orphans: BTreeMap<(Box<str>, Box<str>), Episode>,
    /// The names of such rules.
    orphaned: Vec<Box<str>>,
}

impl Partition {
    pub fn new(number: u32, settings: &Settings) -> Self {
        Self {
            number,
            tables: settings.rules.iter().map(|_| Table::new()).collect(),
            silences: Silences::default(),
            orphans: BTreeMap::new(),
            orphaned: Vec::new(),
        }
    }

    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>, settings: &Settings) {
        let rule_at = |name: &str| settings.rules.iter().position(|rule| &*rule.state_name == name);
        match Key::decode(key) {
            Some(Key::Time { rule }) => match (rule_at(rule), value.and_then(codec::decode_time)) {
                (Some(i), Some(time)) => self.tables[i].restore_time(time),
                (Some(_), None) => {}
                (None, Some(_)) => self.orphaned.push(rule.into()),
                (None, None) => self.orphaned.retain(|name| &**name != rule),
            },
            Some(Key::Episode { rule, segment }) => {
                let episode = value.and_then(codec::decode_episode);
                match (rule_at(rule), episode) {
                    (Some(i), episode) => self.tables[i].restore(segment, episode),
                    (None, Some(episode)) => drop(self.orphans.insert((rule.into(), segment.into()), episode)),
                    (None, None) => drop(self.orphans.remove(&(rule.into(), segment.into()))),
                }
            }
            Some(Key::Silence { id }) => match value.and_then(codec::decode_silence) {
                Some(silence) => self.silences.insert(id, silence),
                None => drop(self.silences.remove(id)),
            },
            Some(Key::Incident { .. }) | None => {}
        }
    }

    /// Ends alerts of rules that are configured no more, and forgets those rules.
    pub fn end_orphans(&mut self, voice: &mut Voice<'_>) {
        for ((rule, segment), mut episode) in std::mem::take(&mut self.orphans) {
            if let Some(said) = episode.open.and_then(|open| episode.end(open.changed_at_ms, AlertStatus::Resolved)) {
                let (name, kind) = match rule.strip_prefix(Kind::CONGESTION) {
                    Some(name) => (name, CONGESTION),
                    None => (rule.strip_prefix(Kind::SILENT).unwrap_or(&rule), SILENT),
                };
                let words = Words::only("The rule is configured no more".to_owned());
                voice.emit(name, kind, &segment, episode.place, &said, &words);
            }
            voice.delete(&Key::Episode { rule: &rule, segment: &segment });
        }
        for rule in std::mem::take(&mut self.orphaned) {
            voice.delete(&Key::Time { rule: &rule });
        }
    }

    /// A record of the topic of forecasts.
    pub fn forecast(&mut self, record: &Record<'_>, settings: &Settings, voice: &mut Voice<'_>) {
        if record.value.is_none() {
            return;
        }
        let forecast = match Forecast::parse(record) {
            Ok(forecast) => forecast,
            Err(why) => return invalid("forecast", record, &why, voice),
        };
        for (rule, table) in settings.rules.iter().zip(&mut self.tables) {
            let Kind::PredictedCongestion(set) = &rule.kind else { continue };
            if set.horizon_minutes == forecast.prediction_horizon
                && !congestion::forecast(rule, set, table, &self.silences, &forecast, voice)
            {
                voice.counts.late += 1;
            }
        }
        self.expire_silences(voice);
    }

    /// A record of the topic of aggregates.
    pub fn aggregate(&mut self, record: &Record<'_>, settings: &Settings, voice: &mut Voice<'_>) {
        if let Some(marker_ms) = record.watermark_ms() {
            return match check_time(marker_ms, record) {
                Ok(()) => self.marker(marker_ms, settings, voice),
                Err(why) => invalid("watermark marker", record, &why, voice),
            };
        }
        let window = match Window::parse(record) {
            Ok(window) => window,
            Err(why) => return invalid("aggregate", record, &why, voice),
        };
        if window.event_count == 0 {
            return;
        }
        for (rule, table) in settings.rules.iter().zip(&mut self.tables) {
            let Kind::SensorSilent(set) = &rule.kind else { continue };
            if !silent::window(rule, set, table, &window, voice) {
                voice.counts.late += 1;
            }
        }
    }

    fn marker(&mut self, marker_ms: i64, settings: &Settings, voice: &mut Voice<'_>) {
        for (rule, table) in settings.rules.iter().zip(&mut self.tables) {
            if let Kind::SensorSilent(set) = &rule.kind {
                silent::marker(rule, set, table, &self.silences, marker_ms, voice);
            }
        }
        self.expire_silences(voice);
    }

    /// Forgets silences that no rule can come into any more.
    fn expire_silences(&mut self, voice: &mut Voice<'_>) {
        if self.silences.len() == 0 {
            return;
        }
        if let Some(slowest_ms) = self.tables.iter().map(|table| table.time().now_ms).min() {
            for id in self.silences.expire(slowest_ms) {
                voice.delete(&Key::Silence { id: &id });
            }
        }
    }

    /// A record of the topic of commands.
    pub fn command(&mut self, record: &Record<'_>, settings: &Settings, voice: &mut Voice<'_>) {
        let Some(value) = record.value else { return };
        let done = AlerterCommand::parse(value).map_err(|error| error.to_string()).and_then(|command| {
            self.follow(&command, settings, voice)
                .map_err(|why| format!("{:?} {} by {}: {why}", command.command, command.command_id, command.by))
        });
        match done {
            Ok(()) => voice.counts.commands_followed += 1,
            Err(why) => {
                voice.counts.commands_ignored += 1;
                voice.counts.remark(format!("command at offset {} ignored: {why}", record.offset));
            }
        }
    }

    fn follow(
        &mut self,
        command: &AlerterCommand<'_>,
        settings: &Settings,
        voice: &mut Voice<'_>,
    ) -> Result<(), String> {
        match command.command {
            CommandKind::Acknowledge | CommandKind::Clear => self.change_alert(command, settings, voice),
            CommandKind::Silence => self.silence(command, settings, voice.out),
            CommandKind::Unsilence => {
                let id = command.silence_id.as_deref().unwrap_or_default();
                self.silences.remove(id).ok_or_else(|| format!("there is no silence {id}, or it is over"))?;
                voice.delete(&Key::Silence { id });
                Ok(())
            }
        }
    }

    fn silence(&mut self, command: &AlerterCommand<'_>, settings: &Settings, out: &mut Outbox) -> Result<(), String> {
        if let Some(name) = &command.rule
            && !settings.rules.iter().any(|rule| *rule.name == **name)
        {
            return Err(format!("there is no rule {name}"));
        }
        let (id, silence) = (&*command.command_id, Silence::asked_by(command));
        if self.silences.get(id).is_none() && self.silences.len() == MOST {
            return Err(format!("there are {MOST} silences already: end some"));
        }
        let (mut key, mut value) = (Vec::new(), Vec::new());
        Key::Silence { id }.encode(&mut key);
        codec::encode_silence(&silence, &mut value);
        out.put(self.number, &key, &value);
        self.silences.insert(id, silence);
        Ok(())
    }

    /// Acknowledges or clears the alert that a command names.
    fn change_alert(
        &mut self,
        command: &AlerterCommand<'_>,
        settings: &Settings,
        voice: &mut Voice<'_>,
    ) -> Result<(), String> {
        let segment = command.segment_id.as_deref().unwrap_or_default();
        let id = command.alert_id.as_deref().unwrap_or_default();
        for (rule, table) in settings.rules.iter().zip(&mut self.tables) {
            let Some(mut episode) = table.get(segment).copied() else { continue };
            let Some(open) = episode.open.filter(|open| Alert::id_of(segment, &rule.name, open.opened_at_ms) == id)
            else {
                continue;
            };
            let at_ms = table.time().now_ms.max(open.changed_at_ms);
            let (said, verb) = if command.command == CommandKind::Clear {
                (episode.end(at_ms, AlertStatus::Cleared), "Cleared")
            } else {
                (episode.acknowledge(at_ms), "Acknowledged")
            };
            let Some(said) = said else { return Err("it is acknowledged already".to_owned()) };
            let reason = command.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let description = format!("{verb} by {}{reason}", command.by);
            let words = Words { by: Some(&command.by), ..Words::only(description) };
            voice.say(rule, segment, episode.place, &said, &words);
            table.put(segment, episode);
            return Ok(());
        }
        Err(format!("segment {segment} has no open alert {id} in partition {}", self.number))
    }

    /// Before a commit: what changed into the changelog.
    pub fn flush(&mut self, settings: &Settings, out: &mut Outbox) {
        for (rule, table) in settings.rules.iter().zip(&mut self.tables) {
            table.flush(self.number, &rule.state_name, out);
        }
    }
}

fn invalid(what: &str, record: &Record<'_>, why: &str, voice: &mut Voice<'_>) {
    voice.counts.invalid += 1;
    let (partition, offset) = (voice.partition, record.offset);
    voice.counts.remark(format!("{what} at partition {partition} offset {offset} left out: {why}"));
}

impl Partition {
    pub fn voice<'a>(&self, out: &'a mut Outbox, counts: &'a mut Counts) -> Voice<'a> {
        Voice { partition: self.number, out, counts }
    }
}

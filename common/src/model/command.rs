//! What operators tell the alerter.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CommandKind {
    /// Somebody looks after an alert: it becomes INVESTIGATING.
    Acknowledge,
    /// Ends an alert: it becomes CLEARED.
    Clear,
    /// No alert that matches opens in [from, until) of event time.
    Silence,
    /// Ends a silence before its time.
    Unsilence,
}

/// A message of `alerter-commands`: `docs/schemas/alerter-command.json`.
///
/// ACKNOWLEDGE and CLEAR are keyed by segment, as forecasts are. SILENCE and UNSILENCE are written to every partition,
/// one record each, keyed by the silence's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlerterCommand<'a> {
    /// The same for all copies of one command; of a SILENCE it is the silence's id.
    #[serde(borrow)]
    pub command_id: Cow<'a, str>,
    pub command: CommandKind,
    /// ACKNOWLEDGE, CLEAR: which alert.
    #[serde(skip_serializing_if = "Option::is_none", default, borrow)]
    pub alert_id: Option<Cow<'a, str>>,
    /// ACKNOWLEDGE, CLEAR: the alert's segment. SILENCE: only alerts of this one.
    #[serde(skip_serializing_if = "Option::is_none", default, borrow)]
    pub segment_id: Option<Cow<'a, str>>,
    /// SILENCE: only alerts of this rule.
    #[serde(skip_serializing_if = "Option::is_none", default, borrow)]
    pub rule: Option<Cow<'a, str>>,
    /// UNSILENCE: which silence.
    #[serde(skip_serializing_if = "Option::is_none", default, borrow)]
    pub silence_id: Option<Cow<'a, str>>,
    /// SILENCE: event time from which it holds, epoch ms; absent, at once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<i64>,
    /// SILENCE: event time from which it holds no more, epoch ms.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<i64>,
    /// Who says so.
    #[serde(borrow)]
    pub by: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none", default, borrow)]
    pub reason: Option<Cow<'a, str>>,
    /// When it was said, wall time, epoch ms; nothing depends on it.
    pub timestamp: i64,
}

/// Why a command can not be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("not a command: {0}")]
    Unreadable(String),
    #[error("{field} {problem}")]
    Field { field: &'static str, problem: &'static str },
}

/// Longest texts, characters.
const ID: usize = 128;
const SEGMENT: usize = 64;
const RULE: usize = 30;
const NAME: usize = 100;
const REASON: usize = 300;

impl<'a> AlerterCommand<'a> {
    /// Reads and checks a command.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &'a [u8]) -> Result<Self, CommandError> {
        let command: Self = serde_json::from_slice(json).map_err(|e| CommandError::Unreadable(e.to_string()))?;
        command.check()?;
        Ok(command)
    }

    /// Whether it has what its kind needs, and nothing that its kind does not know.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), CommandError> {
        text("command_id", Some(&self.command_id), ID, is_id)?;
        text("alert_id", self.alert_id.as_ref(), ID, is_id)?;
        text("segment_id", self.segment_id.as_ref(), SEGMENT, is_id)?;
        text("rule", self.rule.as_ref(), RULE, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')?;
        text("silence_id", self.silence_id.as_ref(), ID, is_id)?;
        text("by", Some(&self.by), NAME, |c| !c.is_control())?;
        text("reason", self.reason.as_ref(), REASON, |c| !c.is_control())?;
        for (field, time) in [("from", self.from), ("until", self.until), ("timestamp", Some(self.timestamp))] {
            let fits = time.is_none_or(|ms| (1_000_000_000_000..=9_999_999_999_999).contains(&ms));
            require(fits, field, "is not in epoch milliseconds of the years 2001 to 2286")?;
        }
        match self.command {
            CommandKind::Acknowledge | CommandKind::Clear => {
                require(self.alert_id.is_some(), "alert_id", "is missing")?;
                require(self.segment_id.is_some(), "segment_id", "is missing: it says where the alert is kept")?;
            }
            CommandKind::Silence => {
                require(self.until.is_some(), "until", "is missing: a silence ends at some time")?;
                require(self.from < self.until, "until", "is not after from")?;
            }
            CommandKind::Unsilence => require(self.silence_id.is_some(), "silence_id", "is missing")?,
        }
        self.check_strangers()
    }

    /// A selector that would not be heeded is refused: who wrote it meant something by it.
    fn check_strangers(&self) -> Result<(), CommandError> {
        let kind = self.command;
        let one_alert = matches!(kind, CommandKind::Acknowledge | CommandKind::Clear);
        let silence = kind == CommandKind::Silence;
        for (field, there, known) in [
            ("alert_id", self.alert_id.is_some(), one_alert),
            ("segment_id", self.segment_id.is_some(), one_alert || silence),
            ("rule", self.rule.is_some(), silence),
            ("silence_id", self.silence_id.is_some(), kind == CommandKind::Unsilence),
            ("from", self.from.is_some(), silence),
            ("until", self.until.is_some(), silence),
        ] {
            require(!there || known, field, "does not belong to this kind of command")?;
        }
        Ok(())
    }
}

fn is_id(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn require(holds: bool, field: &'static str, problem: &'static str) -> Result<(), CommandError> {
    if holds { Ok(()) } else { Err(CommandError::Field { field, problem }) }
}

fn text(
    field: &'static str,
    text: Option<&Cow<'_, str>>,
    longest: usize,
    may: impl Fn(char) -> bool,
) -> Result<(), CommandError> {
    let Some(text) = text else { return Ok(()) };
    require(!text.is_empty(), field, "is empty")?;
    require(text.chars().count() <= longest, field, "is too long")?;
    require(text.chars().all(may), field, "holds characters that are not allowed")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn silence() -> Value {
        json!({
            "command_id": "C1", "command": "SILENCE", "segment_id": "S1", "rule": "sensor-silent",
            "until": 1_759_680_000_000_i64, "by": "Ada", "reason": "roadworks", "timestamp": 1_759_670_000_000_i64,
        })
    }

    #[test]
    fn commands_come_back() {
        let text = silence().to_string();
        let command = AlerterCommand::parse(text.as_bytes()).expect("valid");
        assert_eq!(serde_json::to_value(&command).expect("JSON"), silence());
        assert!(matches!(command.by, Cow::Borrowed("Ada")), "nothing is copied");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (change, expected) in [
            (json!({ "command": "SHOUT" }), "not a command"),
            (json!({ "segment": "S1" }), "unknown field `segment`"),
            (json!({ "until": null }), "until is missing"),
            (json!({ "from": 1_759_680_000_000_i64 }), "until is not after from"),
            (json!({ "until": 1_759_680_000 }), "until is not in epoch milliseconds"),
            (json!({ "rule": "Sensor_silent" }), "rule holds characters"),
            (json!({ "by": "" }), "by is empty"),
            (json!({ "by": "x".repeat(101) }), "by is too long"),
            (json!({ "alert_id": "ALERT_1" }), "alert_id does not belong"),
            (json!({ "command": "CLEAR" }), "alert_id is missing"),
            (json!({ "command": "CLEAR", "alert_id": "A", "segment_id": null }), "segment_id is missing"),
            (json!({ "command": "CLEAR", "alert_id": "A" }), "rule does not belong"),
            (json!({ "command": "UNSILENCE" }), "silence_id is missing"),
        ] {
            let mut command = silence();
            for (field, value) in change.as_object().expect("an object") {
                command[field] = value.clone();
            }
            let error = AlerterCommand::parse(command.to_string().as_bytes()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

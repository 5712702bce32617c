//! The layers of settings, merged into one table that remembers where each value came from.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::Config;
use super::problems::Problems;

/// The merged layers. A setting is named by its dotted path: `http.listen`.
#[derive(Debug, Default)]
pub(super) struct Layers {
    table: Table,
    origins: BTreeMap<String, String>,
}

impl Layers {
    /// The lowest layer: a TOML file.
    pub(super) fn add_file(&mut self, path: &Path, problems: &mut Problems) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return problems.add(format!("cannot read the settings file {}: {error}", path.display())),
        };
        match text.parse::<Table>() {
            Ok(table) => {
                for (setting, _) in leaves(&table) {
                    self.origins.insert(setting, path.display().to_string());
                }
                self.table = table;
            }
            // The error's own display would quote the line, which may hold a password.
            Err(error) => {
                let line = error.span().and_then(|span| text.get(..span.start)).map_or(1, |t| t.split('\n').count());
                problems.add(format!("{}, line {line}: not TOML: {}", path.display(), error.message()));
            }
        }
    }

    /// Sets one value, which came from `origin`.
    pub(super) fn set(&mut self, setting: &str, text: &str, origin: String) {
        self.origins.insert(setting.to_owned(), origin);
        insert(&mut self.table, setting, typed(setting, text));
    }

    /// Reports every value that is not of its setting's type, and every setting that nobody knows.
    pub(super) fn check_types(&self, problems: &mut Problems) {
        for (setting, value) in leaves(&self.table) {
            if let Err(error) = alone(&setting, value) {
                problems.add_value(&setting, &shown(value), self.origin(&setting), error.message());
            }
        }
    }

    pub(super) fn read(&self, problems: &mut Problems) -> Option<Config> {
        self.table.clone().try_into().map_err(|error: toml::de::Error| problems.add(error.message().to_owned())).ok()
    }

    /// Where a setting's value came from.
    pub(super) fn origin(&self, setting: &str) -> &str {
        self.origins.get(setting).map_or("the default", String::as_str)
    }
}

/// A variable's text as the kind of value that its setting takes; as text if it takes none of them.
fn typed(setting: &str, text: &str) -> Value {
    let kinds = [
        Some(Value::String(text.to_owned())),
        text.parse().ok().map(Value::Integer),
        text.to_ascii_lowercase().parse().ok().map(Value::Boolean),
    ];
    let fitting = kinds.into_iter().flatten().find(|value| alone(setting, value).is_ok());
    fitting.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Reads one value on its own, which works because every setting has a default.
fn alone(setting: &str, value: &Value) -> Result<Config, toml::de::Error> {
    let mut table = Table::new();
    insert(&mut table, setting, value.clone());
    table.try_into()
}

fn insert(table: &mut Table, setting: &str, value: Value) {
    let Some((section, rest)) = setting.split_once('.') else {
        table.insert(setting.to_owned(), value);
        return;
    };
    let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    // A plain value in the file where a section belongs is reported as such.
    if let Value::Table(inner) = inner {
        insert(inner, rest, value);
    }
}

/// All values with their dotted paths; an empty section counts as a value.
fn leaves(table: &Table) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                found.extend(leaves(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            value => found.push((key.clone(), value)),
        }
    }
    found
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

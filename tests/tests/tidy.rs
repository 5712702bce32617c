//! The house rules that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose modules are machines: no I/O, no clock, no randomness, no environment.
const MACHINES: [&str; 3] = ["aggregator/src", "predictor/src", "alerter/src"];
/// In them, what connects the machine to the world.
const NOT_A_MACHINE: [&str; 7] =
    ["main.rs", "lib.rs", "worker.rs", "config.rs", "models.rs", "trainer.rs", "retraining.rs"];
const NOT_IN_A_MACHINE: [&str; 6] = ["tokio", "std::time::Instant", "Instant::now", "SystemTime", "std::env", "rand::"];
const LONGEST_FILE: usize = 500;
/// Left unfinished. In two parts each, so that this file does not find itself.
const UNFINISHED: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("un", "implemented!"), concat!("to", "do!")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the workspace").to_owned()
}

/// The project's own texts, by their path from the root; nothing hidden and nothing built.
fn texts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if ["rs", "sh", "py", "toml", "md", "yaml", "yml"]
                .iter()
                .any(|e| path.extension() == Some(e.as_ref()))
            {
                let from_root = path.strip_prefix(root()).expect("it is under the root").to_string_lossy().into_owned();
                found.push((from_root, fs::read_to_string(&path).expect("UTF-8 text")));
            }
        }
    }
    found.sort();
    found
}

/// The lines of code before the file's tests, numbered from 1, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines.enumerate().map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default()))
}

fn is_test(path: &str) -> bool {
    path.contains("tests/") || path.ends_with("/tests.rs")
}

fn is_machine(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    MACHINES.iter().any(|folder| path.starts_with(folder)) && !NOT_A_MACHINE.contains(&file) && !is_test(path)
}

/// What is wrong with one file.
fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for word in UNFINISHED.iter().filter(|word| contains_word(line, word)) {
            found.push(format!("{path}:{}: {word} left in", i + 1));
        }
    }
    if !path.ends_with(".rs") {
        return found;
    }
    let length = code(text).count();
    if length > LONGEST_FILE && !is_test(path) {
        found.push(format!("{path}: {length} lines before its tests; {LONGEST_FILE} are enough for one subject"));
    }
    if is_machine(path) {
        for (i, line) in code(text) {
            for word in NOT_IN_A_MACHINE.iter().filter(|word| contains_word(line, word)) {
                found.push(format!("{path}:{i}: {word} in a machine: time, chance and settings come in as arguments"));
            }
        }
    }
    found
}

/// Whether `word` stands in the line, not as the end of a longer one.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let in_a_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !in_a_word(before) && (!in_a_word(after) || word.ends_with(':'))
    })
}

#[test]
fn the_project_is_tidy() {
    let texts = texts();
    assert!(
        texts.iter().any(|(path, _)| path == "common/src/lib.rs"),
        "the project was not found: {}",
        root().display()
    );
    let found: Vec<String> = texts.iter().flat_map(|(path, text)| complaints(path, text)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn complaints_are_made() {
    let machine = "aggregator/src/window/close.rs";
    for (path, text, expected) in [
        (machine, "use tokio::sync::mpsc;", Some(":1: tokio in a machine")),
        (machine, "\nlet now = Instant::now();", Some(":2: Instant::now in a machine")),
        (machine, "let x = rand::random();", Some(":1: rand:: in a machine")),
        (machine, "let x = std::env::var(\"X\");", Some(":1: std::env in a machine")),
        (machine, "// tokio is not used\nlet operand::X = 1;", None),
        (machine, "#[cfg(test)]\nmod tests { use std::env; }", None),
        ("aggregator/src/worker.rs", "use tokio::sync::mpsc;", None),
        ("common/src/health.rs", "use tokio::sync::mpsc;", None),
        ("README.md", concat!("TO", "DO: write"), Some("left in")),
        ("x/src/a.rs", concat!("to", "do!()"), Some("left in")),
        ("x/src/a.rs", concat!("let TO", "DOS = 1;"), None),
    ] {
        let found = complaints(path, text);
        match expected {
            Some(part) => assert!(found.iter().any(|c| c.contains(part)), "{path}: {text}: {found:?}"),
            None => assert_eq!(found, [""; 0], "{path}: {text}"),
        }
    }
    let long = "let x = 1;\n".repeat(LONGEST_FILE + 1);
    assert_eq!(complaints("x/src/a.rs", &long).len(), 1);
    assert_eq!(complaints("x/tests/a.rs", &long).len(), 0);
    assert_eq!(complaints("x/src/a.rs", &format!("#[cfg(test)]\n{long}")).len(), 0);
}

/// An operator who looks for a metric that a page names finds it.
#[test]
fn metrics_that_pages_name_exist() {
    let texts = texts();
    let sources: String = texts.iter().filter(|(path, _)| path.contains("/src/")).map(|(_, text)| &**text).collect();
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut seen = 0;
    for (path, text) in texts.iter().filter(|(path, _)| path.starts_with("docs/") && !path.starts_with("docs/adr/")) {
        for (at, _) in text.match_indices("`traffic_") {
            let name: String = text[at + 1..].chars().take_while(|c| is_name(*c)).collect();
            seen += 1;
            assert!(sources.contains(&format!("\"{name}\"")), "{path}: no metric is called {name}");
        }
    }
    assert!(seen > 20, "{seen} names were found");
}

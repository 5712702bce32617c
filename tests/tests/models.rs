//! The model registry on every store, and `traffic model` as an operator runs it.

use std::path::Path;
use std::time::Duration;

use common::store::memory::MemoryStore;
use common::store::{Store, StoreOptions, open};
use predictor::registry::{Bump, Registry, Version};
use serde_json::Value;
use tests::models::{check, description};
use tests::{Worker, services};
use tokio::runtime::Runtime;

const DEADLINE: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn local(directory: &Path) -> Store {
    open(&format!("file://{}", directory.display()), &StoreOptions::default()).expect("opens")
}

#[test]
fn the_registry_keeps_its_promises_in_memory_and_in_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = runtime();
    runtime.block_on(check(&Store::Memory(MemoryStore::new())));
    runtime.block_on(check(&local(directory.path())));
}

#[test]
fn the_registry_keeps_its_promises_on_hdfs() {
    let Some(url) = services::hdfs() else { return };
    let options = StoreOptions { replication: Some(1), ..StoreOptions::default() };
    runtime().block_on(async { check(&open(&url, &options).expect("opens")).await });
}

/// A deployment in a directory, with v1.0.0 and v1.1.0 published by the library.
struct Scene {
    directory: tempfile::TempDir,
    registry: Registry,
    runtime: Runtime,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let registry = Registry::new(local(&directory.path().join("traffic-store")), "/models/speed");
        let runtime = runtime();
        for (model, better) in [(b"first", 0.0), (b"other", 5.0)] {
            runtime
                .block_on(registry.publish(model, &description("predictor-0", better), Bump::Minor))
                .expect("published");
        }
        Self { directory, registry, runtime }
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let environment =
            [("TRAFFIC_DATABASE", "none"), ("TRAFFIC_HTTP_LISTEN", "off"), ("TRAFFIC_INSTANCE", "desk-1")];
        let arguments = [&["model"], arguments].concat();
        let mut worker = Worker::start_in(self.directory.path(), "traffic", &arguments, &environment);
        let status = worker.wait(DEADLINE);
        (status.code(), worker.output(), worker.log())
    }

    fn fine(&self, arguments: &[&str]) -> String {
        let (code, said, log) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}{log}");
        said
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let said = self.fine(&[arguments, &["--json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
    }

    fn fails(&self, arguments: &[&str], expected_code: i32, text: &str) {
        let (code, _, log) = self.run(arguments);
        assert_eq!(code, Some(expected_code), "{arguments:?}: {log}");
        assert!(log.contains(text), "{arguments:?}: {text:?} is not in {log}");
    }

    fn file(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join("traffic-store/models/speed").join(path)
    }
}

#[test]
fn an_operator_promotes_rolls_back_and_looks() {
    let scene = Scene::new();
    let said = scene.fine(&["list"]);
    for part in
        ["v1.0.0", "v1.1.0", "GRADIENT_BOOSTING", "430,000", "MAE 15", "4.000", "3.800", "no version is current"]
    {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    scene.fails(&["rollback"], 1, "no version is current yet");
    assert_eq!(scene.json(&["promote", "v1.0.0"])["promotion"], 1);
    assert_eq!(scene.fine(&["promote", "v1.1.0", "--reason", "better"]), "v1.1.0 is current (promotion 2)\n");
    assert_eq!(scene.fine(&["promote", "v1.1.0"]), "v1.1.0 is current (promotion 2)\n", "safe to run again");
    let back = scene.json(&["rollback", "--by", "ada", "--reason", "odd on I-405"]);
    assert_eq!(back, serde_json::json!({"version": "v1.0.0", "promotion": 3, "pinned": true}));
    scene.fails(&["rollback"], 1, "there is no version before v1.0.0 to go back to; name one");
    let said = scene.fine(&["list"]);
    assert!(said.contains("current, pinned"), "{said}");
    assert!(said.contains("promotion 3: v1.0.0 gone back to, and pinned, by ada"), "{said}");
    assert!(said.contains(": odd on I-405"), "{said}");
    let current = scene.runtime.block_on(scene.registry.current()).expect("readable").expect("one");
    assert_eq!((current.version, current.promotion, current.pinned), (Version::FIRST, 3, true));
    assert_eq!(scene.fine(&["unpin"]), "v1.0.0 is current (promotion 4)\n");

    let listed = scene.json(&["list"]);
    assert_eq!((&listed["current"]["version"], &listed["current"]["by"]), (&"v1.0.0".into(), &"desk-1".into()));
    assert_eq!(listed["versions"][1]["metadata"]["metrics"][0]["mae_kmh"], 3.8);
    let shown = scene.json(&["show", "v1.0.0"]);
    let kinds: Vec<&Value> = shown["promotions"].as_array().expect("a list").iter().map(|p| &p["kind"]).collect();
    assert_eq!(kinds, ["unpin", "rollback", "manual"]);
    assert_eq!((&shown["current"], &shown["pinned"], &shown["problem"]), (&true.into(), &false.into(), &Value::Null));
    let said = scene.fine(&["show", "v1.1.0"]);
    for part in ["speed v1.1.0", "predictor-0", "15, 30, 60 min ahead", "sha256:", "LAST VALUE", "5.200", "by desk-1"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
}

#[test]
fn versions_are_compared_horizon_by_horizon() {
    let scene = Scene::new();
    let said = scene.fine(&["compare", "v1.0.0", "v1.1.0"]);
    let line = said.lines().find(|line| line.starts_with("15 min")).expect("a line a horizon");
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["15", "min", "MAE", "km/h", "4.000", "3.800", "-5.00", "%"]
    );
    let compared = scene.json(&["compare", "v1.0.0", "v1.1.0"]);
    assert_eq!(compared["horizons"].as_array().map(Vec::len), Some(3));
    let difference = compared["horizons"][2]["difference"]["mae_kmh"].as_f64().expect("a number");
    assert!((difference + 0.05).abs() < 1e-9, "{difference}");
    assert_eq!(compared["horizons"][2]["difference"]["coverage_90"], 0.0);
}

#[test]
fn what_is_wrong_is_said_with_its_remedy() {
    let scene = Scene::new();
    scene.fine(&["promote", "v1.0.0"]);
    scene.fails(&["show", "v7.0.0"], 1, "there is no version v7.0.0 in /models/speed; the newest is v1.1.0");
    scene.fails(&["show", "1.0"], 2, "versions are written like v1.4.0");
    scene.fails(&["promote"], 2, "<VERSION>");
    std::fs::write(scene.file("v1.1.0/model.bin"), "othEr").expect("written");
    scene.fails(&["promote", "v1.1.0"], 1, "v1.1.0/model.bin: is damaged: its hash is sha256:");
    scene.fails(&["show", "v1.1.0"], 1, "restore the file from a backup, or use another version");
    std::fs::write(scene.file("v1.1.0/metadata.json"), "{").expect("written");
    let said = scene.fine(&["list"]);
    assert!(
        said.contains("damaged") && said.contains("problem: /models/speed/v1.1.0/metadata.json: cannot be read"),
        "{said}"
    );
    assert_eq!(scene.json(&["list"])["versions"][1]["state"], "damaged");

    std::fs::create_dir(scene.file("v1.2.0")).expect("made");
    std::fs::write(scene.file("v1.2.0/model.bin"), "half").expect("written");
    std::fs::write(scene.file("v1.2.0/.model.bin.1.tmp"), "ha").expect("written");
    std::fs::remove_file(scene.file("CURRENT")).expect("removed");
    assert!(scene.fine(&["list"]).contains("unfinished"));
    assert!(scene.fine(&["tidy", "--dry-run"]).contains("v1.2.0"));
    let tidied = scene.json(&["tidy"]);
    let expected =
        serde_json::json!({"abandoned": ["v1.2.0"], "removed": ["v1.2.0"], "swept": 1, "current_written": true});
    assert_eq!(tidied, expected);
    assert_eq!(scene.fine(&["tidy"]), "all is tidy\n");
    assert!(!scene.fine(&["list"]).contains("abandoned") && scene.fine(&["list", "--all"]).contains("abandoned"));

    std::fs::write(scene.file("promotions/0000000001.json"), "").expect("written");
    scene.fails(&["list"], 1, "promotions/0000000001.json: cannot be read");
}

/// The words of a command on a page: quotes hold together, two spaces begin the comment.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut letters = command.trim_end().chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted && letters.peek() == Some(&' ') => break,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("never empty").push(letter),
        }
    }
    words
}

#[test]
fn the_commands_of_the_page_run_as_they_stand_there() {
    let scene = Scene::new();
    scene.fine(&["promote", "v1.0.0"]);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/models.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let commands: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("traffic model ")).collect();
    assert_eq!(commands.len(), 7);
    for command in commands {
        let words = words(command);
        scene.fine(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

//! A real HDFS (`tests/services/hdfs.sh`) that a test has to itself; it goes when the test's process does, however that
//! ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::services;

const SERVICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/services");

/// A namenode, its datanodes, and where they live.
#[derive(Debug)]
pub struct OwnHdfs {
    directory: PathBuf,
    url: String,
    /// Cleans up after us: it outlives us, and nobody waits for it.
    _keeper: Child,
}

impl OwnHdfs {
    /// Starts one, of the kind that the script makes with these variables. `None` where tests with services are left out.
    ///
    /// # Panics
    /// If it can not be started.
    #[must_use]
    pub fn start(kind: &[(&str, &str)]) -> Option<Self> {
        if services::quick() {
            println!("skipped: an HDFS with {kind:?}, since TRAFFIC_QUICK=1");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory").keep();
        let keeper = Command::new("setsid")
            .arg(script("hdfs.sh"))
            .args([Path::new("keep"), &directory])
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setsid is there");
        said(Command::new(script("hdfs.sh")).arg("start").arg(&directory).envs(kind.iter().copied()));
        let said = said(Command::new(script("hdfs.sh")).arg("env").arg(&directory));
        let url = said.trim().trim_start_matches("export TRAFFIC_TEST_HDFS=").to_owned();
        Some(Self { directory, url, _keeper: keeper })
    }

    /// `hdfs://host:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it and its realm keep.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A command of `hdfs.sh`.
    #[must_use]
    pub fn command(&self, command: &str) -> Command {
        self.command_of("hdfs.sh", command)
    }

    /// A command of another service in the same directory.
    #[must_use]
    pub fn command_of(&self, service: &str, command: &str) -> Command {
        let mut script = Command::new(script(service));
        script.arg(command).arg(&self.directory);
        script
    }
}

fn script(service: &str) -> PathBuf {
    Path::new(SERVICES).join(service)
}

/// Runs it; returns what it says.
///
/// # Panics
/// If it fails.
pub fn said(command: &mut Command) -> String {
    let output = command.output().expect("the script runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

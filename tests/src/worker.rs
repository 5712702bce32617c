//! A built binary of this workspace, run as a process of its own: to be stopped, killed, listened to.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wait_until;

/// A running process. Killed when dropped; what it said is then printed if the test is failing.
#[derive(Debug)]
pub struct Worker {
    name: String,
    child: Child,
    stdout: Captured,
    stderr: Captured,
}

/// What a process has said so far, and the thread that listens.
#[derive(Debug)]
struct Captured {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Worker {
    /// Runs `binary` with `arguments`. Of the environment it gets everything but the settings of this
    /// project, Kafka and HDFS, and then `environment`.
    ///
    /// # Panics
    /// If the binary has not been built: `cargo test` builds the binaries of the tested package only.
    #[must_use]
    pub fn start(binary: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_in(Path::new("."), binary, arguments, environment)
    }

    /// The same, standing in `directory`.
    ///
    /// # Panics
    /// If the binary has not been built.
    #[must_use]
    pub fn start_in(directory: &Path, binary: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let path = built(binary);
        assert!(path.exists(), "{} is not built: run `cargo build --workspace` first", path.display());
        let mut command = Command::new(path);
        for name in inherited_settings() {
            command.env_remove(name);
        }
        Self::spawn(binary, command.current_dir(directory).args(arguments).envs(environment.iter().copied()))
    }

    fn spawn(name: &str, command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
        let stdout = Captured::listen(child.stdout.take().expect("stdout is piped"));
        let stderr = Captured::listen(child.stderr.take().expect("stderr is piped"));
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM: asks it to finish.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGSTOP: it does nothing from here on and does not know it.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// SIGCONT after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        // The shell's own `kill`: the program of that name is not on every system.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", self.pid())).status();
        assert!(sent.as_ref().is_ok_and(ExitStatus::success), "{}: cannot send SIG{signal}: {sent:?}", self.name);
    }

    /// SIGKILL: it is gone when this returns.
    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        self.listen_to_the_end();
    }

    /// Waits until it exits.
    ///
    /// # Panics
    /// If it still runs at `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the exit of {}", self.name);
        let status = wait_until(deadline, &what, || self.child.try_wait().expect("it is our own child"));
        self.listen_to_the_end();
        status
    }

    /// Whether it has not exited yet.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our own child").is_none()
    }

    /// Waits until it says `text` on stderr, and returns that line.
    ///
    /// # Panics
    /// If it has not by `deadline`.
    pub fn wait_for_log(&self, deadline: Duration, text: &str) -> String {
        wait_until(deadline, &format!("{text:?} in the log of {}", self.name), || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// What it has said on stderr.
    #[must_use]
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// What it has said on stdout.
    #[must_use]
    pub fn output(&self) -> String {
        self.stdout.text()
    }

    fn listen_to_the_end(&mut self) {
        for captured in [&mut self.stdout, &mut self.stderr] {
            if let Some(reader) = captured.reader.take() {
                reader.join().expect("a reader does not panic");
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail if it has exited, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} said on stdout:\n{}--- on stderr:\n{}---", self.name, self.output(), self.log());
        }
    }
}

impl Captured {
    fn listen(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let said = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                said.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where cargo puts a binary of the profile that this test was built in: beside the folder of the tests.
///
/// # Panics
/// If the test does not run from there.
#[must_use]
pub fn built(binary: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test is a file");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("tests are in target/<profile>/deps");
    profile.join(binary)
}

#[expect(clippy::disallowed_methods, reason = "workers must not see the settings of whoever runs the tests")]
fn inherited_settings() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        ["TRAFFIC_", "KAFKA_", "HDFS_"].iter().any(|prefix| name.starts_with(prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Worker {
        Worker::spawn("sh", Command::new("sh").arg("-c").arg(script))
    }

    #[test]
    fn what_it_says_is_kept() {
        let mut worker = shell("echo out; echo err >&2; exit 3");
        assert_eq!(worker.wait(SOON).code(), Some(3));
        assert_eq!((worker.output().as_str(), worker.log().as_str()), ("out\n", "err\n"));
        assert!(!worker.runs());
    }

    #[test]
    fn it_is_asked_to_finish() {
        let mut worker = shell("trap 'echo bye; exit 0' TERM; echo ready >&2; while :; do sleep 0.05; done");
        assert_eq!(worker.wait_for_log(SOON, "read"), "ready");
        worker.terminate();
        assert_eq!(worker.wait(SOON).code(), Some(0));
        assert_eq!(worker.output(), "bye\n");
    }

    #[test]
    fn it_is_killed() {
        let mut worker = shell("trap '' TERM; echo ready >&2; while :; do sleep 0.05; done");
        worker.wait_for_log(SOON, "ready");
        assert!(worker.runs());
        worker.kill();
        assert!(!worker.runs());
    }
}

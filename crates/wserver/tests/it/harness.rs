//! Starts the real binary and speaks to it.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: far beyond what is expected of a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// In what the runtime says about a panic.
const PANIC: &str = " panicked at ";

/// One running server, killed when it is dropped. Its panics are those of the test.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: Option<BufReader<ChildStderr>>,
    pub(crate) address: SocketAddr,
}

/// Most tests are about one port for all; those of the port that a server without a key opens for
/// pushes start one as it is shipped.
const ALLOW_OPEN_PUSH: &str = "WSERVER_ALLOW_OPEN_PUSH";

impl Server {
    /// The binary with default settings, but that it takes pushes at the port of its WebSockets.
    pub(crate) fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// The binary as it is shipped: without a key, pushes have a port of their own.
    pub(crate) fn start_as_shipped(address: &str, flags: &[&str]) -> Self {
        let mut command = command();
        command.args(["--address", address, "--log-format", "json"]).args(flags);
        Self::spawn(command.env_remove(ALLOW_OPEN_PUSH))
    }

    /// The same, looked at where it takes pushes.
    pub(crate) fn start_private(flags: &[&str]) -> Self {
        let mut server = Self::start_as_shipped("127.0.0.1:0", flags);
        server.address = server.private_address();
        server
    }

    /// Where it takes pushes, if that is a port of its own. To be asked before the log is read.
    pub(crate) fn private_address(&mut self) -> SocketAddr {
        let log = self.log.as_mut().expect("the log is not read yet");
        loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the log ended without the address");
            let event: serde_json::Value = serde_json::from_str(&line).expect("a log in JSON");
            if event["message"] == "pushes have a separate address" {
                break event["address"].as_str().unwrap().parse().expect("host:port");
            }
        }
    }

    /// The binary with these flags and environment.
    pub(crate) fn start_with(flags: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_at("127.0.0.1:0", flags, environment)
    }

    /// The same at an address of the caller's.
    pub(crate) fn start_at(address: &str, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.args(["--address", address, "--log-format", "json"]).args(flags);
        Self::spawn(command.envs(environment.iter().copied()))
    }

    /// A server by a command of the caller's, which logs in either format.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        if !command.get_envs().any(|(name, _)| name == ALLOW_OPEN_PUSH) {
            command.env(ALLOW_OPEN_PUSH, "true");
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut log = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server ended before it listened");
            if let Some(address) = listening(&line) {
                break address.parse().expect("host:port");
            }
        };
        Self { child, log: Some(log), address }
    }

    /// Reads the log on, to its end, in a thread of its own: a full pipe would hold a talkative server up.
    pub(crate) fn read_log(&mut self) -> std::thread::JoinHandle<String> {
        let mut reader = self.log.take().expect("the log is read once");
        std::thread::spawn(move || {
            let mut log = String::new();
            reader.read_to_string(&mut log).expect("a log is text");
            assert!(!log.contains(PANIC), "{log}");
            log
        })
    }

    /// Reads no more of the log, and whoever writes it notices.
    pub(crate) fn close_log(&mut self) {
        self.log = None;
    }

    /// Reads the log on as it comes, in a thread of its own.
    pub(crate) fn follow_log(&mut self) -> Log {
        let reader = self.log.take().expect("the log is read once");
        // As many lines as a test can mean to pass over; beyond them the reader waits.
        let (sender, lines) = std::sync::mpsc::sync_channel(10_000);
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Log { lines, read: String::new() }
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().unwrap();
        kib * 1024
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// A plain TCP connection.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Asks the server to end.
    pub(crate) fn signal(&self, name: &str) {
        let killed = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status()
            .unwrap();
        assert!(killed.success());
    }

    /// Waits for the server's end; its exit status and the rest of its log.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        if let Some(mut reader) = self.log.take() {
            reader.read_to_string(&mut log).unwrap();
        }
        assert!(!log.contains(PANIC), "{log}");
        (self.child.wait().unwrap(), log)
    }
}

/// The log of a running server.
#[derive(Debug)]
pub(crate) struct Log {
    lines: std::sync::mpsc::Receiver<String>,
    /// All that was read of it.
    pub(crate) read: String,
}

impl Log {
    /// Waits for the next line that holds `words`.
    pub(crate) fn until(&mut self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("{words:?} not in {}", self.read));
            assert!(!line.contains(PANIC), "{line}");
            self.read.push_str(&line);
            self.read.push('\n');
            if line.contains(words) {
                return line;
            }
        }
    }

    /// All of it, once the server has ended.
    pub(crate) fn rest(mut self) -> String {
        for line in self.lines.iter() {
            self.read.push_str(&line);
            self.read.push('\n');
        }
        assert!(!self.read.contains(PANIC), "{}", self.read);
        self.read
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut log = String::new();
        if let Some(mut reader) = self.log.take()
            && reader.read_to_string(&mut log).is_ok()
            && !std::thread::panicking()
        {
            // No input may cause one, whatever else a test is about.
            assert!(!log.contains(PANIC), "{log}");
        }
    }
}

/// The address in the line that says where the server listens.
fn listening(line: &str) -> Option<String> {
    if let Ok(event) = serde_json::from_str::<serde_json::Value>(line) {
        return (event["message"] == "listening")
            .then(|| event["address"].as_str().map(str::to_owned))?;
    }
    let (_, fields) = line.split_once(" listening ")?;
    let address = fields.split(' ').find_map(|field| field.strip_prefix("address="))?;
    Some(address.to_owned())
}

/// The binary, in an environment without settings.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wserver"));
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WSERVER_"))
    {
        command.env_remove(name);
    }
    command
}

/// Waits until `is_so`; the event is the state of another process, which cannot be waited on otherwise.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        // Looks again a little later, so that the server under test has the machine meanwhile.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

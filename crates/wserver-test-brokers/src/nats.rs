//! NATS servers of a test's own: [`Server`], and [`Servers`], which are two as one.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use crate::process::{Folder, Process, reserved_port, wait_for, wait_for_port};

/// The program, from Debian's package of that name.
pub const PROGRAM: &str = "nats-server";

/// A NATS server on a port that stays the same when it is started again.
#[derive(Debug)]
pub struct Server {
    process: Option<Process>,
    folder: Folder,
    port: u16,
}

impl Server {
    /// Starts one, with `config` beside its address: users, permissions, TLS, `max_payload`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(config: &str) -> Self {
        Self::start_on(reserved_port(), config)
    }

    fn start_on(port: u16, config: &str) -> Self {
        let folder = Folder::new();
        let config = format!("listen: \"127.0.0.1:{port}\"\n{config}\n");
        fs::write(folder.path().join("nats.conf"), config).expect("a file can be written");
        let mut server = Self { process: None, folder, port };
        server.restart();
        server
    }

    /// Its port, of 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `nats://` and its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The process, to pause it.
    ///
    /// # Panics
    /// When it was killed.
    #[must_use]
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again, ending it first where it still runs, and waits until it listens.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.kill();
        let config = self.folder.path().join("nats.conf");
        self.process = Some(Process::start(Command::new(PROGRAM).arg("--config").arg(config)));
        wait_for_port(self.port);
    }
}

/// Two NATS servers with routes to each other.
#[derive(Debug)]
pub struct Servers {
    /// Both of them.
    pub each: [Server; 2],
    monitors: [u16; 2],
}

impl Servers {
    /// Starts them, and waits until they know each other.
    ///
    /// # Panics
    /// When they do not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::start_by(|port| port)
    }

    /// The same with one way from one server to the other: to the port that `way` makes of that of the
    /// second one.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_by(way: impl FnOnce(u16) -> u16) -> Self {
        let ports = [reserved_port(), reserved_port()];
        let monitors = [reserved_port(), reserved_port()];
        let routes = [reserved_port(), reserved_port()];
        let way = way(routes[1]);
        let start = |at: usize, routes_to: &str| {
            let [monitor, here] = [monitors[at], routes[at]];
            // What the first one learns of the second leads the same way.
            let advertise = match at {
                0 => String::new(),
                _ => format!("\n  advertise: \"127.0.0.1:{way}\""),
            };
            Server::start_on(
                ports[at],
                &format!(
                    "server_name: \"server-{at}\"\nhttp: \"127.0.0.1:{monitor}\"\ncluster {{\n  \
                     name: test\n  listen: \"127.0.0.1:{here}\"\n  \
                     routes: [{routes_to}]{advertise}\n}}"
                ),
            )
        };
        let servers = Self {
            each: [start(0, &format!("\"nats-route://127.0.0.1:{way}\"")), start(1, "")],
            monitors,
        };
        for at in [0, 1] {
            servers.wait_for_route(at, "\"remote_id\"");
        }
        servers
    }

    /// `nats://` and the addresses of both.
    #[must_use]
    pub fn url(&self) -> String {
        let [one, two] = &self.each;
        format!("nats://127.0.0.1:{},127.0.0.1:{}", one.port, two.port)
    }

    /// Waits until server `at` knows that somebody at the other listens on `subject`: they tell each
    /// other a moment after the subscription is in force.
    ///
    /// # Panics
    /// When it does not learn of it in time.
    pub fn wait_for_subject(&self, at: usize, subject: &str) {
        self.wait_for_route(at, &format!("\"{subject}\""));
    }

    fn wait_for_route(&self, at: usize, text: &str) {
        wait_for(text, || {
            let routes = ask(self.monitors[at], "/routez?subs=1")?;
            routes.contains(text).then_some(()).ok_or_else(|| io::Error::other(routes))
        });
    }
}

/// What a server tells of itself at its monitoring port.
fn ask(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

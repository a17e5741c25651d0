//! Redis as processes of a test's own: one server, a master under Sentinels, a Cluster. They need
//! `redis-server` and nothing else.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::process::{Folder, Process, reserved_port, wait_for};

/// The program that all of this is.
pub const PROGRAM: &str = "redis-server";

/// What the master under [`Sentinels`] is called.
const MASTER: &str = "wserver";

/// One server.
#[derive(Debug)]
pub struct Standalone {
    port: u16,
    is_tls: bool,
    arguments: &'static [&'static str],
    process: Process,
    folder: Folder,
}

impl Standalone {
    /// Starts one, with these lines in its configuration: `requirepass secret`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(lines: &[&str]) -> Self {
        Self::start_with(Folder::new(), reserved_port(), false, &[], lines)
    }

    /// Starts one that speaks TLS and nothing else.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_tls(certificate_pem: &str, key_pem: &str, lines: &[&str]) -> Self {
        let (folder, port) = (Folder::new(), reserved_port());
        fs::write(folder.path().join("certificate.pem"), certificate_pem).expect("it is written");
        fs::write(folder.path().join("key.pem"), key_pem).expect("it is written");
        let port_line = format!("tls-port {port}");
        let files =
            ["tls-cert-file certificate.pem", "tls-key-file key.pem", "tls-auth-clients no"];
        let lines = [&["port 0", &port_line], files.as_slice(), lines].concat();
        Self::start_with(folder, port, true, &[], &lines)
    }

    fn start_with(
        folder: Folder,
        port: u16,
        is_tls: bool,
        arguments: &'static [&'static str],
        lines: &[&str],
    ) -> Self {
        let mut text = format!("port {port}\nbind 127.0.0.1\nprotected-mode no\n");
        writeln!(text, "dir {}", folder.path().display()).expect("a string takes everything");
        if arguments.is_empty() {
            // Nobody waits for what is kept, and a fail-over not for a snapshot.
            text.push_str("save \"\"\nrepl-diskless-sync-delay 0\n");
        }
        for line in lines {
            writeln!(text, "{line}").expect("a string takes everything");
        }
        fs::write(folder.path().join("redis.conf"), text).expect("it is written");
        let process = start(&folder, arguments);
        let server = Self { port, is_tls, arguments, process, folder };
        server.wait();
        server
    }

    /// Where it listens, on `127.0.0.1`.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:port`, or `rediss`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Its process, to be paused or killed.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills it and starts it again at the same port.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = start(&self.folder, self.arguments);
        self.wait();
    }

    fn wait(&self) {
        wait_for("a server answers", || {
            if self.is_tls {
                return TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).map(drop);
            }
            match ask(self.port, &["PING"]) {
                // Who asks for a password, or more, is there.
                Err(error) if error.to_string().starts_with("NO") => Ok(()),
                answer => answer.map(drop),
            }
        });
    }
}

fn start(folder: &Folder, arguments: &[&str]) -> Process {
    let mut command = Command::new(PROGRAM);
    Process::start(command.current_dir(folder.path()).arg("redis.conf").args(arguments))
}

/// A master, its replica, and three Sentinels that replace it when it has been away for a second.
#[derive(Debug)]
pub struct Sentinels {
    servers: [Standalone; 2],
    sentinels: Vec<Standalone>,
}

impl Sentinels {
    /// Starts them and waits until they would survive their master.
    ///
    /// # Panics
    /// When they do not come up.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes something")]
    pub fn new() -> Self {
        let master = Standalone::start(&[]);
        let replicaof = format!("replicaof 127.0.0.1 {}", master.port);
        let replica = Standalone::start(&[&replicaof]);
        wait_until(replica.port, &["INFO", "replication"], "master_link_status:up");
        let monitor = format!("sentinel monitor {MASTER} 127.0.0.1 {} 2", master.port);
        let down = format!("sentinel down-after-milliseconds {MASTER} 1000");
        let again = format!("sentinel failover-timeout {MASTER} 4000");
        let sentinels = (0..3).map(|_| {
            let lines = [&*monitor, &down, &again];
            Standalone::start_with(Folder::new(), reserved_port(), false, &["--sentinel"], &lines)
        });
        let sentinels = sentinels.collect::<Vec<_>>();
        for sentinel in &sentinels {
            wait_until(sentinel.port, &["SENTINEL", "CKQUORUM", MASTER], "OK 3 usable");
            let replica = format!("127.0.0.1:{}", replica.port);
            wait_until(sentinel.port, &["SENTINEL", "REPLICAS", MASTER], &replica);
        }
        Self { servers: [master, replica], sentinels }
    }

    /// `redis-sentinel://127.0.0.1:port,…/wserver`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-sentinel://{}/{MASTER}", hosts(&self.sentinels))
    }

    /// The three Sentinels.
    pub fn sentinels(&mut self) -> &mut [Standalone] {
        &mut self.sentinels
    }

    /// The server that the Sentinels hold for the master now.
    ///
    /// # Panics
    /// When they hold none.
    pub fn master(&mut self) -> &mut Standalone {
        let words = ["SENTINEL", "get-master-addr-by-name", MASTER];
        let answers = self.sentinels.iter().find_map(|sentinel| ask(sentinel.port, &words).ok());
        let answer = answers.expect("a Sentinel answers");
        let port = answer.last().cloned().unwrap_or_default();
        let mut servers = self.servers.iter_mut();
        servers.find(|server| server.port.to_string() == port).expect("it is one of ours")
    }

    /// The other one, a replica as long as the master lives.
    ///
    /// # Panics
    /// When the Sentinels hold none for the master.
    pub fn replica(&mut self) -> &mut Standalone {
        let master = self.master().port;
        self.servers.iter_mut().find(|server| server.port != master).expect("of two")
    }

    /// Waits until all Sentinels hold another server than that at `port` for the master.
    ///
    /// # Panics
    /// When they do not in time.
    pub fn wait_for_other_master(&self, port: u16) {
        let other = self.servers.iter().find(|server| server.port != port).expect("of two");
        for sentinel in &self.sentinels {
            let words = ["SENTINEL", "get-master-addr-by-name", MASTER];
            wait_until(sentinel.port, &words, &other.port.to_string());
        }
        wait_until(other.port, &["ROLE"], "master");
    }
}

/// Three masters, each with a third of the slots, and a replica of each.
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<Standalone>,
}

impl RedisCluster {
    /// Starts them and waits until each knows all of them.
    ///
    /// # Panics
    /// When they do not come up.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes something")]
    pub fn new() -> Self {
        // The port for each other is by default the port plus 10000, which may be none.
        let buses: Vec<u16> = (0..6).map(|_| reserved_port()).collect();
        let servers = buses.iter().map(|bus| {
            let bus = format!("cluster-port {bus}");
            Standalone::start(&["cluster-enabled yes", "cluster-node-timeout 2000", &bus])
        });
        let servers = servers.collect::<Vec<_>>();
        let ranges = [("0", "5461"), ("5462", "10922"), ("10923", "16383")];
        for (server, (first, last)) in servers.iter().zip(ranges) {
            command(server.port, &["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        for (number, (server, bus)) in servers.iter().zip(buses).enumerate() {
            let epoch = (number + 1).to_string();
            command(server.port, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            let (port, bus) = (server.port.to_string(), bus.to_string());
            command(servers[0].port, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        for (master, replica) in servers[..3].iter().zip(&servers[3..]) {
            let id = id_of(master.port);
            wait_for("a replica knows its master", || {
                ask(replica.port, &["CLUSTER", "REPLICATE", &id])
            });
        }
        let cluster = Self { servers };
        cluster.wait();
        cluster
    }

    /// `redis-cluster://127.0.0.1:port,…` of all six.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-cluster://{}", hosts(&self.servers))
    }

    /// The six servers.
    pub fn servers(&mut self) -> &mut [Standalone] {
        &mut self.servers
    }

    /// The server that carries a lane now.
    ///
    /// # Panics
    /// When there is none.
    pub fn master_of(&mut self, lane: u16) -> &mut Standalone {
        let slot = self.slot(lane);
        let owner = self.owner(slot);
        &mut self.servers[owner]
    }

    /// Gives a lane's slot to another master, as resharding does, and waits until all know.
    ///
    /// # Panics
    /// When they do not in time.
    pub fn move_lane(&self, lane: u16) {
        let slot = self.slot(lane);
        let from = self.owner(slot);
        let slot_text = slot.to_string();
        let masters = self
            .servers
            .iter()
            .filter(|server| ask(server.port, &["ROLE"]).is_ok_and(|answer| answer[0] == "master"));
        let masters = masters.map(|server| server.port).collect::<Vec<_>>();
        let from = self.servers[from].port;
        let to = *masters.iter().find(|&&port| port != from).expect("there are three");
        let set = |port, state, id: &str| {
            command(port, &["CLUSTER", "SETSLOT", &slot_text, state, id]);
        };
        set(to, "IMPORTING", &id_of(from));
        set(from, "MIGRATING", &id_of(to));
        let id = id_of(to);
        set(to, "NODE", &id);
        masters.iter().filter(|&&port| port != to).for_each(|&port| set(port, "NODE", &id));
        self.wait();
        let to = to.to_string();
        wait_for("all know whose slot it is", || {
            let is_known = self.servers.iter().all(|server| {
                owner_port(server.port, slot).is_some_and(|port| port.to_string() == to)
            });
            is_known.then_some(()).ok_or_else(|| io::Error::other("not all"))
        });
    }

    /// Waits until those who are left hold another server than that at `port` for a lane's master.
    ///
    /// # Panics
    /// When they do not in time.
    pub fn wait_for_other_master(&self, lane: u16, port: u16) {
        let slot = self.slot(lane);
        let left = self.servers.iter().filter(|server| server.port != port);
        for server in left {
            wait_for("another master", || match owner_port(server.port, slot) {
                Some(owner) if owner != port => Ok(()),
                owner => Err(io::Error::other(format!("it is at {owner:?}"))),
            });
            wait_until(server.port, &["CLUSTER", "INFO"], "cluster_state:ok");
        }
    }

    /// Waits until everybody holds the cluster for whole.
    fn wait(&self) {
        for server in &self.servers {
            for sign in ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:6"] {
                wait_until(server.port, &["CLUSTER", "INFO"], sign);
            }
        }
        for replica in &self.servers[3..] {
            wait_until(replica.port, &["INFO", "replication"], "master_link_status:up");
        }
    }

    fn slot(&self, lane: u16) -> u16 {
        let words = ["CLUSTER", "KEYSLOT", &format!("{{{lane}}}")];
        let answers = self.servers.iter().find_map(|server| ask(server.port, &words).ok());
        answers.expect("somebody answers")[0].parse().expect("a slot is a number")
    }

    fn owner(&self, slot: u16) -> usize {
        let found = self.servers.iter().find_map(|server| owner_port(server.port, slot));
        let found = found.expect("somebody owns it");
        self.servers.iter().position(|server| server.port == found).expect("it is one of ours")
    }
}

fn hosts(servers: &[Standalone]) -> String {
    let hosts = servers.iter().map(|server| format!("127.0.0.1:{}", server.port));
    hosts.collect::<Vec<_>>().join(",")
}

fn id_of(port: u16) -> String {
    ask(port, &["CLUSTER", "MYID"]).expect("it answers").concat()
}

/// Who owns a slot, as the server at `port` sees it. A line of its answer is
/// `id host:port@bus flags master ping pong epoch state slot slot-slot …`.
fn owner_port(port: u16, slot: u16) -> Option<u16> {
    let nodes = ask(port, &["CLUSTER", "NODES"]).ok()?.concat();
    let line = nodes.lines().find(|line| {
        line.split(' ').skip(8).any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse::<u16>(), last.parse::<u16>());
            matches!((first, last), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
        })
    })?;
    line.split([':', '@']).nth(1)?.parse().ok()
}

fn command(port: u16, words: &[&str]) {
    ask(port, words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

fn wait_until(port: u16, words: &[&str], sign: &str) {
    wait_for(sign, || {
        let answer = ask(port, words)?.join("\n");
        answer.contains(sign).then_some(()).ok_or_else(|| io::Error::other(answer))
    });
}

/// Asks a server on this machine, over a connection of its own; the answer's strings and numbers, one
/// after the other.
///
/// # Errors
/// When nobody answers, and with the answer when it is an error.
pub fn ask(port: u16, words: &[&str]) -> io::Result<Vec<String>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        write!(text, "${}\r\n{word}\r\n", word.len()).expect("a string takes everything");
    }
    stream.write_all(text.as_bytes())?;
    let mut found = Vec::new();
    read(&mut BufReader::new(stream), &mut found)?;
    Ok(found)
}

fn read(input: &mut BufReader<TcpStream>, found: &mut Vec<String>) -> io::Result<()> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let line = line.trim_end();
    let Some((kind, rest)) = line.split_at_checked(1) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    match (kind, rest.parse::<usize>()) {
        ("-", _) => return Err(io::Error::other(rest.to_owned())),
        ("*", Ok(items)) => (0..items).try_for_each(|_| read(input, found))?,
        ("$", Ok(length)) => {
            let mut text = vec![0; length + 2];
            input.read_exact(&mut text)?;
            text.truncate(length);
            found.push(String::from_utf8_lossy(&text).into_owned());
        }
        // Nothing at all.
        ("*" | "$", Err(_)) => {}
        _ => found.push(rest.to_owned()),
    }
    Ok(())
}

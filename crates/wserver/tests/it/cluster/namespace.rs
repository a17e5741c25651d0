//! A network of its own for one node: a namespace of Linux, out of which one cable leads, to this
//! machine. It takes root.
//!
//! The cable is plugged into a switch, and pulled there: the node's end has no carrier then, this
//! machine's end is up, and neither hears from the other. Were this machine's end taken down instead,
//! what its broker sends would look for another way, and find one wherever there is a default route.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What is in the namespace, all made there but the link's other end.
const INSIDE: &[&str] = &["link add switch type bridge", "link add eth0 type veth peer name port"];

/// How it is plugged together.
const PLUGGED: &[&str] = &[
    "link set uplink master switch",
    "link set port master switch",
    "link set switch up",
    "link set uplink up",
    "link set port up",
    "link set eth0 up",
];

/// A namespace, gone when it is dropped and nobody is in it any more.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Is in it and keeps it. It ends with its standard input, thus with the tests even if they are
    /// killed: no name of a namespace is left behind.
    keeper: Child,
    /// The link on this machine that leads into it.
    link: String,
    /// That link's address, for a broker to listen on.
    gateway: Ipv4Addr,
}

impl Namespace {
    /// Makes one; why not, where this machine or this user cannot.
    pub(crate) fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new("unshare");
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let keeper = command.stderr(Stdio::piped()).spawn();
        let keeper = keeper.map_err(|error| format!("unshare: {error}"))?;
        // A name of a link has no more than fifteen bytes.
        let link = format!("wst{}n{number}", std::process::id());
        let mut namespace = Self { keeper, link, gateway: Ipv4Addr::UNSPECIFIED };
        namespace.wait()?;
        let (link, inside) = (&namespace.link, namespace.keeper.id());
        run(&format!("ip link add {link} type veth peer name uplink netns {inside}"))?;
        INSIDE.iter().try_for_each(|line| namespace.ip(line))?;
        namespace.gateway = namespace.plug().expect("what could be made can be plugged together");
        Ok(namespace)
    }

    /// Until the keeper is there, which then says again what it is told.
    fn wait(&mut self) -> Result<(), String> {
        // One that has ended already says why.
        let _ = writeln!(self.keeper.stdin.as_mut().unwrap());
        let mut told = String::new();
        BufReader::new(self.keeper.stdout.as_mut().unwrap()).read_line(&mut told).unwrap();
        if !told.is_empty() {
            return Ok(());
        }
        self.keeper.stderr.as_mut().unwrap().read_to_string(&mut told).unwrap();
        Err(told.trim_end().to_owned())
    }

    /// Plugs everything together; the address of this machine's end.
    fn plug(&self) -> Result<Ipv4Addr, String> {
        // The kernel's number of a link is no other link's, whichever tests run beside these.
        let link = &self.link;
        let told = run(&format!("ip -oneline link show {link}"))?;
        let (number, _) = told.split_once(':').ok_or("a number comes first")?;
        let [here, there] = addresses(number.parse().map_err(|error| format!("{error}: {told}"))?);
        run(&format!("ip address add {here}/30 dev {link}"))?;
        run(&format!("ip link set {link} up"))?;
        self.ip(&format!("address add {there}/30 dev eth0"))?;
        PLUGGED.iter().try_for_each(|line| self.ip(line))?;
        Ok(here)
    }

    /// Where whoever is in it finds this machine.
    pub(crate) const fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// The words before those of a command that is to run in it.
    pub(crate) fn entrance(&self) -> String {
        format!("nsenter --net --target {}", self.keeper.id())
    }

    /// Pulls the cable.
    pub(crate) fn pull(&self) {
        self.ip("link set port down").unwrap();
    }

    /// Puts it back.
    pub(crate) fn put_back(&self) {
        self.ip("link set port up").unwrap();
    }

    /// Has `ip` do this inside.
    fn ip(&self, line: &str) -> Result<(), String> {
        run(&format!("{} ip {line}", self.entrance())).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Both ends go at once, and not only when the kernel gets to the namespace. There may be none.
        let _ = run(&format!("ip link delete {}", self.link));
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Of the two ends of the link with this number, in the range for tests of networks (RFC 2544), which
/// no network in use has.
fn addresses(link: u32) -> [Ipv4Addr; 2] {
    let first = Ipv4Addr::new(198, 18, 0, 0).to_bits() + link % (1 << 15) * 4;
    [first + 1, first + 2].map(Ipv4Addr::from_bits)
}

/// What a command of these words says; its errors, where it fails.
fn run(line: &str) -> Result<String, String> {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{line}: {}", text(&output.stderr)))
    }
}

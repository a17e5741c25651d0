//! Under a supervisor: what it is told, and listeners that it hands over.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};

use wserver_protocol::frame::Opcode;

use crate::harness::{PATIENCE, Server, command};
use crate::metrics::get;
use crate::raw::{Frame, Raw, Socket, post, push, push_body};

/// A socket that a server tells its state to.
struct Supervisor {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Supervisor {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wserver-{name}-{}", std::process::id()));
        // Of a run before this one that ended badly.
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The next state it was told that begins so; beats of the heart are passed over.
    fn told(&self, expected: &str) -> Vec<String> {
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap();
            let text = std::str::from_utf8(&buffer[..length]).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines[0] == expected {
                return lines;
            }
            assert_eq!(lines, ["WATCHDOG=1"], "instead of {expected}");
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn a_supervisor_is_told_what_happens() {
    let supervisor = Supervisor::new("states");
    let environment = [("NOTIFY_SOCKET", supervisor.path())];
    let flags = ["--reload-interval", "0", "--drain-timeout", "20s"];
    let server = Server::start_with(&flags, &environment);
    let lines = supervisor.told("READY=1");
    assert_eq!(lines[1], format!("STATUS=listening on {}", server.address));
    // Who comes then is served.
    check_serves(&server);
    server.signal("HUP");
    let lines = supervisor.told("RELOADING=1");
    let since_boot: u64 = lines[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    assert!(since_boot > 0);
    assert_eq!(supervisor.told("READY=1")[1], "STATUS=reloaded");
    server.signal("TERM");
    let lines = supervisor.told("STOPPING=1");
    assert_eq!(lines[1], "EXTEND_TIMEOUT_USEC=25000000", "the drain and what is behind it");
    assert!(server.wait().0.success());
}

/// As of a supervisor in another mount namespace.
#[cfg(target_os = "linux")]
#[test]
fn a_supervisor_without_a_file_is_told_too() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;
    let name = format!("wserver-abstract-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let supervisor = Supervisor { socket, path: std::path::PathBuf::new() };
    let server = Server::start_with(&[], &[("NOTIFY_SOCKET", &format!("@{name}"))]);
    let lines = supervisor.told("READY=1");
    assert_eq!(lines[1], format!("STATUS=listening on {}", server.address));
    server.signal("TERM");
    supervisor.told("STOPPING=1");
    assert!(server.wait().0.success());
}

#[test]
fn a_reload_that_fails_is_told() {
    let supervisor = Supervisor::new("reload");
    let tokens = std::env::temp_dir().join(format!("wserver-supervised-{}", std::process::id()));
    std::fs::write(&tokens, "aaa jack\n").unwrap();
    let flags = ["--reload-interval", "0", "--tokens-file", tokens.to_str().unwrap()];
    let server = Server::start_with(&flags, &[("NOTIFY_SOCKET", supervisor.path())]);
    supervisor.told("READY=1");
    std::fs::remove_file(&tokens).unwrap();
    server.signal("HUP");
    supervisor.told("RELOADING=1");
    assert_eq!(supervisor.told("READY=1")[1], "STATUS=settings not reloaded; see the log");
    let mut listener = Socket::registered(&server, "aaa", "news");
    listener.sync();
}

#[test]
fn a_watchdog_hears_the_heart_beat() {
    let supervisor = Supervisor::new("watchdog");
    let environment = [("NOTIFY_SOCKET", supervisor.path()), ("WATCHDOG_USEC", "300000")];
    let server = Server::start_with(&[], &environment);
    supervisor.told("READY=1");
    for _ in 0..3 {
        supervisor.told("WATCHDOG=1");
    }
    server.signal("TERM");
    supervisor.told("STOPPING=1");
}

/// Without a supervisor, and with one that is gone, it serves all the same.
#[test]
fn nobody_needs_to_hear_it() {
    let server = Server::start_with(&[], &[("NOTIFY_SOCKET", "/nonexistent/wserver")]);
    check_serves(&server);
    server.signal("TERM");
    let (status, log) = server.wait();
    assert!(status.success());
    assert!(log.contains("could not notify systemd"), "{log}");
}

/// The binary with these sockets as its descriptors from 3 on, under these names.
fn heir(sockets: Vec<OwnedFd>, names: Option<&str>, flags: &[&str]) -> Command {
    heir_in(&[], sockets, names, flags)
}

/// The same behind words that lead elsewhere and leave the process what it is: `nsenter …`.
pub(crate) fn heir_in(
    entrance: &[&str],
    sockets: Vec<OwnedFd>,
    names: Option<&str>,
    flags: &[&str],
) -> Command {
    let count = sockets.len();
    let program = command();
    let mut shell = Command::new("sh");
    // A shell can move descriptors, and then become the server, which keeps its process id.
    let script = "exec 3<&0; [ \"$LISTEN_FDS\" -lt 2 ] || exec 4>&1; \
                  export LISTEN_PID=$$; exec \"$0\" \"$@\" 0</dev/null 1>/dev/null";
    shell.args(["-c", script]).args(entrance).arg(program.get_program());
    shell.args(["--log-format", "json"]).args(flags);
    // It only takes variables away.
    for (name, _) in program.get_envs() {
        shell.env_remove(name);
    }
    shell.env("LISTEN_FDS", count.to_string());
    shell.env_remove("LISTEN_FDNAMES").envs(names.map(|names| ("LISTEN_FDNAMES", names)));
    let mut sockets = sockets.into_iter();
    shell.stdin(sockets.next().map_or_else(Stdio::null, Stdio::from));
    shell.stdout(sockets.next().map_or_else(Stdio::null, Stdio::from));
    shell
}

fn bound() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

fn check_serves(server: &Server) {
    let mut listener = Socket::registered(server, "jack", "news");
    assert_eq!(push(server, "jack", "news", "m"), 1);
    assert_eq!(listener.next(), Frame::new(Opcode::Text, "m"));
}

/// Who connects before there is a server is served by the one that comes, and by the next one.
#[test]
fn a_listener_is_handed_over_from_server_to_server() {
    let listener = bound();
    let address = listener.local_addr().unwrap();
    for names in [None, Some("wserver")] {
        let mut early = Raw::connect_at(address);
        early.send(post(&[], push_body("jack", "news", "m")));
        let socket = OwnedFd::from(listener.try_clone().unwrap());
        // The address that is set is nobody's: it is not looked at.
        let flags = ["--address", "127.0.0.1:1"];
        let server = Server::spawn(&mut heir(vec![socket], names, &flags));
        assert_eq!(server.address, address);
        assert_eq!(early.answer().body, "message sent to 0 clients");
        check_serves(&server);
        server.signal("HUP");
        check_serves(&server);
        server.signal("TERM");
        assert!(server.wait().0.success());
    }
}

#[test]
fn a_private_listener_is_handed_over() {
    let (public, private) = (bound(), bound());
    let private_address = private.local_addr().unwrap();
    let sockets = vec![public.into(), private.into()];
    let server = Server::spawn(&mut heir(sockets, Some("wserver:private"), &[]));
    let mut listener = Socket::registered(&server, "jack", "news");
    let mut raw = Raw::connect(&server);
    raw.send(post(&[], push_body("jack", "news", "m")));
    assert_eq!(raw.answer().status, 404);
    let mut raw = Raw::connect_at(private_address);
    raw.send(post(&[], push_body("jack", "news", "m")));
    assert_eq!(raw.answer().body, "message sent to 1 clients");
    assert_eq!(listener.next(), Frame::new(Opcode::Text, "m"));
    assert_eq!(get(&server, "/readyz", &[]).status, 200);
}

/// Its file stays, since the next server is to be reached by it too.
#[test]
fn a_private_unix_socket_is_handed_over() {
    let path = std::env::temp_dir().join(format!("wserver-private-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let private = UnixListener::bind(&path).unwrap();
    let sockets = vec![private.into(), bound().into()];
    let mut server = Server::spawn(&mut heir(sockets, Some("private:wserver"), &[]));
    let mut log = server.follow_log();
    let mut listener = Socket::registered(&server, "jack", "news");
    let told = log.until("pushes have a separate address");
    assert!(told.contains(&format!("unix:{}", path.display())), "{told}");
    let mut backend = UnixStream::connect(&path).unwrap();
    backend.set_read_timeout(Some(PATIENCE)).unwrap();
    let closing = [("connection", "close")];
    backend.write_all(&post(&closing, push_body("jack", "news", "m"))).unwrap();
    let mut answer = String::new();
    backend.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("message sent to 1 clients"), "{answer}");
    assert_eq!(listener.next(), Frame::new(Opcode::Text, "m"));
    server.signal("TERM");
    log.rest();
    assert!(path.exists());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn what_cannot_be_inherited_is_told() {
    let unix = || UnixDatagram::unbound().unwrap().into();
    for (sockets, names, expected) in [
        (
            vec![bound().into()],
            "wserver.socket",
            "the inherited socket \"wserver.socket\" must be called",
        ),
        (
            vec![bound().into(), bound().into()],
            "wserver",
            "the inherited socket \"\" must be called",
        ),
        (
            vec![bound().into(), bound().into()],
            "wserver:wserver",
            "two inherited sockets are called wserver",
        ),
        (
            vec![unix()],
            "wserver",
            "the inherited socket wserver cannot be used: fd 3 is not a valid tcp socket",
        ),
        (
            vec![unix()],
            "private",
            "the inherited socket private cannot be used: fd 3 is not a valid tcp socket",
        ),
    ] {
        let output = heir(sockets, Some(names), &[]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{names}: {told}");
        assert!(told.contains(expected), "{told}");
    }
    // Those of another process are no business of ours.
    let mut command = command();
    command.args(["--address", "127.0.0.1:0", "--log-format", "json"]);
    let server =
        Server::spawn(command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").stdin(Stdio::null()));
    check_serves(&server);
}

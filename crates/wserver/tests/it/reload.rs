//! A reload under live connections: what changes at once, what waits, and that it is all or nothing.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use wserver_protocol::frame::Opcode;

use crate::harness::{Log, PATIENCE, Server, command};
use crate::raw::{Answer, Frame, Raw, Socket, handshake, masked, post, push_body};
use crate::settings::{File, file};

const OLD_KEY: &str = "old-key-0123456789";
const NEW_KEY: &str = "new-key-0123456789";

/// A server whose files a test may change, and somebody who listens all the while.
#[derive(Debug)]
struct Reloaded {
    config: File,
    tokens: File,
    keys: File,
    server: Server,
    log: Log,
    listener: Socket,
}

impl Reloaded {
    /// Reloads by signal only: by itself it might find a file that the test is not yet done with.
    fn start(flags: &[&str]) -> Self {
        Self::start_with(&[&["--reload-interval", "0"], flags].concat())
    }

    fn start_with(flags: &[&str]) -> Self {
        let tokens = file("reload-tokens", "aaa jack\nbbb rose\n");
        let keys = file("reload-keys", OLD_KEY);
        let config = file("reload.toml", Self::content(&tokens, &keys, ""));
        let flags = [&["--config", config.path()], flags].concat();
        let mut server = Server::start_with(&flags, &[]);
        let log = server.follow_log();
        let listener = Socket::registered(&server, "aaa", "news");
        let reloaded = Self { config, tokens, keys, server, log, listener };
        reloaded.check_push(OLD_KEY, "rose", Ok(0));
        reloaded
    }

    fn content(tokens: &File, keys: &File, more: &str) -> String {
        format!("tokens_file = {:?}\npush_key_file = {:?}\n{more}", tokens.path(), keys.path())
    }

    /// Changes the settings file behind the lines that name the others.
    fn configure(&self, more: &str) {
        self.config.replace(Self::content(&self.tokens, &self.keys, more));
    }

    /// Reloads by signal; the line that tells how it went.
    fn hang_up(&mut self) -> String {
        self.server.signal("HUP");
        self.log.until(r#""cause":"SIGHUP""#)
    }

    fn push(&self, key: &str, user: &str) -> Answer {
        let mut raw = Raw::connect(&self.server);
        raw.send(post(&[("x-api-key", key)], push_body(user, "news", "m")));
        raw.answer()
    }

    fn check_push(&self, key: &str, user: &str, expected: Result<usize, u16>) {
        let answer = self.push(key, user);
        match expected {
            Ok(count) => assert_eq!(answer.body, format!("message sent to {count} clients")),
            Err(status) => assert_eq!(answer.status, status),
        }
    }

    /// Who registered before the reload is still there, and hears.
    fn check_listener(&mut self, key: &str) {
        self.check_push(key, "jack", Ok(1));
        assert_eq!(self.listener.next(), Frame::new(Opcode::Text, "m"));
    }

    /// Whether this token may register now. Who did so before may still be there, ending.
    fn check_token(&self, token: &str, key: &str, user: &str, is_good: bool) {
        let mut socket = Socket::registered(&self.server, token, "news");
        assert_eq!(self.push(key, user).status, 200);
        if is_good {
            assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"), "{token}");
        }
        // Nothing comes before the pong.
        socket.sync();
    }
}

#[test]
fn tokens_and_keys_are_exchanged_under_live_connections() {
    let mut it = Reloaded::start(&[]);
    it.tokens.replace("bbb rose\nccc kate\n");
    it.keys.replace(NEW_KEY);
    let told = it.hang_up();
    assert!(told.contains(r#""changed":"push_key_file, tokens_file""#), "{told}");
    it.check_push(OLD_KEY, "jack", Err(401));
    it.check_listener(NEW_KEY);
    it.check_token("ccc", NEW_KEY, "kate", true);
    // The live one is all that is left of the token that was revoked.
    let mut late = Socket::registered(&it.server, "aaa", "news");
    it.check_listener(NEW_KEY);
    late.sync();
}

/// Ends the pushers of a test with it, however it ends.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The way to rotate: both are good for a while, and of those who push all the while nobody is refused.
#[test]
fn a_key_is_rotated_without_a_refusal() {
    const PUSHERS: usize = 3;
    let mut it = Reloaded::start(&[]);
    let moved_over = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    // Each says so when it has pushed under load, with the old key and with the new one.
    let (pushed, phases) = sync_channel(0);
    let pushers: Vec<Raw> = (0..PUSHERS).map(|_| Raw::connect(&it.server)).collect();
    thread::scope(|scope| {
        let _end = Done(&done);
        for mut raw in pushers {
            let (moved_over, done, pushed) = (&moved_over, &done, pushed.clone());
            scope.spawn(move || {
                let mut told = None;
                while !done.load(Ordering::SeqCst) {
                    let key = if moved_over.load(Ordering::SeqCst) { NEW_KEY } else { OLD_KEY };
                    raw.send(post(&[("x-api-key", key)], push_body("rose", "news", "m")));
                    assert_eq!(raw.answer().body, "message sent to 0 clients", "{key}");
                    if told != Some(key) {
                        told = Some(key);
                        pushed.send(()).expect("the test waits for it");
                    }
                }
            });
        }
        let all_pushed = || (0..PUSHERS).for_each(|_| phases.recv_timeout(PATIENCE).unwrap());
        all_pushed();
        it.keys.replace(format!("{OLD_KEY}\n{NEW_KEY}\n"));
        it.hang_up();
        moved_over.store(true, Ordering::SeqCst);
        all_pushed();
        it.keys.replace(NEW_KEY);
        it.hang_up();
        it.check_push(OLD_KEY, "jack", Err(401));
        it.check_listener(NEW_KEY);
    });
}

#[test]
fn a_reload_is_all_or_nothing() {
    let mut it = Reloaded::start(&[]);
    let tokens_path = it.tokens.path().to_owned();
    let good_tokens = "ccc kate\n";
    let cases: &[(&str, &str, &str, &str)] = &[
        ("ping_intervall = \"3s\"", good_tokens, NEW_KEY, "did you mean ping_interval?"),
        ("ping_interval = 3", good_tokens, NEW_KEY, "ping_interval is 3: write a time"),
        ("ping_interval = 0", good_tokens, NEW_KEY, "ping_interval must be longer than zero"),
        ("ws_path = \"/push\"", good_tokens, NEW_KEY, "ws_path and push_path are both /push"),
        ("origin = \"nonsense\"", good_tokens, NEW_KEY, "needs a scheme"),
        ("log = \"=[\"", good_tokens, NEW_KEY, "is not a filter"),
        ("[[[", good_tokens, NEW_KEY, ":3: "),
        ("", "canary", NEW_KEY, "line 1: the user is missing"),
        ("", "", NEW_KEY, "contains no token"),
        ("", good_tokens, "short", "push key 1 has 5 bytes"),
        ("", good_tokens, "", "the list of push keys is empty"),
    ];
    for (config, tokens, keys, expected) in cases {
        it.configure(config);
        it.tokens.replace(tokens);
        it.keys.replace(keys);
        it.server.signal("HUP");
        let problem = it.log.until(r#""message":"a setting is wrong""#);
        assert!(problem.contains(expected), "{problem}");
        let told = it.log.until(r#""cause":"SIGHUP""#);
        assert!(told.contains("settings not reloaded; the old ones stay in force"), "{told}");
        it.check_listener(OLD_KEY);
        it.check_push(NEW_KEY, "jack", Err(401));
        it.check_token("ccc", OLD_KEY, "kate", false);
        it.check_token("bbb", OLD_KEY, "rose", true);
    }
    std::fs::remove_file(&tokens_path).unwrap();
    it.server.signal("HUP");
    assert!(it.log.until("a setting is wrong").contains("No such file"));
    it.log.until("settings not reloaded");
    it.check_listener(OLD_KEY);
    // Once all is put right, all of it changes.
    it.configure("");
    it.tokens.replace(good_tokens);
    it.keys.replace(NEW_KEY);
    assert!(it.hang_up().contains(r#""changed":"push_key_file, tokens_file""#));
    it.check_listener(NEW_KEY);
    it.check_token("ccc", NEW_KEY, "kate", true);
    it.check_token("bbb", NEW_KEY, "rose", false);
}

#[test]
fn what_needs_a_restart_is_told_and_waits() {
    let mut it = Reloaded::start(&[]);
    // An open server is another server: the start decides about that, and not a line that was lost.
    it.config.replace(format!(
        "push_key_file = {:?}\nconnections_max = 1\nping_interval = \"3s\"\nlog = \"debug\"\n",
        it.keys.path()
    ));
    let told = it.hang_up();
    assert!(told.contains(r#""changed":"log""#), "{told}");
    let told = it.log.until("need a restart to take effect");
    assert!(told.contains(r#""settings":"tokens_file, ping_interval, connections_max""#), "{told}");
    it.check_token("nobody", OLD_KEY, "nobody", false);
    it.check_token("bbb", OLD_KEY, "rose", true);
    it.check_listener(OLD_KEY);
    // It goes on saying so until somebody does, or takes it back.
    it.hang_up();
    it.log.until("need a restart to take effect");
    it.configure("");
    assert!(it.hang_up().contains(r#""changed":"log""#));
    assert!(it.hang_up().contains("none that a reload can change has changed"));
}

#[test]
fn a_key_file_under_another_name_is_taken_up() {
    let mut it = Reloaded::start(&[]);
    let other = file("other-keys", NEW_KEY);
    it.config.replace(Reloaded::content(&it.tokens, &other, ""));
    assert!(it.hang_up().contains(r#""changed":"push_key_file""#));
    it.check_listener(NEW_KEY);
}

#[test]
fn the_log_filter_is_exchanged() {
    let mut it = Reloaded::start(&[]);
    let open = |it: &Reloaded| Socket::open(&it.server).sync();
    open(&it);
    it.configure("log = \"debug\"\n");
    it.hang_up();
    assert!(!it.log.read.contains("connection opened"), "{}", it.log.read);
    open(&it);
    it.log.until("connection opened");
    // A flag wins over the file in a reload too.
    let mut it = Reloaded::start(&["--log", "info"]);
    it.configure("log = \"debug\"\n");
    assert!(it.hang_up().contains("none that a reload can change has changed"));
}

#[test]
fn a_file_that_changes_is_reloaded_without_a_signal() {
    const CAUSE: &str = r#""cause":"a file has changed""#;
    let mut it = Reloaded::start_with(&["--reload-interval", "10ms"]);
    it.keys.replace(NEW_KEY);
    let told = it.log.until(CAUSE);
    assert!(told.contains(r#""changed":"push_key_file""#), "{told}");
    it.check_listener(NEW_KEY);
    it.tokens.replace("canary");
    assert!(it.log.until("a setting is wrong").contains("the user is missing"));
    it.log.until(CAUSE);
    it.check_listener(NEW_KEY);
    // What is wrong is told once, and looked at again when it changes.
    it.tokens.replace("ccc kate\n");
    let told = it.log.until(CAUSE);
    assert!(told.contains(r#""changed":"tokens_file""#), "{told}");
    it.check_token("ccc", NEW_KEY, "kate", true);
    it.configure("log = \"debug\"\n");
    let told = it.log.until(CAUSE);
    assert!(told.contains(r#""changed":"log""#), "{told}");
    // A file that is named only now is looked at from now on.
    let other = file("other-keys", OLD_KEY);
    it.config.replace(Reloaded::content(&it.tokens, &other, ""));
    it.log.until(r#""changed":"log, push_key_file""#);
    other.replace(NEW_KEY);
    it.log.until(r#""changed":"push_key_file""#);
    it.check_listener(NEW_KEY);
}

#[test]
fn a_hangup_without_files_is_harmless() {
    let mut server = Server::start_with(&["--reload-interval", "0"], &[]);
    let mut log = server.follow_log();
    let mut socket = Socket::registered(&server, "jack", "news");
    server.signal("HUP");
    log.until("none that a reload can change has changed");
    socket.sync();
    server.signal("TERM");
    assert_eq!(socket.closed().code, 1001);
}

/// Secrets in every place a secret may stand, and in some where it may not, and every way to fail:
/// nothing of it is told by log, error, `check` or the list of processes.
#[test]
fn nothing_secret_is_told() {
    const KEY: &str = "canary-key-0123456789";
    let tokens = file("c-tokens", "canary-token jack\n");
    let keys = file("c-keys", format!("{KEY}\n"));
    let wrongs: &[(&str, &str, &str)] = &[
        ("push_key = \"canary-in-file-0123456789\"", "canary-token jack", KEY),
        ("push_key = canary-in-file-0123456789", "canary-token jack", KEY),
        ("pushkey = \"canary-in-file-0123456789\"", "canary-token jack", KEY),
        ("[push_key]\nx = \"canary-in-file-0123456789\"", "canary-token jack", KEY),
        ("secrets = [\"canary-in-file-0123456789\", 3", "canary-token jack", KEY),
        ("\"canary-in-file-0123456789", "canary-token jack", KEY),
        ("", "canary-token", KEY),
        ("", "canary-token jack canary", KEY),
        ("", "canary-token jack\ncanary-token rose", KEY),
        ("", "canary-token jack", "canary"),
        ("", "canary-token jack", "canary-key-0123\t456789"),
    ];
    let content = |more: &str| Reloaded::content(&tokens, &keys, more);
    let config = file("c.toml", content(""));
    let mut server = Server::start_with(
        &["--config", config.path(), "--log", "trace", "--reload-interval", "0"],
        &[],
    );
    let mut log = server.follow_log();
    let mut socket = Socket::registered(&server, "canary-token", "canary-event");
    for (more, bad_tokens, bad_keys) in wrongs {
        config.replace(content(more));
        tokens.replace(bad_tokens);
        keys.replace(bad_keys);
        for arguments in [&["check", "--config", config.path()][..], &["--config", config.path()]] {
            let output = command().args(arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(64), "{more} {bad_tokens} {bad_keys}");
            let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(!told.contains("canary"), "{told}");
        }
        server.signal("HUP");
        log.until("settings not reloaded");
    }
    for bad in ["canary", "canary-key-0123\t456789"] {
        let output = command().arg("check").env("WSERVER_PUSH_KEY", bad).output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!told.contains("canary"), "{told}");
    }
    tokens.replace("canary-token jack\ncanary-second rose\n");
    keys.replace("canary-new-key-0123456789");
    config.replace(content(""));
    server.signal("HUP");
    log.until(r#""changed":"push_key_file, tokens_file""#);
    // Strangers with secrets, good and bad, in good places and bad.
    for key in [KEY, "canary-new-key-0123456789"] {
        let mut raw = Raw::connect(&server);
        raw.send(post(&[("x-api-key", key)], push_body("jack", "canary-event", "canary-message")));
        raw.answer();
    }
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "canary-message"));
    socket.send(masked(Opcode::Text, "canary-junk"));
    socket.register("canary-wrong", "canary-event");
    let mut raw = Raw::connect(&server);
    raw.send(handshake(&[("cookie", "canary-cookie")]).replace("/ws", "/ws?token=canary-query"));
    raw.answer();
    let arguments = std::fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains("canary"));
    drop((socket, raw));
    server.signal("TERM");
    let log = log.rest();
    assert!(log.contains("connection opened"), "the filter lets details through: {log}");
    for line in log.lines() {
        assert!(!line.contains("canary"), "{line}");
    }
}

/// Holds a file so that whoever opens it waits, as on a file system that does not answer: by a
/// lease, which the kernel takes away after `/proc/sys/fs/lease-break-time`.
const HOLD: &str = "\
import fcntl, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
signal.sigwait([signal.SIGIO])
print('asked for', flush=True)
sys.stdin.read()
";

/// A file that does not answer as long as this lives.
struct Held {
    holder: Child,
    said: BufReader<ChildStdout>,
}

impl Held {
    fn hold(path: &str) -> Self {
        let mut holder = Command::new("python3")
            .args(["-c", HOLD, path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let said = BufReader::new(holder.stdout.take().unwrap());
        let mut held = Self { holder, said };
        held.expect("held");
        held
    }

    fn expect(&mut self, expected: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), expected);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The shutdown begins at once, and whoever listens is told.
#[cfg(target_os = "linux")]
#[test]
fn a_shutdown_waits_for_no_file_that_does_not_answer() {
    let mut reloaded = Reloaded::start(&[]);
    let mut held = Held::hold(reloaded.tokens.path());
    reloaded.server.signal("HUP");
    held.expect("asked for");
    reloaded.server.signal("TERM");
    assert_eq!(reloaded.listener.closed().code, 1001);
    assert!(reloaded.server.wait().0.success());
    drop(held);
}

/// It is told which file, and once it answers everything is as ever.
#[cfg(target_os = "linux")]
#[test]
fn a_reload_whose_file_does_not_answer_is_given_up() {
    let mut reloaded = Reloaded::start(&[]);
    let held = Held::hold(reloaded.tokens.path());
    reloaded.server.signal("HUP");
    let line = reloaded.log.until("settings not reloaded");
    assert!(line.contains("reading a file did not finish in time"), "{line}");
    assert!(line.contains(reloaded.tokens.path()), "{line}");
    reloaded.check_listener(OLD_KEY);
    reloaded.keys.replace(NEW_KEY);
    drop(held);
    reloaded.log.until("can be read again");
    // What was given up has changed nothing.
    reloaded.check_push(OLD_KEY, "rose", Ok(0));
    assert!(reloaded.hang_up().contains("push_key_file"));
    reloaded.check_listener(NEW_KEY);
}

#[test]
fn a_settings_file_that_becomes_a_pipe_is_no_reload() {
    let mut reloaded = Reloaded::start(&[]);
    std::fs::remove_file(reloaded.config.path()).unwrap();
    assert!(Command::new("mkfifo").arg(reloaded.config.path()).status().unwrap().success());
    reloaded.server.signal("HUP");
    reloaded.log.until("it is a pipe, but must be a regular file");
    reloaded.log.until("the old ones stay in force");
    reloaded.server.signal("TERM");
    assert!(reloaded.server.wait().0.success());
}

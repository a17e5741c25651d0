//! Settings from outside: which mistakes there are, what is said about each, and the exit code.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};

use wserver_core::LimitSettings;

use crate::harness::{Server, command};

const BAD_SETTINGS: Option<i32> = Some(64);
const FAILED: Option<i32> = Some(1);

/// A file of a test's own, gone with it.
#[derive(Debug)]
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("the target directory is text")
    }

    /// Puts another file in its place, as careful editors do.
    pub(crate) fn replace(&self, content: impl AsRef<[u8]>) {
        let next = self.0.with_extension("next");
        std::fs::write(&next, content).unwrap();
        std::fs::rename(next, &self.0).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(crate) fn file(name: &str, content: impl AsRef<[u8]>) -> File {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("settings-{}-{number}-{name}", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    File(path)
}

/// The names of all limits, as the library has them.
fn limits() -> Vec<String> {
    let shown = format!("{:?}", LimitSettings::default());
    let names: Vec<String> = shown
        .split([' ', '{', ','])
        .filter_map(|word| word.strip_suffix(':'))
        .map(str::to_owned)
        .collect();
    assert!(names.len() >= 23 && names.iter().any(|name| name == "drain_timeout"), "{names:?}");
    names
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("what is told is text")
}

/// Starts the server at a port that is taken. Had it tried to listen it would have failed with
/// another exit code, so nothing was bound when the mistake was told.
fn check_mistake(flags: &[&str], environment: &[(&str, &str)], expected: &[&str]) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = command();
    if !flags.contains(&"--address") {
        command.args(["--address", &address]);
    }
    let output = command.args(flags).envs(environment.iter().copied()).output().unwrap();
    let told = told(&output);
    assert_eq!(output.status.code(), BAD_SETTINGS, "{flags:?} {environment:?}: {told}");
    for words in expected {
        assert!(told.contains(words), "{flags:?} {environment:?}: {words:?} not in {told}");
    }
    assert!(told.contains("error: ") && told.contains("--help"), "{told}");
    assert!(output.stdout.is_empty());
}

#[test]
fn mistakes_are_told_and_nothing_is_bound() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--address", "nonsense"], &["address \"nonsense\" is not host:port"]),
        (&["--address", "127.0.0.1:99999"], &["address \"127.0.0.1:99999\"", "port"]),
        (&["--address", "127.0.0.1"], &["address \"127.0.0.1\" is not host:port"]),
        (&["--address"], &["--address"]),
        (&["--ws-path", "ws"], &["ws_path \"ws\" must start with /"]),
        (&["--push-path", ""], &["push_path \"\" must start with /"]),
        (&["--drain-close-code", "1005"], &["drain_close_code is 1005, but must be 1001 or 1012"]),
        (
            &["--drain-delay", "30s"],
            &["drain_delay is 30s, but must be shorter than drain_timeout, which is 30s"],
        ),
        (
            &["--push-path", "/metrics"],
            &["push_path cannot be /metrics, because the server uses that path itself"],
        ),
        (&["--ws-path", "/push"], &["ws_path and push_path are both /push, but must differ"]),
        (&["--ws-path", "/a?token=b"], &["ws_path", "plain path"]),
        (&["--push-path", "/p%20q"], &["push_path", "plain path"]),
        (&["--push-path", "/", "--no-demo=false"], &["the demo page is served at /"]),
        (
            &["--origin", "app.example.com"],
            &["origin \"app.example.com\" needs a scheme, as in https://app.example.com"],
        ),
        (
            &["--origin", "https://app.example.com/"],
            &["origin \"https://app.example.com/\" must be scheme://host"],
        ),
        (
            &["--origin", "https://*example.com"],
            &["origin \"https://*example.com\"", "begins with *."],
        ),
        (&["--origin", "https://*.com"], &["origin \"https://*.com\"", "everybody's domains"]),
        (&["--origin", "any,https://app.example.com"], &["origin \"any\""]),
        (&["--origin", "https://app.example.com:443"], &["write https://app.example.com"]),
        (&["--origin", "https://app.example.com:0443"], &["write https://app.example.com"]),
        (&["--origin", "wss://app.example.com"], &["write https://app.example.com"]),
        (&["--origin", "HTTPS://App.Example.com"], &["write https://app.example.com"]),
        (&["--origin", "https://b\u{fc}cher.example"], &["write the host as xn--"]),
        (&["--origin", "https://::1"], &["write https://[::1]"]),
        (&["--log", "verbose"], &["\"verbose\" is not a level: write one of off, error, warn"]),
        (&["--origin", ""], &["origin \"\""]),
        (
            &["--trusted-proxies", "10.0.0.0/8,proxy"],
            &["trusted_proxies \"proxy\" is neither an address nor a network"],
        ),
        (&["--trusted-proxies", "10.0.0.1/8"], &["write 10.0.0.0/8 for all of it"]),
        (&["--trusted-proxies", "0.0.0.0/0"], &["would believe everybody's X-Forwarded-For"]),
        (
            &["--token-source", "header"],
            &["--token-source", "message, authorization, cookie:NAME or query:NAME"],
        ),
        (&["--token-source", "cookie:"], &["--token-source", "cookie:NAME or query:NAME"]),
        (
            &["--token-source", "cookie:session"],
            &["token_source cookie:session and origin any do not go together", "same-origin"],
        ),
        (
            &["--connections-per-user-policy", "oldest"],
            &["--connections-per-user-policy", "write refuse_new or close_oldest"],
        ),
        (
            &["--handshakes-per-address-burst", "0"],
            &["handshakes_per_address_burst must be at least 1"],
        ),
        (&["--log", "=["], &["log \"=[\" is not a filter"]),
        (&["--log", "wserver=loud"], &["log \"wserver=loud\" is not a filter", "debug"]),
        (&["--log-format", "xml"], &["--log-format: log_format is \"xml\": write human or json"]),
        (
            &["--register-timeout", "30"],
            &["--register-timeout", "write a time such as 500ms, 30s or 5m"],
        ),
        (
            &["--ping-interval", "soon"],
            &["--ping-interval", "write a time such as 500ms, 30s or 5m"],
        ),
        (&["--ping-interval", "0"], &["ping_interval must be longer than zero"]),
        (
            &["--message-bytes-max", "many"],
            &["--message-bytes-max", "write a size such as 4096, 64KiB or 1MiB"],
        ),
        (
            &["--message-bytes-max", "99999999999999999999"],
            &["--message-bytes-max", "write a size such as"],
        ),
        (&["--message-bytes-max", "0"], &["message_bytes_max must be at least 1"]),
        (
            &["--message-bytes-max", "2MiB"],
            &["push_body_bytes_max is 8388608, but must be at least 12648448", "outbox_bytes_max"],
        ),
        (&["--outbox-bytes-max", "1MiB"], &["outbox_bytes_max is 1048576, but must be at least"]),
        (
            &["--outboxes-bytes-max", "1MiB"],
            &["outboxes_bytes_max is 1048576, but must be at least 4194304", "one queue of"],
        ),
        (
            &["--outbox-bytes-max", "2GiB"],
            &["outbox_bytes_max is 2147483648, but must be at most 1 GiB"],
        ),
        (
            &["--name-bytes-max", "64KiB"],
            &["inbound_message_bytes_max is 65536, but must be at least"],
        ),
        (&["--head-bytes-max", "100"], &["head_bytes_max is 100, but must be at least 8192"]),
        (&["--push-bodies-bytes-max", "1MiB"], &["push_bodies_bytes_max"]),
        (&["--connections-max", "0"], &["connections_max must be at least 1"]),
        (&["--connections-max", "-1"], &["-1"]),
        (
            &["--connections-max", "many"],
            &["--connections-max: connections_max is \"many\": write a whole number"],
        ),
        (&["--conections-max", "5"], &["--conections-max", "--connections-max"]),
        (&["--address", ":0", "--address", ":1"], &["--address", "multiple times"]),
        (&["--allow-open-push=perhaps"], &["--allow-open-push"]),
        (&["serve"], &["'serve'"]),
    ];
    for (flags, expected) in cases {
        check_mistake(flags, &[], expected);
    }
}

#[test]
fn mistakes_in_the_environment_are_told() {
    for (name, value, expected) in [
        (
            "WSERVER_ALLOW_OPEN_PUSH",
            "perhaps",
            "WSERVER_ALLOW_OPEN_PUSH: allow_open_push is \"perhaps\": write true or false",
        ),
        ("WSERVER_ADDRESS", "nonsense", "address \"nonsense\""),
        ("WSERVER_ORIGIN", "example.com", "origin \"example.com\""),
        ("WSERVER_LOG", "=[", "log \"=[\""),
        (
            "WSERVER_PUSH_KEY",
            "short",
            "WSERVER_PUSH_KEY: push_key: push key 1 has 5 bytes, but needs at least 16",
        ),
        ("WSERVER_PUSH_KEY", "", "WSERVER_PUSH_KEY: push_key: the list of push keys is empty"),
        ("WSERVER_TOKENS_FILE", "/no/such/file", "tokens_file /no/such/file: No such file"),
    ] {
        let flags: &[&str] = if name == "WSERVER_ADDRESS" { &["--address", value] } else { &[] };
        check_mistake(flags, &[(name, value)], &[expected]);
    }
}

/// A key that is there and cannot be read is no reason to serve without one.
#[cfg(unix)]
#[test]
fn a_push_key_that_is_no_text_is_told() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let key = OsStr::from_bytes(b"0123456789abcdef\xff");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = command()
        .args(["--address", &taken.local_addr().unwrap().to_string()])
        .env("WSERVER_PUSH_KEY", key)
        .output()
        .unwrap();
    let told = told(&output);
    assert_eq!(output.status.code(), BAD_SETTINGS, "{told}");
    assert!(told.contains("WSERVER_PUSH_KEY"), "{told}");
    assert!(!told.contains("0123456789abcdef"), "{told}");
}

#[test]
fn every_limit_is_a_flag_and_a_variable_and_in_the_help() {
    let output = command().arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    for name in limits() {
        let flag = format!("--{}", name.replace('_', "-"));
        assert!(help.contains(&format!("{flag} <")), "{flag} not in {help}");
        let variable = format!("WSERVER_{}", name.to_uppercase());
        // Any text may be the name of an event.
        if name == "replay" {
            continue;
        }
        check_mistake(&[], &[(&variable, "?")], &[&format!("{variable}: {name} is \"?\": write")]);
    }
    for words in [
        "--address",
        "--allow-open-push",
        "WSERVER_PUSH_KEY",
        "64KiB",
        "Exit codes: 0",
        "[default: 30s]",
    ] {
        assert!(help.contains(words), "{words} not in {help}");
    }
    let output = command().arg("--version").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        concat!("wserver ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    check_mistake(
        &[
            "--ws-path",
            "ws",
            "--origin",
            "example.com",
            "--ping-interval",
            "0",
            "--tokens-file",
            "/no/such/file",
        ],
        &[("WSERVER_PUSH_KEY", "short")],
        &["ws_path", "origin", "ping_interval", "tokens_file", "WSERVER_PUSH_KEY"],
    );
}

#[test]
fn files_that_cannot_be_used_are_told() {
    let directory = env!("CARGO_TARGET_TMPDIR");
    for (flag, content, expected) in [
        ("--tokens-file", &b""[..], "contains no token, so nobody could register"),
        ("--tokens-file", b"# only a comment\n", "contains no token"),
        ("--tokens-file", b"aaa jack\ncanary-secret\n", "line 2: the user is missing"),
        (
            "--tokens-file",
            b"aaa jack\n\ncanary-secret jack smith\n",
            "line 3: there is more than a token and a user",
        ),
        (
            "--tokens-file",
            b"canary-secret jack\ncanary-secret rose\n",
            "line 2: the token is already in the list",
        ),
        ("--tokens-file", b"canary-secret\xff jack\n", "UTF-8"),
        ("--push-key-file", b"", "the list of push keys is empty"),
        ("--push-key-file", b"# none yet\n\n", "the list of push keys is empty"),
        ("--push-key-file", b"canary-secret\n", "push key 1 has 13 bytes, but needs at least 16"),
        ("--push-key-file", b"good-0123456789abc\ncanary-secret\n", "push key 2 has 13 bytes"),
        (
            "--push-key-file",
            b"canary-secret-01\x002345\n",
            "push key 1 contains a control character",
        ),
        ("--push-key-file", b"canary-secret-0123\xff\n", "UTF-8"),
        (
            "--push-key-file",
            b"canary-secret-\xc2\xa00123\n",
            "push key 1 contains the invisible character U+00A0",
        ),
        (
            "--push-key-file",
            b"#\n\xef\xbb\xbfcanary-secret-0123\n",
            "push key 1 contains the invisible character U+FEFF",
        ),
        (
            "--tokens-file",
            b"#\ncanary-\xe2\x80\x8bsecret jack\n",
            "line 2: it contains the invisible character U+200B",
        ),
        (
            "--tokens-file",
            b"canary\xc2\xa0secret jack\n",
            "line 1: it contains the invisible character U+00A0",
        ),
        (
            "--tokens-file",
            b"canary-secret\x00 jack\n",
            "line 1: it contains the invisible character U+0000",
        ),
    ] {
        let file = file("wrong", content);
        check_mistake(
            &[flag, file.path()],
            &[],
            &[&flag[2..].replace('-', "_"), file.path(), expected],
        );
        let output = command().args([flag, file.path()]).output().unwrap();
        assert!(!told(&output).contains("canary"), "{}", told(&output));
    }
    for (flag, path, expected) in [
        ("--tokens-file", "/no/such/file", "tokens_file /no/such/file: No such file"),
        ("--push-key-file", "/no/such/file", "push_key_file /no/such/file: No such file"),
        ("--tokens-file", directory, "Is a directory"),
        ("--push-key-file", directory, "Is a directory"),
        ("--tokens-file", "", "--tokens-file"),
        ("--tokens-file", "/dev/zero", "it is a device, but must be a regular file"),
        ("--push-key-file", "/dev/zero", "it is a device"),
        ("--jwt-secret-file", "/dev/zero", "it is a device"),
    ] {
        check_mistake(&[flag, path], &[], &[expected]);
    }
    let keys = file("keys", "good-0123456789abc\n");
    check_mistake(
        &["--push-key-file", keys.path()],
        &[("WSERVER_PUSH_KEY", "good-0123456789abc")],
        &["--push-key-file, WSERVER_PUSH_KEY: push_key_file and push_key are both set: set only \
           one of them"],
    );
}

#[test]
fn a_port_in_use_is_a_failure_and_told() {
    let server = Server::start();
    let served = server.address.to_string();
    // An address of the documentation net: no machine has it.
    for (address, expected) in [
        (&*served, "Address already in use"),
        ("192.0.2.1:12345", "Cannot assign requested address"),
    ] {
        let output = command().args(["--allow-open-push", "--address", address]).output().unwrap();
        let told = told(&output);
        assert_eq!(output.status.code(), FAILED, "{told}");
        let words = format!("cannot listen on {address}: {expected}");
        assert!(told.contains(&words), "{words} not in {told}");
    }
    let unix = std::env::temp_dir().join("no-such").join("directory");
    let unix = format!("unix:{}", unix.display());
    for (private, expected) in
        [(&*served, "Address already in use"), (&unix, "No such file or directory")]
    {
        let flags = ["--address", "127.0.0.1:0", "--private-address", private];
        let told = told(&command().args(flags).output().unwrap());
        let words = format!("cannot listen on private_address {private}: {expected}");
        assert!(told.contains(&words), "{words} not in {told}");
    }
}

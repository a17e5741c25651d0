//! Settings of a cluster that are wrong, and brokers that cannot be used: what is said, and the exit
//! code.

use wserver_test_brokers::process::{is_there, reserved_port};
use wserver_test_brokers::{nats, redis};

use crate::harness::command;
use crate::settings::{File, file};

const BAD_SETTINGS: i32 = 64;
const FAILED: i32 = 1;

/// What the server says instead of serving: the last line, which is the error.
fn told(flags: &[&str], code: i32) -> String {
    let output = command().args(["--address", "127.0.0.1:0"]).args(flags).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{flags:?}: {told}");
    assert!(!told.contains("canary"), "{told}");
    told
}

/// Wrong settings are told, each on a line of its own.
fn check_bad(flags: &[&str], expected: &[&str]) {
    let told = told(flags, BAD_SETTINGS);
    let errors: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    assert_eq!(errors, expected, "{flags:?}");
}

/// A broker that cannot be used is told with its address; `HOST` is `127.0.0.1:port`.
fn check_failed(url: &str, flags: &[&str], expected: &str) {
    let told = told(&[&["--cluster-broker", url], flags].concat(), FAILED);
    let at = url.split("//").nth(1).unwrap().split('/').next().unwrap();
    let error = format!(
        "cluster_broker {url} cannot be used (to start anyway, set cluster_wait_for_broker): {}",
        expected.replace("HOST", at)
    );
    let last = told.lines().last().unwrap_or_default();
    assert!(last.ends_with(&error), "{error}\nin {told}");
}

#[test]
fn settings_that_can_never_work() {
    let password = file("cluster-password", "canary-password\n");
    let (empty, missing) = (file("cluster-empty", "\n"), "/no/such/file");
    let redis = ["--cluster-broker", "redis://127.0.0.1:1"];
    let with = |more: &[&'static str]| -> Vec<&str> { [&redis[..], more].concat() };
    for flag in [
        ["--cluster-node-name", "a"],
        ["--cluster-username", "u"],
        ["--cluster-password-file", password.path()],
        ["--cluster-credentials-file", missing],
        ["--cluster-ca-file", missing],
    ] {
        let name = flag[0].trim_start_matches("--").replace('-', "_");
        check_bad(&flag, &[&format!("{}: {name} needs a cluster_broker", flag[0])]);
    }
    let schemes = "but must begin with redis://, redis-sentinel://, redis-cluster://, rediss://, \
                   rediss-sentinel://, rediss-cluster://, nats:// or tls://";
    check_bad(
        &["--cluster-broker", "amqp://127.0.0.1"],
        &[&format!("--cluster-broker: cluster_broker is \"amqp://127.0.0.1\", {schemes}")],
    );
    check_bad(
        &["--cluster-broker", "amqp://u:canary@127.0.0.1"],
        &[&format!("--cluster-broker: cluster_broker is …@127.0.0.1, {schemes}")],
    );
    check_bad(
        &["--cluster-broker", "redis://u:canary@127.0.0.1:1"],
        &["--cluster-broker: cluster_broker: the broker's URL contains a user or a password: set \
             cluster_username and cluster_password_file instead"],
    );
    check_bad(
        &["--cluster-broker", "nats://canary@127.0.0.1:1"],
        &["--cluster-broker: cluster_broker: the NATS URL contains a user or a password: set \
             cluster_username and cluster_password_file instead"],
    );
    check_bad(
        &with(&["--cluster-credentials-file", missing]),
        &["--cluster-credentials-file, --cluster-broker: cluster_credentials_file is for NATS, \
             but cluster_broker is Redis: set cluster_password_file"],
    );
    check_bad(
        &[&redis[..], &["--cluster-password-file", empty.path()]].concat(),
        &["--cluster-password-file: cluster_password_file is empty"],
    );
    let hidden = file("cluster-hidden", "canary\u{200b}password\n");
    check_bad(
        &[&redis[..], &["--cluster-password-file", hidden.path()]].concat(),
        &["--cluster-password-file: cluster_password_file contains the invisible character U+200B"],
    );
    check_bad(
        &with(&["--cluster-password-file", missing]),
        &[
            "--cluster-password-file: cluster_password_file /no/such/file: No such file or directory (os error 2)",
        ],
    );
    check_bad(
        &with(&["--cluster-ca-file", missing]),
        &[
            "--cluster-ca-file: cluster_ca_file /no/such/file: No such file or directory (os error 2)",
        ],
    );
    check_bad(
        &with(&["--cluster-name", "two words", "--cluster-lease", "1ms"]),
        &[
            "--cluster-name: cluster_name is \"two words\", but must be 1 to 64 letters, digits, - \
             and _",
            "--cluster-lease: cluster_lease is 1ms, but must be 500ms to 60s",
        ],
    );
    check_bad(
        &with(&["--cluster-node-name", "a b", "--cluster-answer-timeout", "1m"]),
        &[
            "--cluster-node-name: cluster_node_name is \"a b\", but must be at most 64 visible \
             ASCII characters",
            "--cluster-answer-timeout: cluster_answer_timeout is 60s, but must be 10ms to 30s",
        ],
    );
    check_bad(
        &with(&["--cluster-requests-max", "0"]),
        &["--cluster-requests-max: cluster_requests_max is 0, but must be at least 1"],
    );
}

fn password(word: &str) -> File {
    file("cluster-password", format!("{word}\n"))
}

#[test]
fn a_redis_that_cannot_be_used() {
    if !is_there(redis::PROGRAM) {
        return;
    }
    let nobody = format!("redis://127.0.0.1:{}", reserved_port());
    check_failed(&nobody, &[], "HOST cannot be reached: Connection refused (os error 111)");
    let server = redis::Standalone::start(&[
        "requirepass canary-password",
        "user publisher on >canary-password resetchannels &wserver.* +publish",
        "user listener on >canary-password resetchannels &wserver.* +subscribe",
    ]);
    let url = server.url();
    check_failed(&url, &[], "HOST asks for a password: set cluster_password_file");
    let (wrong, right) = (password("canary-wrong"), password("canary-password"));
    check_failed(
        &url,
        &["--cluster-password-file", wrong.path()],
        "HOST rejects user default with this password: check cluster_username and \
         cluster_password_file",
    );
    for (user, command) in [("publisher", "SUBSCRIBE"), ("listener", "PUBLISH")] {
        check_failed(
            &url,
            &["--cluster-username", user, "--cluster-password-file", right.path()],
            &format!(
                "HOST does not let user {user} {command} on wserver.*: give the user the ACL rules \
                 resetchannels &wserver.* +publish +subscribe +ping"
            ),
        );
    }
}

#[test]
fn a_broker_whose_certificate_nobody_trusts() {
    if !is_there(redis::PROGRAM) {
        return;
    }
    let (certificate, key) = crate::secure::certificate();
    let server = redis::Standalone::start_tls(&certificate, &key, &[]);
    let url = server.url().replace("127.0.0.1", "localhost");
    check_failed(
        &url,
        &[],
        "HOST presents a certificate that this node does not trust: invalid peer certificate: \
         UnknownIssuer",
    );
    let plain = url.replace("rediss", "redis");
    check_failed(
        &plain,
        &[],
        "HOST closed the connection at once: if it speaks TLS, the URL must begin with rediss",
    );
    // With its authority it is a broker as any other.
    let authority = file("cluster-authority.pem", certificate);
    let node = super::stage::node(&url, "a", &["--cluster-ca-file", authority.path()]);
    super::stage::is_told(&node, Result::is_ok);
}

#[test]
fn a_nats_server_that_cannot_be_used() {
    if !is_there(nats::PROGRAM) {
        return;
    }
    let nobody = format!("nats://127.0.0.1:{}", reserved_port());
    check_failed(&nobody, &[], "NATS server HOST refuses the connection: nothing listens there");
    let server = nats::Server::start(
        "authorization { users: [\n  {user: good, password: canary-password}\n  \
         {user: listener, password: canary-password, permissions: {publish: {deny: \">\"}}}\n] }",
    );
    let url = server.url();
    let (wrong, right) = (password("canary-wrong"), password("canary-password"));
    check_failed(
        &url,
        &["--cluster-username", "good", "--cluster-password-file", wrong.path()],
        "NATS server HOST does not accept this user and password",
    );
    let flags = ["--cluster-username", "listener", "--cluster-password-file", right.path()];
    let told = told(&[&["--cluster-broker", &url][..], &flags].concat(), FAILED);
    assert!(
        told.to_lowercase().contains("permissions violation") || told.contains("not let"),
        "{told}"
    );
    let flags = ["--cluster-username", "good", "--cluster-password-file", right.path()];
    super::stage::is_told(&super::stage::node(&url, "a", &flags), Result::is_ok);
}

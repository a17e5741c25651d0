//! The settings file and its layers: mistakes and what is told of each, precedence, `check` and `config`.

use std::net::TcpListener;
use std::process::Output;

use crate::harness::{Server, command};
use crate::settings::file;

const BAD_SETTINGS: Option<i32> = Some(64);

/// What `wserver check` prints about these layers.
fn check(content: &str, environment: &[(&str, &str)], flags: &[&str]) -> String {
    let config = file("good.toml", content);
    let output = command()
        .args(["check", "--config", config.path()])
        .args(flags)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{content}: {told}");
    String::from_utf8(output.stdout).unwrap().replace(config.path(), "FILE")
}

/// The line of one setting in what `check` prints, its columns closed up.
fn line(printed: &str, setting: &str) -> String {
    let line = printed
        .lines()
        .find(|line| line.trim_start_matches("# ").starts_with(&format!("{setting} ")))
        .unwrap_or_else(|| panic!("no {setting} in {printed}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn told(output: &Output) -> String {
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).expect("what is told is text")
}

/// Tries a file with a mistake, both to check it and to serve with it at a port that is taken: had
/// it tried to listen, it would have failed with another exit code.
fn check_mistake(content: &str, expected: &[&str]) {
    let config = file("bad.toml", content);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments: [&[&str]; 2] = [
        &["check", "--config", config.path()],
        &["--config", config.path(), "--address", &address],
    ];
    for arguments in arguments {
        let output = command().args(arguments).output().unwrap();
        let told = told(&output).replace(config.path(), "FILE");
        assert_eq!(output.status.code(), BAD_SETTINGS, "{content}: {told}");
        let errors: Vec<&str> =
            told.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        assert_eq!(errors, expected, "{content}");
    }
}

#[test]
fn mistakes_in_the_file_are_told_with_their_line() {
    let cases: &[(&str, &[&str])] = &[
        // Keys.
        (
            "\nping_intervall = \"3s\"",
            &["FILE:2: there is no setting \"ping_intervall\"; did you mean ping_interval?"],
        ),
        (
            "ping-interval = \"3s\"",
            &["FILE:1: there is no setting \"ping-interval\"; did you mean ping_interval?"],
        ),
        (
            "Ping_Interval = \"3s\"",
            &["FILE:1: there is no setting \"Ping_Interval\"; did you mean ping_interval?"],
        ),
        (
            "pingInterval = \"3s\"",
            &["FILE:1: there is no setting \"pingInterval\"; did you mean ping_interval?"],
        ),
        ("port = 80", &["FILE:1: there is no setting \"port\"; `wserver config` shows them all"]),
        (
            "config = \"x\"",
            &["FILE:1: there is no setting \"config\"; `wserver config` shows them all"],
        ),
        ("\"\" = 3", &["FILE:1: there is no setting \"\"; `wserver config` shows them all"]),
        (
            "\"a\\n\\u001b[31mb\" = 3",
            &["FILE:1: there is no setting \"a\\n\\u{1b}[31mb\"; `wserver config` shows them all"],
        ),
        (
            "[limits]\nping_interval = \"3s\"",
            &[
                "FILE:1: there is no table \"limits\"; the tables are callback, cluster, jwt, push_jwt",
            ],
        ),
        (
            "wserver.ping_interval = \"3s\"",
            &[
                "FILE:1: there is no table \"wserver\"; the tables are callback, cluster, jwt, push_jwt",
            ],
        ),
        (
            "[ping_interval]",
            &["FILE:1: ping_interval is [ping_interval]: write a time such as 500ms, 30s or 5m"],
        ),
        ("log = \"info\"\nlog = \"warn\"", &["FILE:2: duplicate key"]),
        // Secrets.
        (
            "# x\npush_key = \"canary-0123456789\"",
            &["FILE:2: push_key is a secret and must not be in this file: put it into a separate \
                 file and name that file with push_key_file, or set WSERVER_PUSH_KEY in the \
                 environment"],
        ),
        // What is no TOML.
        (
            "ping_interval = 25s",
            &["FILE:1: this is not a value: text, times, and sizes with a unit must be in quotes"],
        ),
        (
            "log = info",
            &["FILE:1: this is not a value: text, times, and sizes with a unit must be in quotes"],
        ),
        (
            "no_demo = truely",
            &["FILE:1: this is not a value: text, times, and sizes with a unit must be in quotes"],
        ),
        (
            "no_demo = yes",
            &["FILE:1: this is not a value: text, times, and sizes with a unit must be in quotes"],
        ),
        ("\n\nping_interval", &["FILE:3: key with no value, expected `=`"]),
        ("log = 'info", &["FILE:1: invalid literal string, expected `'`"]),
        ("[limits", &["FILE:1: unclosed table, expected `]`"]),
        ("log = \"info\" pong = 3", &["FILE:1: unexpected key or value, expected newline, `#`"]),
        // Values of another type.
        (
            "ping_interval = 25",
            &["FILE:1: ping_interval is 25: write a time such as 500ms, 30s or \
                                  5m"],
        ),
        (
            "ping_interval = 2.5",
            &["FILE:1: ping_interval is 2.5: write a time such as 500ms, 30s or 5m, in quotes"],
        ),
        (
            "ping_interval = 12:30:00",
            &[
                "FILE:1: ping_interval is 12:30:00: write a time such as 500ms, 30s or 5m, in quotes",
            ],
        ),
        (
            "connections_max = \"5\"",
            &["FILE:1: connections_max is \"5\": write a whole number, 0 or more, without quotes"],
        ),
        (
            "connections_max = 5.0",
            &["FILE:1: connections_max is 5.0: write a whole number, 0 or more"],
        ),
        (
            "connections_max = -1",
            &["FILE:1: connections_max is -1: write a whole number, 0 or more"],
        ),
        (
            "connections_max = 99999999999999999999",
            &["FILE:1: connections_max is 99999999999999999999: write a whole number, 0 or more"],
        ),
        (
            "inbound_messages_burst = 0x100000000",
            &["FILE:1: inbound_messages_burst is 0x100000000: write a whole number from 0 to \
                 4294967295"],
        ),
        (
            "message_bytes_max = true",
            &["FILE:1: message_bytes_max is true: write a size such as 4096, 64KiB or 1MiB, in \
               quotes"],
        ),
        (
            "message_bytes_max = \"1 mebibyte\"",
            &["FILE:1: message_bytes_max is \"1 mebibyte\": write a size such as 4096, 64KiB or \
               1MiB"],
        ),
        (
            "message_bytes_max = -1",
            &["FILE:1: message_bytes_max is -1: write a size such as 4096, 64KiB or 1MiB"],
        ),
        (
            "no_demo = \"true\"",
            &["FILE:1: no_demo is \"true\": write true or false, without quotes"],
        ),
        ("no_demo = 1", &["FILE:1: no_demo is 1: write true or false"]),
        ("address = 12345", &["FILE:1: address is 12345: write text in UTF-8, in quotes"]),
        ("log_format = \"xml\"", &["FILE:1: log_format is \"xml\": write human or json"]),
        ("tokens_file = \"\"", &["FILE:1: tokens_file is \"\": write the path of a file"]),
        (
            "tokens_file = [\"a\", \"b\"]",
            &["FILE:1: tokens_file is [\"a\", \"b\"]: write the path of a file"],
        ),
        (
            "origin = [\"https://a.example\", 3]",
            &["FILE:1: origin is [\"https://a.example\", 3]: write a list, separated by commas"],
        ),
        // Values that cannot be used, which only the server knows.
        ("ws_path = \"ws\"", &["FILE:1: ws_path \"ws\" must start with /"]),
        (
            "ws_path = \"/x\"\npush_path = \"/x\"",
            &["FILE:1, FILE:2: ws_path and push_path are both /x, but must differ"],
        ),
        (
            "\norigin = [\"a.example\"]",
            &["FILE:2: origin \"a.example\" needs a scheme, as in https://app.example.com"],
        ),
        // A word of the message that is the name of a setting too does not place it there.
        (
            "trusted_proxies = [\"nobody\"]",
            &[
                "FILE:1: trusted_proxies \"nobody\" is neither an address nor a network such as 10.0.0.0/8",
            ],
        ),
        ("log = \"=[\"", &["FILE:1: log \"=[\" is not a filter: invalid filter directive"]),
        (
            "tokens_file = \"/no/such/file\"",
            &["FILE:1: tokens_file /no/such/file: No such file or directory (os error 2)"],
        ),
        ("ping_interval = 0", &["FILE:1: ping_interval must be longer than zero"]),
        (
            "walk_bytes_max = \"128KiB\"\noutbox_bytes_max = \"1MiB\"",
            &["FILE:2, FILE:1: outbox_bytes_max is 1048576, but must be at least 2408660: it \
                 must hold twice the sum of walk_bytes_max, the largest message, and the longest \
                 event with each byte escaped"],
        ),
        // All at once, in the order of the file where it is the file that is wrong.
        (
            "pong = 1\nconnections_max = []\nping_interval = \"soon\"",
            &[
                "FILE:1: there is no setting \"pong\"; `wserver config` shows them all",
                "FILE:2: connections_max is []: write a whole number, 0 or more",
                "FILE:3: ping_interval is \"soon\": write a time such as 500ms, 30s or 5m",
            ],
        ),
    ];
    assert!(cases.len() >= 30);
    for (content, expected) in cases {
        check_mistake(content, expected);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let directory = env!("CARGO_TARGET_TMPDIR");
    let latin = file("latin.toml", b"log = 'info'\nws_path = '/\xe4'\n");
    let nested = file("nested.toml", format!("log = {}", "[".repeat(100_000)));
    for (path, expected) in [
        ("/no/such/file", "config /no/such/file: No such file or directory"),
        (directory, "Is a directory"),
        ("/dev/zero", "config /dev/zero: it is a device, but must be a regular file"),
        (latin.path(), "line 2 is not UTF-8"),
        (nested.path(), ":1: "),
    ] {
        for (flags, environment) in
            [(vec!["--config", path], vec![]), (vec![], vec![("WSERVER_CONFIG", path)])]
        {
            let output = command().args(flags).envs(environment).output().unwrap();
            assert_eq!(output.status.code(), BAD_SETTINGS, "{path}");
            assert!(told(&output).contains(expected), "{path}: {}", told(&output));
        }
    }
    let output = command().arg("check").env("WSERVER_CONFIG", "").output().unwrap();
    assert_eq!(output.status.code(), BAD_SETTINGS);
    assert!(told(&output).contains("config is empty: write the path of a file"));
}

/// Whoever takes the flag away tomorrow should not find out then.
#[test]
fn a_mistake_in_a_layer_that_is_covered_is_told_too() {
    let config = file("covered.toml", "ping_interval = \"soon\"");
    let output = command()
        .args(["check", "--config", config.path(), "--ping-interval", "3s"])
        .env("WSERVER_PING_INTERVAL", "later")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), BAD_SETTINGS);
    for words in [
        ":1: ping_interval is \"soon\": write a time",
        "error: WSERVER_PING_INTERVAL: ping_interval is \"later\": write a time",
    ] {
        assert!(told(&output).contains(words), "{}", told(&output));
    }
}

#[test]
fn flags_win_over_the_environment_that_over_the_file_that_over_the_default() {
    let content = "\nping_interval = \"3s\"\nno_demo = true\norigin = [\"https://a.example\", \"https://b.example\"]";
    let environment = [("WSERVER_PING_INTERVAL", "4s"), ("WSERVER_ORIGIN", "https://c.example")];
    let flag = ["--ping-interval", "5s", "--no-demo=false", "--log", "debug"];
    let origins = r#"origin = ["https://a.example", "https://b.example"] # FILE:4"#;
    for (printed, lines) in [
        (
            check("", &[], &[]),
            [
                r#"ping_interval = "25s" # default"#,
                "# no_demo (not set)",
                r#"origin = ["any"] # default"#,
            ],
        ),
        (
            check(content, &[], &[]),
            [r#"ping_interval = "3s" # FILE:2"#, "no_demo = true # FILE:3", origins],
        ),
        (
            check(content, &environment, &[]),
            [
                r#"ping_interval = "4s" # WSERVER_PING_INTERVAL"#,
                "no_demo = true # FILE:3",
                r#"origin = ["https://c.example"] # WSERVER_ORIGIN"#,
            ],
        ),
        (
            check(content, &environment, &flag),
            [
                r#"ping_interval = "5s" # --ping-interval"#,
                "no_demo = false # --no-demo",
                r#"origin = ["https://c.example"] # WSERVER_ORIGIN"#,
            ],
        ),
    ] {
        for expected in lines {
            let setting = expected.trim_start_matches("# ").split(' ').next().unwrap();
            assert_eq!(line(&printed, setting), expected, "{printed}");
        }
    }
}

/// What `check` prints is what a server does.
#[test]
fn a_server_lives_by_its_file() {
    let config =
        file("served.toml", "connections_max = 7\nping_interval = \"3s\"\nno_demo = true\n");
    let server =
        Server::start_with(&["--connections-max", "5"], &[("WSERVER_CONFIG", config.path())]);
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    for words in [r#""connections_max":5"#, r#""ping_interval":"3s""#, "try it: connect to ws://"] {
        assert!(log.contains(words), "{words} not in {log}");
    }
}

#[test]
fn check_names_secrets_and_does_not_show_them() {
    let tokens = file("tokens", "canary-token jack\n");
    let config = file("secret.toml", format!("tokens_file = {:?}\n", tokens.path()));
    let output = command()
        .args(["check", "--config", config.path()])
        .env("WSERVER_PUSH_KEY", "canary-key-0123456789")
        .env("WSERVER_PUSH_KEYS", "canary-key-0123456789")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let printed = String::from_utf8(output.stdout).unwrap();
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(printed.contains("# push_key (set, from WSERVER_PUSH_KEY)"), "{printed}");
    assert!(printed.contains("# push_key_file (not set)"), "{printed}");
    assert!(printed.contains(&format!("# settings file: {}", config.path())), "{printed}");
    assert!(
        warned.contains("\"WSERVER_PUSH_KEYS\"")
            && warned.contains("did you mean WSERVER_PUSH_KEY?"),
        "{warned}"
    );
    assert!(!printed.contains("canary") && !warned.contains("canary"), "{printed}{warned}");
}

/// What `check` prints is a settings file, and one that says the same.
#[test]
fn what_check_prints_can_be_read_back() {
    let printed = check(
        "ping_interval = \"90s\"\nmessage_bytes_max = 1000000\nlog = \"a\\\"b=debug\"",
        &[],
        &["--origin", "https://a.example,https://b.example"],
    );
    let again = check(&printed, &[], &[]);
    let values = |printed: &str| -> Vec<String> {
        let lines = printed.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(" # ").unwrap().0.trim_end().to_owned()).collect()
    };
    assert_eq!(values(&printed), values(&again));
    assert!(printed.contains(r#"ping_interval = "1m 30s""#), "{printed}");
}

#[test]
fn the_default_file_sets_the_defaults() {
    let output = command().arg("config").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let printed = String::from_utf8(output.stdout).unwrap();
    let defaults = check("", &[], &[]);
    let values = |printed: &str| -> Vec<String> {
        printed
            .lines()
            .map(|line| line.split("  #").next().unwrap().trim_end().to_owned())
            .collect()
    };
    assert_eq!(check(&printed, &[], &[]), defaults, "as it is, it sets nothing");
    // All that it shows, but for the examples of what has no default.
    let uncommented: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter(|line| {
            let setting = line.split(' ').next().unwrap();
            !defaults.contains(&format!("# {setting} (not set)"))
        })
        .collect();
    assert!(uncommented.len() >= 30, "{uncommented:?}");
    let again = check(&uncommented.join("\n"), &[], &[]);
    assert_eq!(values(&again), values(&defaults));
    assert_eq!(again.matches(" # FILE:").count(), uncommented.len(), "{again}");
}

#[test]
fn a_secret_on_the_command_line_is_told() {
    for flags in
        [&["--push-key", "canary-key-0123456789"][..], &["--push-key=canary-key-0123456789"]]
    {
        let output = command().args(flags).output().unwrap();
        assert_eq!(output.status.code(), BAD_SETTINGS);
        let told = told(&output);
        assert!(told.contains("choose another, and set WSERVER_PUSH_KEY"), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
    let help = command().arg("--help").output().unwrap();
    assert!(!String::from_utf8(help.stdout).unwrap().contains("--push-key <"));
}

#[test]
fn tasks_take_the_flags_that_are_theirs() {
    for (arguments, expected) in [
        (&["chekc"][..], "'check'"),
        (&["serve"], "'serve'"),
        (&["config", "--log", "info"], "--log"),
        (&["--log", "info", "check"], "'check' cannot be used with '--log"),
    ] {
        let output = command().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), BAD_SETTINGS, "{arguments:?}");
        assert!(told(&output).contains(expected), "{}", told(&output));
    }
}

#[test]
fn files_that_every_user_of_the_machine_may_read_or_change_are_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let tokens = file("permissions-tokens", "aaa jack\n");
    let config = file("permissions.toml", format!("tokens_file = {:?}\n", tokens.path()));
    let with = |of_config: u32, of_tokens: u32| {
        for (file, mode) in [(&config, of_config), (&tokens, of_tokens)] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let output = command().args(["check", "--config", config.path()]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        told.replace(config.path(), "FILE").replace(tokens.path(), "TOKENS")
    };
    assert_eq!(with(0o644, 0o640), "");
    let may = |who: &str, what: &str, mode: &str| {
        format!("warning: {who}: every user of this machine may {what} it (chmod {mode})\n")
    };
    assert_eq!(with(0o644, 0o644), may("tokens_file TOKENS", "read", "o-rwx"));
    assert_eq!(with(0o600, 0o666), may("tokens_file TOKENS", "change", "o-w"));
    assert_eq!(with(0o646, 0o600), may("config FILE", "change", "o-w"));
}

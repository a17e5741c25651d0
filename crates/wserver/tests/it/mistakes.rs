//! Wrong settings of `[jwt]`, `[push_jwt]` and `[callback]`: what is said about each.

mod tokens;

use crate::harness::command;
use crate::judge::IssuerKey;
use crate::settings::{File, file};

/// Files that are named well and by mistake.
struct Files {
    secret: File,
    short: File,
    lines: File,
    public: File,
    private: File,
    certificate: File,
    set: File,
    empty_set: File,
}

impl Files {
    fn new() -> Self {
        let (certificate, private) = crate::secure::certificate();
        let key = IssuerKey::es256("k");
        Self {
            secret: file("secret", "canary-0123456789-0123456789-0123456789\n"),
            short: file("short", "canary\n"),
            lines: file("lines", "canary\ncanary\n"),
            public: file("public.pem", &key.public_pem),
            private: file("private.pem", private),
            certificate: file("certificate.pem", certificate),
            set: file("set.json", "<html>canary"),
            empty_set: file("empty-set.json", r#"{"keys":[]}"#),
        }
    }

    /// With `$name` for the paths.
    fn fill(&self, text: &str) -> String {
        let files = [
            ("$secret", &self.secret),
            ("$short", &self.short),
            ("$lines", &self.lines),
            ("$public", &self.public),
            ("$private", &self.private),
            ("$certificate", &self.certificate),
            ("$set", &self.set),
            ("$empty_set", &self.empty_set),
        ];
        files.iter().fold(text.to_owned(), |text, (name, file)| {
            text.replace(&format!("'{name}'"), &format!("'{}'", file.path()))
                .replace(&format!("{name}:"), &format!("{}:", file.path()))
        })
    }
}

/// Tries files of these lines behind `start`; each is told this and nothing else.
fn check(start: &str, cases: &[(&str, &[&str])]) {
    let files = Files::new();
    for (lines, expected) in cases {
        let config = file("mistake.toml", files.fill(&format!("{start}\n{lines}")));
        let output = command().args(["check", "--config", config.path()]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{start} {lines}: {told}");
        let told = told.replace(config.path(), "FILE");
        let errors: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        let expected: Vec<_> = expected.iter().map(|line| files.fill(line)).collect();
        assert_eq!(errors, expected, "{start} {lines}");
        assert!(!told.contains("canary") && output.stdout.is_empty(), "{told}");
    }
}

#[test]
fn of_a_backend() {
    check(
        "[callback]",
        &[
            (
                "secret_file = '$secret'\nforward_headers = ['x-a']\nrest = '1s'",
                &[
                    "FILE:2: callback_secret_file needs callback_url",
                    "FILE:3: callback_forward_headers needs callback_url",
                    "FILE:4: callback_rest needs callback_url",
                ],
            ),
            (
                "url = 'http://backend/canary'",
                &["FILE:2: callback_url: plain http:// to backend can be read and changed in \
                     transit: use https://, or set callback_allow_plain_http if you trust that \
                     network"],
            ),
            (
                "url = 'backend/canary'",
                &["FILE:2: callback_url: this is not a URL such as https://host/path"],
            ),
        ],
    );
    check(
        "[callback]\nurl = 'http://localhost:8000/auth'",
        &[
            (
                "timeout = 3",
                &["FILE:3: callback_timeout is 3: write a time such as 500ms, 30s or 5m"],
            ),
            ("timeout = 0", &["FILE:3: callback_timeout must be longer than zero"]),
            (
                "timeout = '9s'",
                &["FILE:3: callback_timeout and callback_wait_max are 9s and 1s, but together \
                     must be less than authenticate_timeout, which is 10s"],
            ),
            ("concurrency_max = 0", &["FILE:3: callback_concurrency_max must be 1 to a million"]),
            ("waiting_max = 1000001", &["FILE:3: callback_waiting_max must be at most a million"]),
            ("failures_max = 0", &["FILE:3: callback_failures_max must be at least 1"]),
            ("rest = '25h'", &["FILE:3: callback_rest must be at most a day"]),
            (
                "cache_entries_max = 10000001",
                &["FILE:3: callback_cache_entries_max must be at most ten million"],
            ),
            (
                "forward_headers = ['x a']",
                &["FILE:3: callback_forward_headers: \"x a\" is not the name of a header: \
                     invalid HTTP header name"],
            ),
            (
                "forward_headers = ['Host']",
                &[
                    "FILE:3: callback_forward_headers: host cannot be forwarded: it belongs to the handshake itself",
                ],
            ),
            (
                "forward_headers = ['Cookie']",
                &[
                    "FILE:3: callback_forward_headers with cookie and origin any do not go together, since any web page could then listen as its visitor: set origin to same-origin, or to the origins of your pages",
                ],
            ),
            (
                "forward_headers = ['authorization']\nsecret_file = '$secret'",
                &["FILE:3, FILE:4: callback_forward_headers, callback_secret_file: authorization \
                     cannot be forwarded, because the secret is sent in that header"],
            ),
            (
                "secret_file = '$lines'",
                &["FILE:3: callback_secret_file $lines: the secret is empty, begins or ends with \
                     white space, or contains a character that a header cannot carry, such as a \
                     line end or U+FEFF"],
            ),
            (
                "secret = 'canary'",
                &[
                    "FILE:3: there is no setting \"secret\"; did you mean secret_file in the table [callback]?",
                ],
            ),
            (
                "ca_file = '$certificate'",
                &["FILE:3, FILE:2: callback_ca_file needs https://, but callback_url is http://"],
            ),
        ],
    );
}

#[test]
fn of_all_at_once() {
    check(
        "[jwt]\nsecret_file = '$short'",
        &[(
            "[push_jwt]\nsecret_file = '/no/such/file'\n[callback]\nurl = 'http://localhost/'\nrest = '9days'",
            &[
                "FILE:2: jwt_secret_file $short: the secret has 6 bytes, but needs at least 32",
                "jwt_audience is missing: in [jwt], write audience = \"whom tokens are meant for\", or \"any\"",
                "FILE:7: callback_rest must be at most a day",
                "FILE:4: push_jwt_secret_file /no/such/file: No such file or directory (os error 2)",
                "push_jwt_audience is missing: in [push_jwt], write audience = \"whom tokens are meant for\", or \"any\"",
            ],
        )],
    );
}

//! The README's first lines: whoever types them one by one has the programs that they call, and sees
//! what they say.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};

use crate::harness::{Server, command, eventually};
use crate::raw::{Raw, post};

fn root() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    crates.parent().unwrap()
}

fn section(readme: &str) -> &str {
    let (_, section) = readme.split_once("\n## Run it\n").expect("how to run it");
    section.split("\n## ").next().unwrap()
}

/// The commands of the section, each with what is said behind it.
fn commands(section: &str) -> Vec<(Vec<&str>, &str)> {
    let blocks = section.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    let parts = lines.map(|line| line.split_once(" # ").unwrap_or((line, "")));
    let commands = parts.map(|(words, said)| (words.split_whitespace().collect(), said.trim()));
    commands.collect()
}

/// The tool of this command against this server.
fn tool(server: &Server, words: &[&str]) -> std::process::Command {
    let mut command = command();
    command.args(&words[1..]).args(["--url", &format!("http://{}", server.address)]);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_program_is_installed_before_it_is_called() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let section = section(&readme);
    // What the section itself asks for, and what every system has.
    let mut there = HashSet::from(["cargo", "curl"]);
    let commands = commands(section);
    assert!(commands.iter().any(|(words, _)| words[0] == "wserver"), "{commands:?}");
    for (words, _) in &commands {
        assert!(there.contains(words[0]), "nothing has brought {words:?}");
        if let ["cargo", "install", "--path", path] = words[..] {
            let manifest = fs::read_to_string(root().join(path).join("Cargo.toml")).unwrap();
            assert!(manifest.contains("name = \"wserver\""), "{manifest}");
            there.insert("wserver");
        }
    }
    let release = concat!("Rust ", env!("CARGO_PKG_RUST_VERSION"), " or later");
    for needed in [release, "a C compiler", "The first build"] {
        assert!(section.contains(needed), "{needed}");
    }
}

#[test]
fn its_pushes_are_taken_and_say_what_is_written_behind_them() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let server = Server::start();
    let mut listener = None;
    let mut pushed = 0;
    for (words, said) in commands(section(&readme)) {
        match words[..] {
            ["wserver", "listen", ..] => {
                let mut child = tool(&server, &words)
                    .stderr(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap();
                let mut line = String::new();
                BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
                assert!(line.starts_with("registered: "), "{line}");
                listener = Some(child);
            }
            ["wserver", "push", ..] => {
                let (_, expected) = said.rsplit_once(": ").unwrap_or(("", said));
                let what = format!("{words:?} says {expected}");
                // Nothing tells when the listener is bound.
                eventually(&what, || {
                    stdout(&tool(&server, &words).output().unwrap()).contains(expected)
                });
                pushed += 1;
            }
            // The machine that it is about is nobody's.
            ["wserver", "doctor", ..] => {
                let output = command().args(["doctor", "--help"]).output().unwrap();
                assert!(output.status.success(), "{output:?}");
            }
            ["wserver", ..] => panic!("not tried: {words:?}"),
            ["curl", url, "-d", body] => {
                assert_eq!(url, "http://127.0.0.1:22345/push", "beside the default address");
                let mut raw = Raw::connect(&server);
                raw.send(post(&[], body.trim_matches('\'')));
                assert_eq!(raw.answer().status, 200);
                pushed += 1;
            }
            _ => {}
        }
    }
    let mut listener = listener.expect("somebody listens");
    listener.kill().unwrap();
    listener.wait().unwrap();
    assert_eq!(pushed, 3);
    let output = command().arg("config").output().unwrap();
    assert!(stdout(&output).contains("address = \"127.0.0.1:12345\""), "{output:?}");
}

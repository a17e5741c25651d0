//! A broker that lets everybody in and hangs up.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::stage;

/// How long a node is watched.
const WATCHED: Duration = Duration::from_secs(5);

/// A Redis as far as a link needs one to be open, which then ends every connection.
fn fickle() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            accepted.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || let_in(&stream));
        }
    });
    (port, count)
}

/// The next command, word for word.
fn command(input: &mut BufReader<&TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let words = line.trim_end().strip_prefix('*')?.parse::<usize>().ok()?;
    let word = |_| {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let mut word = vec![0; line.trim_end().strip_prefix('$')?.parse::<usize>().ok()? + 2];
        input.read_exact(&mut word).ok()?;
        Some(String::from_utf8_lossy(&word).trim_end().to_owned())
    };
    (0..words).map(word).collect()
}

fn let_in(mut stream: &TcpStream) {
    let mut input = BufReader::new(stream);
    while let Some(words) = command(&mut input) {
        let (answer, is_open) = match words[0].as_str() {
            "HELLO" => (
                "*4\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"
                    .to_owned(),
                false,
            ),
            "SUBSCRIBE" => {
                let confirm = |(number, name): (usize, &String)| {
                    format!(
                        "*3\r\n$9\r\nsubscribe\r\n${}\r\n{name}\r\n:{}\r\n",
                        name.len(),
                        number + 1
                    )
                };
                (words[1..].iter().enumerate().map(confirm).collect(), true)
            }
            _ => (":0\r\n".to_owned(), true),
        };
        let _ = stream.write_all(answer.as_bytes());
        if is_open {
            // Long enough that the other connection of the link is open as well.
            thread::park_timeout(Duration::from_millis(5));
            return;
        }
    }
}

#[test]
fn a_broker_that_accepts_and_closes_is_not_stormed_and_told_of_once() {
    let (port, count) = fickle();
    let url = format!("redis://127.0.0.1:{port}");
    let node = stage::node(&url, "a", &["--cluster-wait-for-broker"]);
    let before = count.load(Ordering::Relaxed);
    let since = Instant::now();
    while since.elapsed() < WATCHED {
        thread::park_timeout(WATCHED);
    }
    let connections = count.load(Ordering::Relaxed) - before;
    assert!((1..=30).contains(&connections), "{connections} connections in {WATCHED:?}");
    node.signal("TERM");
    let (_, log) = node.wait();
    let told = log.lines().filter(|line| line.contains("no link to the broker")).count();
    assert!((1..=2).contains(&told), "{told} warnings: {log}");
}

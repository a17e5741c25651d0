//! Keys and certificates are rotated while pushes go on without a pause: nobody who has the right
//! to push is refused, nothing is lost, and nobody is dropped.

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use wserver_client::{Client, CloseCode, Connection, Pusher};

use crate::harness::{Log, PATIENCE, Server};
use crate::secure::{certificate, publisher};
use crate::settings::{File, file};

const ROUNDS: usize = 4;
const USERS: usize = 3;
/// Listeners of each user.
const LISTENERS: usize = 4;
const READY: &str = "ready";
const END: &str = "end";

/// For each user a pusher who never pauses, and listeners who miss nothing.
struct Load {
    /// How to push from now on; `None` is no more.
    pusher: watch::Sender<Option<Pusher>>,
    /// One word of each pusher when it has pushed as it was last told to.
    pushed: mpsc::Receiver<()>,
    /// For each user, how many messages the pusher sent and each of the listeners heard.
    users: Vec<JoinSet<usize>>,
}

impl Load {
    async fn start(client: &Client, pusher: Pusher) -> Self {
        let (phases, _) = watch::channel(Some(pusher.clone()));
        let (tell, pushed) = mpsc::channel(USERS);
        let mut load = Self { pusher: phases, pushed, users: Vec::new() };
        for user in (0..USERS).map(|number| format!("user-{number}")) {
            let mut counts = JoinSet::new();
            for _ in 0..LISTENERS {
                let mut connection = client.open().await.unwrap();
                connection.register(&user, "news").await.unwrap();
                counts.spawn(hear(connection));
            }
            while pusher.push(&user, "news", READY).await.unwrap() < LISTENERS as u64 {}
            counts.spawn(push_on(user, load.pusher.subscribe(), tell.clone()));
            load.users.push(counts);
        }
        load.all_pushed().await;
        load
    }

    /// Lets everybody push like this from now on, and waits until all have.
    async fn change(&mut self, pusher: Pusher) {
        self.pusher.send(Some(pusher)).unwrap();
        self.all_pushed().await;
    }

    async fn all_pushed(&mut self) {
        for _ in 0..USERS {
            let pushed = tokio::time::timeout(PATIENCE, self.pushed.recv()).await.unwrap();
            pushed.expect("a pusher was refused, or what it pushed was lost");
        }
    }

    /// The end of all pushes: what was pushed was heard.
    async fn finish(self) {
        self.pusher.send(None).unwrap();
        for counts in self.users {
            let counts = counts.join_all().await;
            assert!(counts[0] > ROUNDS, "{counts:?} are no load");
            assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
        }
    }
}

/// Pushes numbers to `user`; how many.
async fn push_on(
    user: String,
    mut phases: watch::Receiver<Option<Pusher>>,
    pushed: mpsc::Sender<()>,
) -> usize {
    let mut number = 0;
    let mut last = None;
    loop {
        let phase = phases.borrow_and_update().clone();
        let Some(pusher) = phase else { break };
        let mut is_told = false;
        while !phases.has_changed().unwrap() {
            let count = pusher.push(&user, "news", &number.to_string()).await.unwrap();
            assert_eq!(count, LISTENERS as u64, "everybody is still there");
            number += 1;
            if !is_told {
                pushed.send(()).await.unwrap();
                is_told = true;
            }
        }
        last = Some(pusher);
    }
    last.unwrap().push(&user, "news", END).await.unwrap();
    number
}

/// Hears numbers without a gap to their end; how many.
async fn hear(mut connection: Connection) -> usize {
    let mut next = 0;
    loop {
        let text = connection.next_text(PATIENCE).await.unwrap();
        match text.as_str() {
            READY => {}
            END => return next,
            number => {
                assert_eq!(number, next.to_string(), "in order, once, and none is lost");
                next += 1;
            }
        }
    }
}

fn shop(number: usize) -> String {
    publisher(&format!("shop-{number}"), &key(number))
}

fn key(number: usize) -> String {
    format!("key-number-{number}-0123456789")
}

/// The way that docs/security.md has: both are good, everybody moves over, the old one goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_keys_rotate_under_load() {
    let config = file("rotation.toml", shop(0));
    let flags = ["--config", config.path(), "--reload-interval", "0"];
    let mut server = Server::start_with(&flags, &[]);
    let mut log = server.follow_log();
    let pusher = |number| {
        let pusher = Pusher::new(&format!("http://{}/push", server.address)).unwrap();
        pusher.with_key(&key(number)).unwrap().with_timeout(PATIENCE)
    };
    let mut reload = |content: String| {
        config.replace(content);
        server.signal("HUP");
        log.until(r#""changed":"publisher""#);
    };
    let client = Client::new(&format!("ws://{}/ws", server.address)).unwrap();
    let mut load = Load::start(&client, pusher(0)).await;
    for old in 0..ROUNDS {
        let new = old + 1;
        assert!(pusher(new).push("user-0", "news", "m").await.is_err(), "not yet");
        reload(shop(old) + &shop(new));
        load.change(pusher(new)).await;
        reload(shop(new));
        assert!(pusher(old).push("user-0", "news", "m").await.is_err(), "not any more");
    }
    load.finish().await;
}

/// Certificates that are their own authority, so who trusts one alone sees whether it is the one
/// that is shown.
struct Certificates {
    /// Each with its key, in PEM.
    pairs: Vec<(String, String)>,
    certificate: File,
    key: File,
}

impl Certificates {
    fn new() -> Self {
        let pairs: Vec<_> = (0..=ROUNDS).map(|_| certificate()).collect();
        let certificate = file("rotation.pem", &pairs[0].0);
        let key = file("rotation-key.pem", &pairs[0].1);
        Self { pairs, certificate, key }
    }

    fn all(&self) -> String {
        self.pairs.iter().map(|(certificate, _)| certificate.as_str()).collect()
    }

    /// Puts another in place, as certbot does: one file after the other.
    fn rotate(&self, number: usize) {
        let (certificate, key) = &self.pairs[number];
        self.certificate.replace(certificate);
        self.key.replace(key);
    }
}

/// Connects, registers and goes, again and again; after each time a word.
async fn come_and_go(client: Client, came: mpsc::Sender<()>) {
    loop {
        let mut connection = client.open().await.unwrap();
        connection.register("newcomer", "news").await.unwrap();
        connection.close(CloseCode::NORMAL, "").await.unwrap();
        if came.send(()).await.is_err() {
            return;
        }
    }
}

/// Without a signal, and looked at so often that it may well find one file new and the other old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_under_load() {
    let certificates = Certificates::new();
    let flags = [
        ["--tls-certificate-file", certificates.certificate.path()],
        ["--tls-key-file", certificates.key.path()],
        ["--reload-interval", "10ms"],
    ];
    let mut server = Server::start_with(flags.as_flattened(), &[]);
    let mut log: Log = server.follow_log();
    let port = server.address.port();
    let client = Client::new(&format!("wss://localhost:{port}/ws")).unwrap();
    let trusting = |pem: &str| {
        client.clone().with_ca_pem(pem.as_bytes()).unwrap().with_connect_timeout(PATIENCE)
    };
    let shows = |number: usize| trusting(&certificates.pairs[number].0);
    let everyone = trusting(&certificates.all());
    let pusher = Pusher::new(&format!("https://localhost:{port}/push")).unwrap();
    let pusher = pusher.with_ca_pem(certificates.all().as_bytes()).unwrap().with_timeout(PATIENCE);
    // On connections that stay, and with a handshake for each push.
    let pushers = [pusher.clone(), pusher.with_idle_connections_max(0)];

    let mut load = Load::start(&everyone, pushers[0].clone()).await;
    let (tell, mut came) = mpsc::channel(1);
    let mut newcomers = JoinSet::new();
    newcomers.spawn(come_and_go(everyone.clone(), tell));
    for number in 1..=ROUNDS {
        certificates.rotate(number);
        log.until(r#""changed":"tls_certificate_file, tls_key_file""#);
        shows(number).open().await.expect("the new certificate is shown");
        let error = shows(number - 1).open().await.unwrap_err();
        let told = format!("{error:?}");
        assert!(told.contains("InvalidCertificate"), "the old one is not: {told}");
        // One may have begun before.
        for _ in 0..2 {
            let came = tokio::time::timeout(PATIENCE, came.recv()).await.unwrap();
            came.expect("a newcomer was turned away");
        }
        load.change(pushers[number % 2].clone()).await;
    }
    drop(came);
    newcomers.join_all().await;
    load.finish().await;
}

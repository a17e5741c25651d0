//! What an idle registered connection costs: resident memory of the real binary, per connection.
//!
//! `cargo bench -p wserver --bench idle` starts the release binary, opens `CONNECTIONS` (10,000
//! unless the environment says otherwise), registers one event on each, answers two rounds of
//! heartbeats and prints the growth of the server's VmRSS per connection. What the kernel keeps
//! for a socket is not in VmRSS. With `-- --tls` all of it is behind TLS, with whole handshakes.

use std::error::Error;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use wserver_protocol::frame::{self, Fin, Opcode};
use wserver_protocol::{DecodeLimits, Decoder, Inbound, Register, Role};

/// A connection, plain or behind TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const HEARTBEATS: usize = 2;
/// Long enough that opening all connections fits into the first half of it.
const PING_INTERVAL: Duration = Duration::from_secs(8);
const PING_INTERVAL_TRIED: Duration = Duration::from_millis(200);
/// Handshakes under way at once.
const OPENING_MAX: usize = 64;
const LIMITS: DecodeLimits = DecodeLimits { message_bytes_max: 1024, fragments_max: 1 };

fn main() -> Result<()> {
    // `cargo test` runs benchmarks too, and says `--bench` only when it measures.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let connections = match std::env::var("CONNECTIONS") {
        Ok(count) => count.parse()?,
        Err(_) if is_measured => 10_000,
        Err(_) => 3,
    };
    let ping_interval = if is_measured { PING_INTERVAL } else { PING_INTERVAL_TRIED };
    rlimit::increase_nofile_limit(u64::MAX)?;
    let with_tls = std::env::args().any(|argument| argument == "--tls");
    let tries: &[bool] = if is_measured { &[with_tls] } else { &[false, true] };
    for &with_tls in tries {
        let tls = with_tls.then(Tls::new).transpose()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_wserver"));
        command
            .args(["--address", "127.0.0.1:0", "--log-format", "json", "--ping-interval"])
            .arg(format!("{}ms", ping_interval.as_millis()));
        if let Some(tls) = &tls {
            command.arg("--tls-certificate-file").arg(&tls.certificate_file);
            command.arg("--tls-key-file").arg(&tls.key_file);
        }
        let mut server = command.stderr(Stdio::piped()).spawn()?;
        let result = measure(&mut server, connections, tls.as_ref().map(|tls| tls.client.clone()));
        server.kill()?;
        server.wait()?;
        result?;
    }
    Ok(())
}

/// A certificate in files, gone with it, and a client that trusts it.
struct Tls {
    certificate_file: PathBuf,
    key_file: PathBuf,
    client: TlsConnector,
}

impl Tls {
    fn new() -> Result<Self> {
        let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let name = |what: &str| format!("idle-{}-{what}.pem", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (certificate_file, key_file) =
            (folder.join(name("certificate")), folder.join(name("key")));
        std::fs::write(&certificate_file, pair.cert.pem())?;
        std::fs::write(&key_file, pair.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(pair.cert.der().clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { certificate_file, key_file, client: TlsConnector::from(Arc::new(config)) })
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        for file in [&self.certificate_file, &self.key_file] {
            // What is not there need not go.
            drop(std::fs::remove_file(file));
        }
    }
}

fn measure(
    server: &mut std::process::Child,
    connections: usize,
    tls: Option<TlsConnector>,
) -> Result<()> {
    let mut log = BufReader::new(server.stderr.take().ok_or("no standard error")?);
    let address: SocketAddr = loop {
        let mut line = String::new();
        if log.read_line(&mut line)? == 0 {
            return Err("the server ended before it listened".into());
        }
        let event: serde_json::Value = serde_json::from_str(&line)?;
        if event["message"] == "listening" {
            break event["address"].as_str().ok_or("no address")?.parse()?;
        }
    };
    let pid = server.id();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async move {
        // One connection first, so that what is allocated once is not counted for each.
        drop(open(address, tls.clone(), 0).await?);
        let before = resident_bytes(pid)?;
        let mut sockets = Vec::with_capacity(connections);
        let mut opening = JoinSet::new();
        for number in 1..=connections {
            if opening.len() == OPENING_MAX {
                sockets.extend(opening.join_next().await.transpose()?.transpose()?);
            }
            opening.spawn(open(address, tls.clone(), number));
        }
        while let Some(socket) = opening.join_next().await {
            sockets.push(socket??);
        }
        let opened = resident_bytes(pid)?;
        let mut answering = JoinSet::new();
        for socket in sockets {
            answering.spawn(answer(socket));
        }
        let mut sockets = Vec::with_capacity(connections);
        while let Some(socket) = answering.join_next().await {
            sockets.push(socket??);
        }
        let idle = resident_bytes(pid)?;
        print_figures(connections, before, opened, idle);
        drop(sockets);
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
fn print_figures(connections: usize, before: u64, opened: u64, idle: u64) {
    let each = |after: u64| after.saturating_sub(before) / connections as u64;
    println!("connections                        {connections}");
    println!("VmRSS without connections          {before} B");
    println!("per connection, just registered    {} B", each(opened));
    println!("per connection, {HEARTBEATS} heartbeats later  {} B", each(idle));
}

async fn open(
    address: SocketAddr,
    tls: Option<TlsConnector>,
    number: usize,
) -> Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(address).await?;
    let mut stream: Box<dyn Stream> = match tls {
        Some(tls) => Box::new(tls.connect(address.ip().into(), stream).await?),
        None => Box::new(stream),
    };
    let handshake = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Origin: https://app.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
         Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n\r\n"
    );
    stream.write_all(handshake.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Err("closed during the handshake".into());
        }
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(String::from_utf8_lossy(&head).into_owned().into());
    }
    // 36 bytes, as a UUID has.
    let token = format!("user-{number:031}");
    let register = Register { token: token.as_str().into(), event: "notify".into() }.encode();
    stream.write_all(&frame::masked(Opcode::Text, register.as_bytes(), [1, 2, 3, 4])).await?;
    stream.flush().await?;
    Ok(stream)
}

/// Answers pings until there were enough.
async fn answer(mut stream: Box<dyn Stream>) -> Result<Box<dyn Stream>> {
    let mut decoder = Decoder::new(Role::Client);
    let mut buffer = [0; 256];
    let mut pings = 0;
    while pings < HEARTBEATS {
        let count = tokio::time::timeout(PING_INTERVAL * 3, stream.read(&mut buffer)).await??;
        if count == 0 {
            return Err("closed while idle".into());
        }
        let mut pongs = Vec::new();
        decoder
            .decode(&LIMITS, &mut buffer[..count], |inbound| {
                if let Inbound::Ping(payload) = inbound {
                    pings += 1;
                    frame::append(&mut pongs, Fin::Last, Opcode::Pong, Some([1, 2, 3, 4]), payload);
                }
                ControlFlow::Continue(())
            })
            .map_err(|error| error.to_string())?;
        stream.write_all(&pongs).await?;
        stream.flush().await?;
    }
    Ok(stream)
}

fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .ok_or_else(|| io::Error::other("no VmRSS"))?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}

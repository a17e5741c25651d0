//! The connection that publishes to one master: several calls at once, answered in order.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use wserver_cluster::{BrokerError, Channel, To};

use crate::Site;
use crate::address::{Address, Topology};
use crate::connection::{Connection, Reader, Writer};
use crate::failure;
use crate::first_failure::FirstFailure;
use crate::resp::{self, Reply};
use crate::shards::{self, Shard};

/// The most calls that wait to be written, and the most that wait for an answer. Further calls wait
/// outside.
const CALLS_MAX: usize = 32;

pub(crate) struct Publisher {
    pub(crate) at: Address,
    calls: mpsc::Sender<Call>,
}

/// Commands that belong together, and the caller that waits for their answers.
struct Call {
    output: Vec<u8>,
    waiter: Waiter,
}

struct Waiter {
    /// How many answers are outstanding.
    answers: usize,
    done: oneshot::Sender<()>,
}

/// Encodes commands that publish.
pub(crate) struct Encoder<'a> {
    site: &'a Site,
    output: Vec<u8>,
    commands: usize,
}

impl<'a> Encoder<'a> {
    pub(crate) const fn new(site: &'a Site) -> Self {
        Self { site, output: Vec::new(), commands: 0 }
    }

    pub(crate) fn add(&mut self, lane: u16, to: To, payload: &[u8]) {
        self.add_named(&Channel { lane, to }.name(&self.site.cluster), payload);
    }

    /// Adds a test message to a channel without subscribers, in the same slot and under the same
    /// ACL rules.
    fn add_trial(&mut self, lane: u16) {
        self.add_named(&format!("{}.{{{lane}}}.trial", self.site.cluster), b"");
    }

    fn add_named(&mut self, name: &str, payload: &[u8]) {
        let command = command(self.site).as_bytes();
        // This includes the lengths and line ends, so that the buffer grows only once for a large
        // payload.
        self.output.reserve(command.len() + name.len() + payload.len() + 64);
        resp::encode(&mut self.output, &[command, name.as_bytes(), payload]);
        self.commands += 1;
    }
}

fn command(site: &Site) -> &'static str {
    match site.deployment.topology {
        Topology::Standalone | Topology::Sentinel { .. } => "PUBLISH",
        Topology::Cluster => "SPUBLISH",
    }
}

/// Connects, and tests whether it may publish on the shard's lanes.
pub(crate) async fn connect(site: &Site, shard: &Shard) -> Result<Connection, BrokerError> {
    let (mut connection, greeting) = Connection::open(site, &shard.master).await?;
    shards::check_master(site, &shard.master, &greeting)?;
    let mut encoder = Encoder::new(site);
    shard.lanes.iter().for_each(|&lane| encoder.add_trial(lane));
    connection.writer.send(&encoder.output).await?;
    for _ in 0..encoder.commands {
        let reply = connection.reader.next().await?;
        check(site, &shard.master, &reply)?;
    }
    Ok(connection)
}

impl Publisher {
    /// Starts the tasks of a connection in `tasks`.
    pub(crate) fn start(
        site: &Arc<Site>,
        connection: Connection,
        tasks: &mut JoinSet<()>,
        failure: &FirstFailure,
    ) -> Self {
        let Connection { reader, writer } = connection;
        let at = reader.at.clone();
        let (calls, called) = mpsc::channel(CALLS_MAX);
        let (waiters, waiting) = mpsc::channel(CALLS_MAX);
        let (site, broken) = (Arc::clone(site), failure.clone());
        tasks.spawn(async move { broken.fail(read(&site, reader, waiting).await) });
        let broken = failure.clone();
        tasks.spawn(async move {
            if let Err(error) = write(writer, called, waiters).await {
                broken.fail(error);
            }
        });
        Self { at, calls }
    }

    /// Sends commands and waits for their answers. `None` means that the link is broken, and has
    /// the reason.
    pub(crate) async fn publish(&self, encoder: Encoder<'_>) -> Option<()> {
        let (done, answered) = oneshot::channel();
        let Encoder { output, commands: answers, .. } = encoder;
        let waiter = Waiter { answers, done };
        self.calls.send(Call { output, waiter }).await.ok()?;
        answered.await.ok()
    }
}

async fn write(
    mut writer: Writer,
    mut called: mpsc::Receiver<Call>,
    waiters: mpsc::Sender<Waiter>,
) -> Result<(), BrokerError> {
    while let Some(Call { output, waiter }) = called.recv().await {
        // Registered before the commands are written, so that every answer finds its caller.
        if waiters.send(waiter).await.is_err() {
            break;
        }
        writer.send(&output).await?;
    }
    Ok(())
}

/// Reads even if no caller waits, and so notices when the server closes the connection.
async fn read(site: &Site, mut reader: Reader, mut waiting: mpsc::Receiver<Waiter>) -> BrokerError {
    let mut current: Option<Waiter> = None;
    loop {
        let checked = match reader.next().await {
            Ok(reply) => check(site, &reader.at, &reply),
            Err(error) => Err(error),
        };
        if let Err(error) = checked {
            return error;
        }
        let Some(mut waiter) = current.take().or_else(|| waiting.try_recv().ok()) else {
            return failure::no_redis(&reader.at);
        };
        waiter.answers -= 1;
        if waiter.answers > 0 {
            current = Some(waiter);
        } else {
            // The caller may have gone meanwhile.
            let _ = waiter.done.send(());
        }
    }
}

/// Checks the answer to a command that publishes, which is the number of receivers.
fn check(site: &Site, at: &Address, reply: &Reply) -> Result<(), BrokerError> {
    match reply {
        Reply::Integer(_) => Ok(()),
        Reply::Error(answer) => Err(failure::answered(site, at, command(site), answer)),
        _ => Err(failure::no_redis(at)),
    }
}

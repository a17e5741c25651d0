//! The network between one node and its broker, which can be cut and can swallow what it is given.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::line::Line;
use super::stage;
use crate::harness::Server;

/// What a slow network takes, each way.
const SLOW: Duration = Duration::from_millis(700);

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Connections stay, and nothing comes through; what is held up comes when the way is open again,
    /// as TCP has it.
    Silent,
    /// The same of what comes to the node alone.
    Deaf,
    /// The same of what the node sends alone.
    Mute,
    /// Everything takes 700 ms each way.
    Slow,
    /// Everything takes up to 700 ms each way, another time each time.
    Jittery,
    /// Connections end, and none is let in.
    Cut,
}

/// A port that leads to another one.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    /// What it is when it is cut.
    cutting: Way,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Written by the test; all connections are ended when it is cut.
    state: Mutex<(Way, Vec<TcpStream>)>,
    changed: Condvar,
}

impl Proxy {
    /// To this port of this machine, to be cut in this way. It lasts as long as the process of the tests.
    pub(crate) fn to(port: u16, cutting: Way) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Mutex::new((Way::Open, Vec::new()));
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                of_thread.connect(&near, &far);
            }
        });
        Self { address, cutting, shared }
    }

    /// The port that leads there.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on.
    pub(crate) fn set(&self, way: Way) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = way;
        if way == Way::Cut {
            for stream in state.1.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
    }
}

impl Line for Proxy {
    fn node(&self, name: &str, flags: &[&str]) -> Server {
        stage::node(&format!("redis://{}", self.address), name, flags)
    }

    fn cut(&self) {
        self.set(self.cutting);
    }

    fn mend(&self) {
        self.set(Way::Open);
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, near: &TcpStream, far: &TcpStream) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 == Way::Cut {
            let _ = near.shutdown(Shutdown::Both);
            return;
        }
        for (from, to, held) in [(near, far, Way::Mute), (far, near, Way::Deaf)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let _ = to.set_nodelay(true);
            state.1.push(from.try_clone().unwrap());
            let shared = Arc::clone(self);
            thread::spawn(move || shared.carry(from, &to, held));
        }
    }

    /// `held` is what holds this direction up, beside what holds up both.
    fn carry(&self, mut from: TcpStream, to: &TcpStream, held: Way) {
        let mut bytes = vec![0; 64 * 1024];
        // Beyond so many pieces the network is full.
        let (pieces, delayed) = mpsc::sync_channel::<(Instant, Vec<u8>)>(10_000);
        let mut far = to.try_clone().unwrap();
        let writer = thread::spawn(move || {
            for (at, piece) in delayed {
                while Instant::now() < at {
                    thread::park_timeout(at.saturating_duration_since(Instant::now()));
                }
                if far.write_all(&piece).is_err() {
                    break;
                }
            }
        });
        let mut pseudo_random = 1_u32;
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let held = |(way, _): &mut (Way, _)| *way == Way::Silent || *way == held;
            let state =
                self.changed.wait_while(state, held).unwrap_or_else(PoisonError::into_inner);
            let way = state.0;
            drop(state);
            pseudo_random = pseudo_random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let delay = match way {
                Way::Slow => SLOW,
                Way::Jittery => SLOW.mul_f64(f64::from(pseudo_random) / f64::from(u32::MAX)),
                _ => Duration::ZERO,
            };
            if pieces.send((Instant::now() + delay, bytes[..count].to_vec())).is_err() {
                break;
            }
        }
        drop(pieces);
        let _ = writer.join();
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

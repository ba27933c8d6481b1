//! A network of the test's own between a relay and a member: every byte passes here, and it can be stalled or cut.
//!
//! It looks at no byte.

use super::wait::within;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// Nothing passes, and nobody is told.
    is_stalled: bool,
    /// No connection begins.
    is_cut: bool,
    /// Connections from before the last cut end, however short it was.
    cuts: u64,
}

/// A network with one server on it.
#[derive(Debug)]
pub(crate) struct Wire {
    endpoint: String,
    /// Where connections lead to from now on.
    server: Arc<Mutex<String>>,
    way: watch::Sender<Way>,
    bytes_down: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Wire {
    /// A network in good order.
    pub(crate) async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = listener.local_addr().expect("a bound port").to_string();
        let (way, of_connections) = watch::channel(Way::default());
        let bytes_down = Arc::new(AtomicU64::new(0));
        let server = Arc::new(Mutex::new(server.to_owned()));
        let (leads_to, down) = (Arc::clone(&server), Arc::clone(&bytes_down));
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let now = *of_connections.borrow();
                if now.is_cut {
                    continue;
                }
                let way = Passage {
                    way: of_connections.clone(),
                    cuts: now.cuts,
                };
                let server = leads_to.lock().expect("nobody panics there").clone();
                tokio::spawn(connect(near, server, way, Arc::clone(&down)));
            }
        });
        Self {
            endpoint,
            server,
            way,
            bytes_down,
            accepting,
        }
    }

    /// Where the server can be reached through it.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Another server takes the place of the one that was there: connections from before are to be cut.
    pub(crate) fn lead_to(&self, server: &str) {
        server.clone_into(&mut self.server.lock().expect("nobody panics there"));
    }

    /// Everything passes.
    pub(crate) fn open(&self) {
        self.way.send_modify(|way| {
            way.is_stalled = false;
            way.is_cut = false;
        });
    }

    /// Nothing passes, and nobody is told.
    pub(crate) fn stall(&self) {
        self.way.send_modify(|way| way.is_stalled = true);
    }

    /// Connections end, and no new one begins.
    pub(crate) fn cut(&self) {
        self.way.send_modify(|way| {
            way.is_cut = true;
            way.cuts += 1;
        });
    }

    /// What has come from the server so far.
    pub(crate) fn bytes_down(&self) -> u64 {
        self.bytes_down.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

/// The way of one connection.
#[derive(Clone, Debug)]
struct Passage {
    way: watch::Receiver<Way>,
    /// As many as there had been when it began.
    cuts: u64,
}

impl Passage {
    /// Waits until the connection is cut.
    async fn is_cut(&mut self) {
        let cuts = self.cuts;
        // An error says that nobody cuts it any more, and that the test is over.
        let _ = self.way.wait_for(|way| way.cuts != cuts).await;
    }

    /// Waits until something passes; false when nothing ever will.
    async fn is_open(&mut self) -> bool {
        let cuts = self.cuts;
        let decided = |way: &Way| way.cuts != cuts || !way.is_stalled;
        let decided = self.way.wait_for(decided).await;
        decided.is_ok_and(|way| way.cuts == cuts)
    }
}

async fn connect(near: TcpStream, server: String, way: Passage, bytes_down: Arc<AtomicU64>) {
    let Ok(far) = within("a connection to the server", TcpStream::connect(server)).await else {
        return;
    };
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    let bytes_up = Arc::default();
    tokio::select! {
        () = carry(from_near, to_far, way.clone(), bytes_up) => {}
        () = carry(from_far, to_near, way, bytes_down) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: Passage,
    count: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let passed = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(1..) => read,
                _ => return,
            },
            () = way.is_cut() => return,
        };
        let passed = passed.unwrap_or_default();
        if !way.is_open().await {
            return;
        }
        count.fetch_add(passed as u64, Ordering::SeqCst);
        tokio::select! {
            written = to.write_all(&buffer[..passed]) => if written.is_err() { return },
            () = way.is_cut() => return,
        }
    }
}

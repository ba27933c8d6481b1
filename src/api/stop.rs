//! The word that the server is stopping, from the one who decides it to everyone who serves a connection.
//!
//! It is said once and never taken back.

use tokio::sync::watch;

/// Says the word. Dropping it says it too, so that nobody waits for a server that is gone.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// Hears the word.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Receiver<bool>);

impl Stop {
    /// A server that runs, and what tells of its stopping.
    pub fn new() -> (Self, StopSignal) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), StopSignal(receiver))
    }

    /// The server is stopping.
    pub fn say(&self) {
        self.0.send_replace(true);
    }
}

impl StopSignal {
    /// Returns when the server is stopping.
    pub async fn stopped(&mut self) {
        // An error says that the sender is gone, which is the same word.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

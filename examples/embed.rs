//! The engine inside an actix application: one of its own actors watches a prefix, from the past and on.
//!
//! `cargo run --example embed`

#![allow(clippy::print_stdout, reason = "an example shows what it sees")]

use actix::prelude::*;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use vigil::{Engine, EngineConfig, KeyRange, Revision, ToWatcher, WatchSpec};

/// An actor of the application's own. Its mailbox is its bound: when it is full, the engine waits for it alone.
struct Printer {
    seen: UnboundedSender<String>,
}

impl Actor for Printer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(4);
    }
}

impl Handler<ToWatcher> for Printer {
    type Result = ();

    fn handle(&mut self, message: ToWatcher, _ctx: &mut Self::Context) {
        if let ToWatcher::Events(delivery) = message {
            for event in delivery.batch.events() {
                let (key, value) = (
                    String::from_utf8_lossy(&event.kv.key),
                    String::from_utf8_lossy(&event.kv.value),
                );
                let line = format!("{} {:?} {key} = {value}", event.kv.mod_revision, event.kind);
                // The receiver lives as long as main does.
                let _ = self.seen.send(line);
            }
        }
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("vigil-embed-{}", std::process::id()));
    let engine = Engine::start(EngineConfig::new(&dir)).await?;
    engine.put("lamp/kitchen", "on").await?;

    let (seen, mut lines) = unbounded_channel();
    let printer = Printer { seen }.start();
    let spec = WatchSpec::new(KeyRange::prefix("lamp/"), Some(Revision(2)));
    let watch = engine.watch(spec, printer.recipient()).await?;
    engine.put("lamp/hall", "off").await?;

    for line in [lines.recv().await, lines.recv().await]
        .into_iter()
        .flatten()
    {
        println!("{line}");
    }
    drop(watch);
    engine.stop().await?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

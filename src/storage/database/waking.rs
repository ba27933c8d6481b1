//! Keeps a wait in the engine from lasting for ever.
//!
//! sled notes the error of a write and wakes whoever waits for it, but not if the write was begun by the last one who had a
//! place in its buffer, as at the end of each batch: a flush that waits by then is woken by nothing that sled still does. So
//! it is woken from here, and finds the error. This never ends a wait for a disk that is only slow.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Between two looks whether what is waited for has failed, in milliseconds.
const LOOK_MS: u64 = 20;

/// Waits, and now and then meanwhile has whoever waits in vain woken.
pub(super) fn wake_meanwhile<T>(wake: impl Fn() + Send, wait: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        // It goes with this closure, by a panic too.
        let (_waiting, is_over) = channel::<()>();
        let look = move || {
            let pause = Duration::from_millis(LOOK_MS);
            while is_over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                wake();
            }
        };
        let looking = thread::Builder::new()
            .name("vigil-wake".to_owned())
            .spawn_scoped(scope, look);
        if let Err(error) = looking {
            log::warn!("if the disk fails now, the engine may wait for ever: {error}");
        }
        wait()
    })
}

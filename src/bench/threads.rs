//! The generator's threads: each has a runtime of its own, and its connections live and die on it.
//!
//! They meet at barriers and in counters, never in a lock.

use super::BenchError;
use std::future::Future;
use std::thread;
use tokio::runtime;
use tokio::task::LocalSet;

/// Runs the work of each thread to its end; the first error is everybody's.
pub(super) fn on_threads<T, F, Fut>(threads: usize, work: F) -> Result<Vec<T>, BenchError>
where
    T: Send,
    F: Fn(usize) -> Fut + Sync,
    Fut: Future<Output = Result<T, BenchError>>,
{
    let work = &work;
    thread::scope(|scope| {
        let mut running = Vec::new();
        for number in 0..threads {
            let thread = thread::Builder::new()
                .name(format!("bench-{number}"))
                .spawn_scoped(scope, move || {
                    let runtime = runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .map_err(BenchError::Thread)?;
                    LocalSet::new().block_on(&runtime, work(number))
                })
                .map_err(BenchError::Thread)?;
            running.push(thread);
        }
        let joined = running.into_iter().map(|thread| {
            let panicked = |_| Err(BenchError::wrong("a thread of the generator panicked"));
            thread.join().unwrap_or_else(panicked)
        });
        joined.collect()
    })
}

/// Which of `count` things belong to a thread, dealt out in turn.
pub(super) fn share(count: usize, threads: usize, thread: usize) -> impl Iterator<Item = usize> {
    (thread..count).step_by(threads.max(1))
}

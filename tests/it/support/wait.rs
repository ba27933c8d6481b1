//! Waiting with a deadline.
//!
//! The only place of the tests that sleeps; a wait that fails says what was waited for and what was seen last.

use std::fmt::Display;
use std::time::Duration;

/// How long anything may take before it counts as never. Generous: it bounds failures, it does not measure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(25);

/// Between two looks at a state.
const POLL: Duration = Duration::from_millis(10);

/// Awaits `future`; fails at the deadline.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

/// Looks again and again until `look` is content; fails at the deadline with what it said last.
pub(crate) async fn eventually<T, E: Display>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let mut last = String::from("nothing was seen");
    let looking = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(state) => last = state.to_string(),
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, looking).await;
    found.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}; last: {last}"))
}

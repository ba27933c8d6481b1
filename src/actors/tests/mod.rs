//! Tests of the actors together: the engine on one arbiter under tokio's paused clock, so that every interleaving is
//! the test's own choice. Test names begin with the number of the rule they hold.

mod auto_compaction;
mod commits;
mod deaths;
mod known_bugs;
mod late;
mod leases;
mod progress;
mod races;
mod simulation;
mod store;
mod streams;
mod support;
mod upkeep;
mod victims;

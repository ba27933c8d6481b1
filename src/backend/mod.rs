//! What stands behind the edge: one trait, and the engine as its local implementation.
//!
//! Nothing here knows a protocol; nothing in `api` knows which backend it has.

//! The store on disk: blocking, single-writer, and the only room that knows bytes on disk.
//!
//! It never knows an actor, a socket or a future: what cannot be answered at once is answered through a callback.

//! The shape rules of a write, checked before the store sees it.
//!
//! Nothing here looks at what is stored.

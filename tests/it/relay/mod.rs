//! A relay before real etcds: every call but Watch is answered as the cluster answers it.
//!
//! What the answers mean is asked elsewhere, of etcd and of Vigil; here they only have to be the same.

mod failures;
mod operations;
mod raw;
mod same_answers;
mod slow;

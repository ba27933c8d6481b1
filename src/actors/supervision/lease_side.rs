//! Where Lease lives, so that it can be found, and started again when it dies.
//!
//! It handles no lease itself.

use super::Shared;
use crate::actors::lease::Lease;
use crate::actors::permits::Permits;
use crate::actors::protocol::{Apply, Retire};
use crate::storage::ReadView;
use actix::WeakRecipient;
use actix::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The place of Lease.
#[derive(Debug)]
pub(crate) struct LeaseSide {
    /// Its arbiter; `None` is the one of whoever started the engine.
    arbiter: Option<ArbiterHandle>,
    store: WeakRecipient<Apply>,
    /// Where a Lease finds what was granted before it started.
    view: ReadView,
    permits: Permits,
    address: Mutex<Option<Addr<Lease>>>,
}

impl LeaseSide {
    /// A place where nobody lives yet.
    pub(crate) fn new(
        arbiter: Option<ArbiterHandle>,
        (store, view): (WeakRecipient<Apply>, ReadView),
        permits: Permits,
    ) -> Self {
        Self {
            arbiter,
            store,
            view,
            permits,
            address: Mutex::new(None),
        }
    }

    /// Starts a Lease in place of the one before. What Store tells from now on it is told; what was told before lies in the
    /// store, where it looks when it has started.
    pub(crate) fn start(&self, shared: &Arc<Shared>) {
        let shared = Arc::clone(shared);
        let store = (self.store.clone(), self.view.clone());
        let permits = self.permits.clone();
        let lease = move || Lease::new(&shared, store, permits);
        let address = match &self.arbiter {
            Some(arbiter) => Lease::start_in_arbiter(arbiter, |_| lease()),
            None => lease().start(),
        };
        *self.slot() = Some(address);
    }

    /// Its address; nothing when the engine has stopped.
    pub(crate) fn address(&self) -> Option<Addr<Lease>> {
        self.slot().clone()
    }

    /// Ends Lease for good.
    pub(crate) fn stop(&self) {
        if let Some(lease) = self.slot().take() {
            lease.do_send(Retire);
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Addr<Lease>>> {
        // An address is never half written.
        self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

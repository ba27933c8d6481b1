//! Readers of what relays have in memory: of now, and of whatever revision a relay has.

use super::{Load, range};
use crate::validator::answers::single;
use crate::validator::record::{Outcome, Request};

/// Of so many reads one may be of an older revision.
const OLD_ONE_IN: u64 = 3;

fn read(number: u64) -> Request {
    let (range, limit) = match number % 5 {
        1 => (single(format!("k{}", number % 7)), 0),
        2 => (range("k1", "k3"), 0),
        3 => (range("k", "l"), 3),
        _ => (range("k", "l"), 0),
    };
    Request::Range {
        range,
        revision: 0,
        limit,
        keys_only: false,
        count_only: number % 5 == 4,
    }
}

impl Load {
    /// Reads as long as there are permits.
    pub(in super::super) async fn read(&self, reader: u64) {
        let mut client = self.connect(true).await;
        for number in reader.. {
            let Ok(permit) = self.reads.acquire().await else {
                return;
            };
            permit.forget();
            let mut request = read(number);
            if number.is_multiple_of(OLD_ONE_IN) {
                let read = Box::new(request);
                request = Request::Stale { read };
            }
            let outcome = self.recorder.call(&client, request).await;
            if matches!(outcome, Outcome::Unknown { .. }) {
                client = self.connect(true).await;
            }
        }
    }
}

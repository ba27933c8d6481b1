//! The nursery by itself: who runs, who waits, and how they end.

use super::*;
use crate::actors::slim_context::SlimContext;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::yield_now;

/// What a test's actors have done.
#[derive(Default)]
struct Seen {
    handled: Mutex<Vec<u32>>,
    stopped: AtomicUsize,
    door: Notify,
}

impl Seen {
    fn handled(&self) -> Vec<u32> {
        self.handled.lock().unwrap().clone()
    }

    fn stopped(&self) -> usize {
        self.stopped.load(Ordering::SeqCst)
    }
}

struct Child {
    number: u32,
    seen: Arc<Seen>,
}

impl Actor for Child {
    type Context = SlimContext<Self>;

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        self.seen.stopped.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy, Message, PartialEq)]
#[rtype(result = "()")]
enum Tell {
    Note,
    /// Twice, so that one wait comes behind another.
    WaitAtTheDoor,
    Stop,
    Panic,
}

impl Handler<Tell> for Child {
    type Result = ();

    fn handle(&mut self, tell: Tell, ctx: &mut Self::Context) {
        match tell {
            Tell::Note => self.seen.handled.lock().unwrap().push(self.number),
            Tell::WaitAtTheDoor => {
                for _ in 0..2 {
                    let seen = Arc::clone(&self.seen);
                    ctx.wait(async move { seen.door.notified().await }.into_actor(self));
                }
            }
            Tell::Stop => ctx.stop(),
            Tell::Panic => panic!("on purpose"),
        }
    }
}

/// A nursery of so many children, which have all started.
async fn children(count: u32, mailbox_messages_max: usize) -> (Arc<Seen>, Vec<Addr<Child>>) {
    let (seen, nursery) = (Arc::new(Seen::default()), Nursery::open());
    let start = |number| {
        let seen = Arc::clone(&seen);
        nursery.start(Child { number, seen }, mailbox_messages_max)
    };
    let addresses = (0..count).map(start).collect();
    settle().await;
    (seen, addresses)
}

/// Long enough for everything that can run.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

#[actix::test]
async fn those_that_were_woken_run_in_that_order_and_nobody_else() {
    let (seen, addresses) = children(5, 4).await;
    for number in [3, 1, 4, 1] {
        addresses[number].do_send(Tell::Note);
    }
    settle().await;
    assert_eq!(seen.handled(), [3, 1, 1, 4]);
}

#[actix::test]
async fn b3_a_crowd_that_is_woken_together_gives_the_thread_back_in_between() {
    let crowd = u32::try_from(TURN_ACTORS_MAX).unwrap() * 3;
    let (seen, addresses) = children(crowd, 4).await;
    let between = Rc::new(RefCell::new(Vec::new()));
    let (noted, watched) = (Rc::clone(&between), Arc::clone(&seen));
    let watching = actix::spawn(async move {
        while watched.handled().len() < crowd as usize {
            noted.borrow_mut().push(watched.handled().len());
            yield_now().await;
        }
    });
    for address in &addresses {
        address.do_send(Tell::Note);
    }
    watching.await.unwrap();
    assert!(between.borrow().contains(&TURN_ACTORS_MAX));
    assert_eq!(seen.handled(), (0..crowd).collect::<Vec<_>>());
}

#[actix::test]
async fn v1_one_that_waits_keeps_its_mailbox_full_and_the_others_go_on() {
    let (seen, addresses) = children(2, 1).await;
    addresses[0].do_send(Tell::WaitAtTheDoor);
    settle().await;
    assert!(addresses[0].try_send(Tell::Note).is_ok());
    assert!(addresses[0].try_send(Tell::Note).is_err());
    addresses[1].do_send(Tell::Note);
    settle().await;
    assert_eq!(seen.handled(), [1]);
    seen.door.notify_one();
    settle().await;
    assert_eq!(seen.handled(), [1], "it waits a second time");
    seen.door.notify_one();
    settle().await;
    assert_eq!(seen.handled(), [1, 0]);
}

#[actix::test]
async fn a_place_is_used_again_and_a_late_wake_of_its_last_owner_harms_nobody() {
    let (seen, nursery) = (Arc::new(Seen::default()), Nursery::open());
    let start = |number| {
        let seen = Arc::clone(&seen);
        nursery.start(Child { number, seen }, 4)
    };
    let first = start(0);
    first.do_send(Tell::WaitAtTheDoor);
    settle().await;
    let waker = {
        let turn = nursery.shared.turn();
        assert!(turn.woken.is_empty());
        Waker::from(Arc::new(Nudge {
            shared: Arc::clone(&nursery.shared),
            place: 0,
            woken: AtomicBool::new(false),
        }))
    };
    seen.door.notify_one();
    settle().await;
    seen.door.notify_one();
    first.do_send(Tell::Stop);
    settle().await;
    assert_eq!(seen.stopped(), 1);
    assert!(!first.connected());
    waker.wake_by_ref();
    let second = start(1);
    settle().await;
    waker.wake_by_ref();
    second.do_send(Tell::Note);
    settle().await;
    assert_eq!(seen.handled(), [1]);
}

#[actix::test]
async fn it_ends_when_nobody_can_come_and_the_last_has_gone() {
    let (seen, nursery) = (Arc::new(Seen::default()), Nursery::open());
    let shared = Arc::downgrade(&nursery.shared);
    let child = Child {
        number: 0,
        seen: Arc::clone(&seen),
    };
    let address = nursery.start(child, 4);
    drop(nursery);
    address.do_send(Tell::Note);
    settle().await;
    assert_eq!(seen.handled(), [0]);
    assert!(shared.upgrade().is_some());
    drop(address);
    settle().await;
    assert_eq!(seen.stopped(), 1);
    assert!(shared.upgrade().is_none(), "the task is gone too");
}

#[actix::test]
async fn p6_when_one_panics_all_end_and_each_is_told() {
    let (seen, addresses) = children(3, 4).await;
    addresses[1].do_send(Tell::Panic);
    addresses[2].do_send(Tell::Note);
    settle().await;
    assert_eq!(seen.stopped(), 3);
    assert!(addresses.iter().all(|address| !address.connected()));
    assert_eq!(seen.handled(), Vec::<u32>::new());
}

/// A cancellation of such a watch was never answered.
#[actix::test]
async fn p6_who_comes_after_a_panic_is_known_to_be_gone() {
    let (seen, nursery) = (Arc::new(Seen::default()), Nursery::open());
    let start = |number| {
        let seen = Arc::clone(&seen);
        nursery.start(Child { number, seen }, 4)
    };
    let first = start(0);
    settle().await;
    first.do_send(Tell::Panic);
    // It arrives before the panic, and would have started after it.
    let second = start(1);
    settle().await;
    for gone in [second, start(2)] {
        assert!(!gone.connected());
        let answer = tokio::time::timeout(Duration::from_secs(1), gone.send(Tell::Note));
        assert_eq!(answer.await, Ok(Err(MailboxError::Closed)));
    }
    assert_eq!(seen.handled(), Vec::<u32>::new());
}

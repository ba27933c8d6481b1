//! Command lines that go on until they are stopped: both servers get the same writes meanwhile, and the same is printed.
//!
//! Each waits for a number of lines, never for a time.

use super::both::{Both, Side};
use crate::support::tool::Running;
use crate::support::{Http, eventually};

/// Watches, and how many lines each has printed when all has been written. Where the revision of a response is printed,
/// there is one response only: how many revisions are in one is up to the server.
const WATCHES: [(&str, usize); 11] = [
    ("watch a", 18),
    ("watch a --prev-kv", 26),
    ("watch a c --rev=3", 33),
    ("watch a --prefix --rev=1", 27),
    ("watch '' --prefix --rev=10 --prev-kv -w json", 1),
    ("watch b --rev=9 --progress-notify -w fields", 11),
    ("watch a -- echo told", 24),
    ("watch --rev=10 a b -- sh -c 'echo $ETCD_WATCH_REVISION'", 8),
    ("watch -i << watch a --rev=2\\n", 18),
    (
        "watch --interactive << watch a --prev-kv -- echo told\\n",
        32,
    ),
    ("watch nobody", 0),
];

const TYPED: &str = "watch -i << watch p\\n";
const LOCK: &str = "lock door --ttl=60";
const ELECT: &str = "elect race me";
const ELECT_TOO: &str = "elect race you";
const LISTEN: &str = "elect --listen race";
const KEEP_ALIVE: &str = "lease keep-alive {lease}";
const MIRROR: &str = "make-mirror {there} --prefix=from/ --dest-prefix=to/";
const MIRROR_BARE: &str = "make-mirror {there} --prefix=from/ --no-dest-prefix";
const SCALE: &str = "check datascale --load=s --prefix=/scale/ --auto-compact";

/// What a watch prints of `put p 1`.
const PUT_OF_P: &str = "PUT\np\n1\n";

/// All lines of this file, for those who look for what is missing.
pub(super) const STARTED: [&str; 20] = [
    WATCHES[0].0,
    WATCHES[1].0,
    WATCHES[2].0,
    WATCHES[3].0,
    WATCHES[4].0,
    WATCHES[5].0,
    WATCHES[6].0,
    WATCHES[7].0,
    WATCHES[8].0,
    WATCHES[9].0,
    WATCHES[10].0,
    TYPED,
    LOCK,
    ELECT,
    ELECT_TOO,
    LISTEN,
    KEEP_ALIVE,
    MIRROR,
    MIRROR_BARE,
    SCALE,
];

/// A line that runs on both servers.
#[derive(Debug)]
struct OnBoth {
    line: &'static str,
    etcd: Running,
    vigil: Running,
}

impl OnBoth {
    fn start(both: &Both, line: &'static str) -> Self {
        let (args, typed) = line.split_once(" << ").unwrap_or((line, ""));
        let typed = typed.replace("\\n", "\n");
        let start = |side: &Side| Running::start_typing(side.command(args), &typed);
        Self {
            line,
            etcd: start(&both.etcd),
            vigil: start(&both.vigil),
        }
    }

    /// Waits until each has printed so many lines, and compares them.
    async fn prints(&self, both: &Both, lines: usize) {
        let told = async |side: &Side, running: &Running| {
            let lines = match lines {
                0 => Vec::new(),
                lines => running.lines(lines).await,
            };
            side.told(self.line, &(lines.join("\n") + "\n"))
        };
        let etcd = told(&both.etcd, &self.etcd).await;
        let vigil = told(&both.vigil, &self.vigil).await;
        assert_eq!(vigil, etcd, "{}: ours, and etcd's", self.line);
    }

    /// The same for a watch of which etcd's side, once in some hundred runs, has told a put twice: that is not held against
    /// it, and ours may not.
    async fn prints_each_put_once(&self, both: &Both, lines: usize, put: &str) {
        eventually("both print the same", async || {
            let of = async |side: &Side, running: &Running| {
                let lines = running.lines(lines).await;
                side.told(self.line, &(lines.join("\n") + "\n"))
            };
            let vigil = of(&both.vigil, &self.vigil).await;
            let etcd = of(&both.etcd, &self.etcd).await;
            if etcd.replace(&put.repeat(2), put) == vigil {
                Ok(())
            } else {
                Err(format!("ours {vigil:?}, and etcd's {etcd:?}"))
            }
        })
        .await;
    }

    fn type_in(&mut self, text: &str) {
        self.etcd.type_in(text);
        self.vigil.type_in(text);
    }

    /// Stops both, and compares all that they have printed and how they ended.
    async fn stop(mut self, both: &Both) -> String {
        self.etcd.interrupt();
        self.vigil.interrupt();
        self.end(both).await
    }

    async fn end(&mut self, both: &Both) -> String {
        let told = async |side: &Side, running: &mut Running| {
            let said = running.end().await;
            let out = side.told(self.line, &said.out);
            format!("{} {out}{}", said.success, side.told(self.line, &said.err))
        };
        let etcd = told(&both.etcd, &mut self.etcd).await;
        let vigil = told(&both.vigil, &mut self.vigil).await;
        assert_eq!(vigil, etcd, "{}: ours, and etcd's", self.line);
        vigil
    }
}

/// Waits until each server has so many watches.
async fn watched(both: &Both, watches: usize) {
    for side in [&both.etcd, &both.vigil] {
        let http = Http::to(side.peer());
        let expected = format!("etcd_debugging_mvcc_watcher_total {watches}");
        eventually(&expected, async || {
            let metrics = http.get("/metrics").await.text;
            let mut lines = metrics.lines();
            let line = lines.find(|line| line.starts_with("etcd_debugging_mvcc_watcher_total"));
            match line {
                Some(line) if line == expected => Ok(()),
                line => Err(format!("{line:?}")),
            }
        })
        .await;
    }
}

/// Reads until both have printed this.
async fn reads(both: &mut Both, line: &str, expected: &str) {
    eventually(line, async || {
        let (etcd, vigil) = both.say(line);
        if etcd == expected && vigil == expected {
            Ok(())
        } else {
            Err(format!("etcd: {etcd}Vigil: {vigil}"))
        }
    })
    .await;
}

#[tokio::test]
async fn watches_print_what_they_print_of_etcd() {
    let mut both = Both::start().await;
    let mut running = Vec::new();
    for (line, _) in WATCHES {
        running.push(OnBoth::start(&both, line));
    }
    watched(&both, WATCHES.len()).await;
    let writes = "
put a 1
put a 2
put ab 1
put b 1
del a
txn << \\nput a 3\\nput ab 2\\ndel b\\n\\n\\n
put a 4
put b 2
del a --prefix
";
    both.compare(writes, &[]);
    for (running, (_, lines)) in running.into_iter().zip(WATCHES) {
        running.prints(&both, lines).await;
        running.stop(&both).await;
    }
}

#[tokio::test]
async fn watches_are_typed_one_after_the_other() {
    let mut both = Both::start().await;
    let mut typed = OnBoth::start(&both, TYPED);
    watched(&both, 1).await;
    both.compare("put p 1", &[]);
    typed.prints_each_put_once(&both, 3, PUT_OF_P).await;
    typed.type_in("progress\n");
    typed.prints_each_put_once(&both, 4, PUT_OF_P).await;
    typed.type_in("nonsense\nwatch q --rev=1\n");
    both.compare("put q 1", &[]);
    typed.prints_each_put_once(&both, 7, PUT_OF_P).await;
}

#[tokio::test]
async fn a_lock_and_an_election_are_handed_on_as_with_etcd() {
    let mut both = Both::start().await;
    let first = OnBoth::start(&both, LOCK);
    first.prints(&both, 1).await;
    let second = OnBoth::start(&both, LOCK);
    let leads = OnBoth::start(&both, ELECT);
    leads.prints(&both, 2).await;
    let waits = OnBoth::start(&both, ELECT_TOO);
    reads(
        &mut both,
        "get door/ --prefix --print-value-only",
        "0\n\n\n",
    )
    .await;
    let line = "get race/ --prefix --print-value-only --sort-by=CREATE --order=ASCEND";
    reads(&mut both, line, "0\nme\nyou\n").await;
    let listens = OnBoth::start(&both, LISTEN);
    listens.prints(&both, 2).await;
    assert!(first.stop(&both).await.starts_with("true"));
    second.prints(&both, 1).await;
    leads.stop(&both).await;
    waits.prints(&both, 2).await;
    listens.prints(&both, 4).await;
    second.stop(&both).await;
    waits.stop(&both).await;
    listens.stop(&both).await;
    reads(&mut both, "get '' --prefix", "0\n").await;
}

#[tokio::test]
async fn a_lease_is_kept_alive_until_it_is_revoked() {
    let mut both = Both::start().await;
    both.compare("lease grant 2", &[]);
    let mut kept = OnBoth::start(&both, KEEP_ALIVE);
    kept.prints(&both, 2).await;
    both.compare("lease revoke {lease}", &[]);
    let mut ends = Vec::new();
    for (side, running) in [(&both.etcd, &mut kept.etcd), (&both.vigil, &mut kept.vigil)] {
        let said = running.end().await;
        let mut lines: Vec<String> = said.out.lines().map(str::to_owned).collect();
        // How often it was kept alive is a matter of time.
        lines.dedup();
        ends.push((
            said.success,
            side.told(KEEP_ALIVE, &lines.join("\n")),
            said.err,
        ));
    }
    assert_eq!(ends[1], ends[0], "ours, and etcd's");
}

/// From etcd into Vigil, and from Vigil into etcd.
#[tokio::test]
async fn mirrors_are_made_of_either_in_the_other() {
    let mut both = Both::start().await;
    both.compare("put from/a 1\nput from/b 2\nput elsewhere 3", &[]);
    let mirror = OnBoth::start(&both, MIRROR);
    let bare = OnBoth::start(&both, MIRROR_BARE);
    reads(&mut both, "get to/ --prefix", "0\nto/a\n1\nto/b\n2\n").await;
    reads(&mut both, "get a b", "0\na\n1\n").await;
    // What happens from here on is watched.
    watched(&both, 2).await;
    both.compare("put from/c 3\ndel from/a\nput from/b 4", &[]);
    reads(&mut both, "get to/ --prefix", "0\nto/b\n4\nto/c\n3\n").await;
    reads(&mut both, "get a d", "0\nb\n4\nc\n3\n").await;
    mirror.stop(&both).await;
    bare.stop(&both).await;
    both.compare("get '' --prefix", &[]);
}

#[tokio::test]
async fn ten_thousand_keys_are_held_as_etcd_holds_them() {
    let mut both = Both::start().await;
    let (etcd, vigil) = both.say(SCALE);
    assert!(vigil.contains("PASS: "), "{vigil}");
    assert_eq!(vigil, etcd, "ours, and etcd's");
}

//! The verdict: for each property how much was checked, and every fault with the line that shows it.
//!
//! It only collects and prints.

use std::collections::BTreeMap;
use std::fmt;

/// One promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Property {
    /// Events come in the order of their revisions.
    Ordered,
    /// No event comes twice.
    Unique,
    /// All events of a revision come in one response.
    Atomic,
    /// No event is left out or made up.
    Reliable,
    /// A watch from a past revision begins exactly there.
    Resumable,
    /// Progress says what was sent, and nothing at or before it comes after it.
    Bookmarkable,
    /// Previous values are right, and there when asked for and not compacted.
    PrevKv,
    /// What claims to be a create is one, and nothing else is.
    IsCreate,
    /// Only what was asked for comes.
    Filter,
    /// What was seen or acknowledged is still there after a restart.
    Durable,
    /// Responses come in a legal order, for watches that exist, with the right headers.
    Protocol,
    /// Requests and answers fit one sequential history.
    Sequential,
}

impl Property {
    /// Every property.
    pub(crate) const ALL: [Self; 12] = [
        Self::Ordered,
        Self::Unique,
        Self::Atomic,
        Self::Reliable,
        Self::Resumable,
        Self::Bookmarkable,
        Self::PrevKv,
        Self::IsCreate,
        Self::Filter,
        Self::Durable,
        Self::Protocol,
        Self::Sequential,
    ];
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) property: Property,
    /// The line that shows it, counted from 0.
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            property,
            line,
            what,
        } = self;
        write!(f, "{property:?}: line {}: {what}", line + 1)
    }
}

/// Everything that was decided.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) faults: Vec<Fault>,
    checks: BTreeMap<Property, u64>,
    /// Events in watch responses.
    pub(crate) events: u64,
    /// Watch responses that told of progress.
    pub(crate) progress: u64,
    /// Requests of the KV service with a known outcome.
    pub(crate) calls: u64,
}

impl Verdict {
    /// Notes a fault.
    pub(crate) fn fault(&mut self, property: Property, line: usize, what: String) {
        self.faults.push(Fault {
            property,
            line,
            what,
        });
    }

    /// Counts one check.
    pub(crate) fn check(&mut self, property: Property) {
        *self.checks.entry(property).or_default() += 1;
    }

    /// Counts a check and notes a fault when it failed.
    pub(crate) fn hold(
        &mut self,
        property: Property,
        holds: bool,
        line: usize,
        what: impl FnOnce() -> String,
    ) {
        self.check(property);
        if !holds {
            self.fault(property, line, what());
        }
    }

    /// How often a property was checked.
    pub(crate) fn checks(&self, property: Property) -> u64 {
        self.checks.get(&property).copied().unwrap_or_default()
    }

    /// True when nothing is at fault.
    pub(crate) fn holds(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for property in Property::ALL {
            let faults = self.faults.iter().filter(|it| it.property == property);
            let (checks, faults) = (self.checks(property), faults.count());
            let word = if faults == 0 { "holds" } else { "BROKEN" };
            let name = format!("{property:?}");
            writeln!(
                f,
                "{name:<13} {word:<7} {checks:>9} checks {faults:>6} faults"
            )?;
        }
        let (events, progress, calls) = (self.events, self.progress, self.calls);
        writeln!(f, "{events} events, {progress} progress, {calls} calls")
    }
}

//! Making one range like another: both are read side by side, in the order of their keys.
//!
//! Only what the destination got after `floor`, which is what the mirror wrote itself, is ever removed or found equal. What
//! was there before belongs to somebody else, unless the floor is below everything.

use super::bar;
use super::batch::{Batch, Change};
use super::mirror::{Ends, Rename};
use super::pages::Pages;
use crate::verbs::VerbError;
use std::cmp::Ordering;

/// What a copy has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// The source's revision that was copied.
    pub(super) revision: i64,
    /// Keys put.
    pub(super) put: u64,
    /// Keys that were the same already.
    pub(super) equal: u64,
    /// Keys removed.
    pub(super) removed: u64,
    /// Keys that only the destination has, and that were left there.
    pub(super) left: u64,
}

/// What is to be done about the first key of either side.
enum Step {
    Put,
    /// A put of a key that the destination has.
    Replace,
    Equal,
    Remove,
    Leave,
    End,
}

/// Copies all keys at the source's latest revision.
pub(super) async fn copy(
    ends: &Ends<'_>,
    rename: &Rename,
    floor: i64,
    mut batch: Batch,
) -> Result<Copied, VerbError> {
    let mut source = Pages::new(ends.source, ends.from.clone(), &rename.prefix, 0);
    let mut destination = Pages::new(ends.destination, ends.to.clone(), &rename.dest_prefix, 0);
    source.peek().await?;
    let bar = bar("copying", source.total);
    let mut copied = Copied {
        revision: source.revision,
        ..Copied::default()
    };
    loop {
        let change = match step(&mut source, &mut destination, rename, floor).await? {
            Step::End => break,
            Step::Leave => {
                copied.left += 1;
                destination.next().await?;
                continue;
            }
            Step::Equal => {
                copied.equal += 1;
                bar.inc(1);
                source.next().await?;
                destination.next().await?;
                continue;
            }
            Step::Remove => {
                copied.removed += 1;
                destination.next().await?.map(|kv| Change::Delete(kv.key))
            }
            step @ (Step::Put | Step::Replace) => {
                if matches!(step, Step::Replace) {
                    destination.next().await?;
                }
                copied.put += 1;
                bar.inc(1);
                match source.next().await? {
                    Some(kv) => Some(Change::Put(rename.at_destination(&kv.key)?, kv.value)),
                    None => None,
                }
            }
        };
        if let Some(change) = change {
            if !batch.has_room_for(std::slice::from_ref(&change)) {
                batch.apply(ends.destination, &ends.to).await?;
            }
            batch.add(change);
        }
    }
    batch.apply(ends.destination, &ends.to).await?;
    bar.finish_and_clear();
    Ok(copied)
}

async fn step(
    source: &mut Pages<'_>,
    destination: &mut Pages<'_>,
    rename: &Rename,
    floor: i64,
) -> Result<Step, VerbError> {
    let here = source.peek().await?;
    let there = destination.peek().await?;
    let (order, ours) = match (here, there) {
        (None, None) => return Ok(Step::End),
        (Some(_), None) => return Ok(Step::Put),
        (None, Some(there)) => (Ordering::Greater, there.mod_revision > floor),
        (Some(here), Some(there)) => {
            let order = rename.at_destination(&here.key)?.cmp(&there.key);
            (order, there.mod_revision > floor)
        }
    };
    Ok(match order {
        Ordering::Less => Step::Put,
        Ordering::Equal => {
            let is_equal = here.map(|kv| &kv.value) == there.map(|kv| &kv.value);
            if ours && is_equal {
                Step::Equal
            } else {
                Step::Replace
            }
        }
        Ordering::Greater if ours => Step::Remove,
        Ordering::Greater => Step::Leave,
    })
}

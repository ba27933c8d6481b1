//! The ranges that are neither a key, nor a prefix, nor open: a treap by (start, end) that knows in each node how far
//! its subtree reaches, so that asking for a key looks only where a hit can be.
//!
//! Nodes live in an arena and name each other by slot. Priorities come from a seeded generator: the same operations
//! give the same tree, always.

use super::slot_table::Slot;
use bytes::Bytes;
use std::cmp::Ordering;

/// Seed of the priorities; any number but zero does.
const PRIORITY_SEED: u32 = 0x9e37_79b9;

/// Distinct half-open ranges, each with a value.
#[derive(Debug)]
pub(super) struct RangeTree<V> {
    nodes: Vec<Node<V>>,
    root: Option<Slot>,
    /// Freed nodes, chained by `left`.
    free: Option<Slot>,
    len: usize,
    priority: u32,
}

#[derive(Debug)]
struct Node<V> {
    start: Bytes,
    end: Bytes,
    value: V,
    priority: u32,
    left: Option<Slot>,
    right: Option<Slot>,
    /// The node of this subtree whose end is the largest.
    reach: Slot,
}

impl<V: Copy> RangeTree<V> {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            root: None,
            free: None,
            len: 0,
            priority: PRIORITY_SEED,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, start: &[u8], end: &[u8]) -> Option<V> {
        let mut at = self.root;
        while let Some(node) = self.node(at) {
            at = match (start, end).cmp(&node.range()) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => return Some(node.value),
            };
        }
        None
    }

    /// Adds a range that is not there yet.
    pub(super) fn insert(&mut self, start: Bytes, end: Bytes, value: V) {
        let priority = self.next_priority();
        let slot = self.allocate(|reach| Node {
            start,
            end,
            value,
            priority,
            left: None,
            right: None,
            reach,
        });
        self.root = self.insert_at(self.root, slot);
        self.len += 1;
    }

    /// Takes a range out.
    pub(super) fn remove(&mut self, start: &[u8], end: &[u8]) -> Option<V> {
        let value = self.get(start, end)?;
        self.root = self.remove_at(self.root, (start, end));
        self.len = self.len.saturating_sub(1);
        Some(value)
    }

    /// The values of all ranges that contain the key, in the order of the ranges.
    pub(super) fn stab(&self, key: &[u8], hit: &mut impl FnMut(V)) {
        self.stab_at(self.root, key, hit);
    }

    fn stab_at(&self, at: Option<Slot>, key: &[u8], hit: &mut impl FnMut(V)) {
        let Some(node) = self.node(at) else { return };
        let reach = self.node(Some(node.reach)).map(|it| it.end.as_ref());
        if reach.is_none_or(|end| end <= key) {
            return;
        }
        self.stab_at(node.left, key, hit);
        if node.start <= key {
            if key < node.end.as_ref() {
                hit(node.value);
            }
            self.stab_at(node.right, key, hit);
        }
    }

    // The depth of these recursions is the depth of the tree: about 50 for a million ranges.

    fn insert_at(&mut self, at: Option<Slot>, new: Slot) -> Option<Slot> {
        let (Some(slot), Some(node), Some(added)) = (at, self.node(at), self.node(Some(new)))
        else {
            return Some(new);
        };
        let before = added.range() < node.range();
        if added.priority > node.priority {
            let (start, end) = (added.start.clone(), added.end.clone());
            let (left, right) = self.split(at, (&start, &end));
            self.link(new, left, right);
            return Some(new);
        }
        let (left, right) = (node.left, node.right);
        if before {
            let left = self.insert_at(left, new);
            self.link(slot, left, right);
        } else {
            let right = self.insert_at(right, new);
            self.link(slot, left, right);
        }
        at
    }

    /// Splits a subtree into what lies before the range and what lies behind it.
    fn split(&mut self, at: Option<Slot>, by: (&[u8], &[u8])) -> (Option<Slot>, Option<Slot>) {
        let (Some(slot), Some(node)) = (at, self.node(at)) else {
            return (None, None);
        };
        let (left, right) = (node.left, node.right);
        if node.range() < by {
            let (before, behind) = self.split(right, by);
            self.link(slot, left, before);
            (at, behind)
        } else {
            let (before, behind) = self.split(left, by);
            self.link(slot, behind, right);
            (before, at)
        }
    }

    fn remove_at(&mut self, at: Option<Slot>, range: (&[u8], &[u8])) -> Option<Slot> {
        let slot = at?;
        let node = self.node(at)?;
        let (left, right) = (node.left, node.right);
        match range.cmp(&node.range()) {
            Ordering::Less => {
                let left = self.remove_at(left, range);
                self.link(slot, left, right);
                at
            }
            Ordering::Greater => {
                let right = self.remove_at(right, range);
                self.link(slot, left, right);
                at
            }
            Ordering::Equal => {
                let merged = self.merge(left, right);
                self.release(slot);
                merged
            }
        }
    }

    /// Joins two subtrees, all of the first before all of the second.
    fn merge(&mut self, first: Option<Slot>, second: Option<Slot>) -> Option<Slot> {
        let (Some(a), Some(b)) = (first, second) else {
            return first.or(second);
        };
        let (Some(node_a), Some(node_b)) = (self.node(first), self.node(second)) else {
            return None;
        };
        if node_a.priority > node_b.priority {
            let (left, right) = (node_a.left, node_a.right);
            let right = self.merge(right, second);
            self.link(a, left, right);
            first
        } else {
            let (left, right) = (node_b.left, node_b.right);
            let left = self.merge(first, left);
            self.link(b, left, right);
            second
        }
    }

    /// Gives a node its children, and works out how far the subtree reaches now.
    fn link(&mut self, slot: Slot, left: Option<Slot>, right: Option<Slot>) {
        let mut reach = slot;
        for child in [left, right] {
            if let Some(far) = self.node(child).map(|it| it.reach)
                && self.end(far) > self.end(reach)
            {
                reach = far;
            }
        }
        if let Some(node) = self.nodes.get_mut(slot.index()) {
            node.left = left;
            node.right = right;
            node.reach = reach;
        }
    }

    fn node(&self, at: Option<Slot>) -> Option<&Node<V>> {
        self.nodes.get(at?.index())
    }

    fn end(&self, at: Slot) -> Option<&[u8]> {
        self.node(Some(at)).map(|it| it.end.as_ref())
    }

    fn allocate(&mut self, make: impl FnOnce(Slot) -> Node<V>) -> Slot {
        let reused = self
            .free
            .and_then(|slot| Some((slot, self.nodes.get_mut(slot.index())?)));
        if let Some((slot, node)) = reused {
            self.free = node.left;
            *node = make(slot);
            return slot;
        }
        let slot = Slot::at(self.nodes.len());
        self.nodes.push(make(slot));
        slot
    }

    fn release(&mut self, slot: Slot) {
        if let Some(node) = self.nodes.get_mut(slot.index()) {
            node.start = Bytes::new();
            node.end = Bytes::new();
            node.left = self.free.replace(slot);
        }
    }

    /// Marsaglia's xorshift.
    fn next_priority(&mut self) -> u32 {
        self.priority ^= self.priority << 13;
        self.priority ^= self.priority >> 17;
        self.priority ^= self.priority << 5;
        self.priority
    }
}

impl<V> Node<V> {
    fn range(&self) -> (&[u8], &[u8]) {
        (&self.start, &self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(tree: &RangeTree<u32>, at: Option<Slot>) -> usize {
        tree.node(at).map_or(0, |node| {
            1 + depth(tree, node.left).max(depth(tree, node.right))
        })
    }

    #[test]
    fn ranges_that_come_in_order_still_make_a_shallow_tree() {
        let mut tree = RangeTree::new();
        for at in 0..10_000_u32 {
            let key = |number: u32| Bytes::from(format!("{number:08}"));
            tree.insert(key(at), key(at + 2), at);
        }
        assert!(depth(&tree, tree.root) < 60);
        let mut hits = Vec::new();
        tree.stab(b"00005000", &mut |value| hits.push(value));
        assert_eq!(hits, [4999, 5000]);
    }

    #[test]
    fn freed_nodes_are_used_again() {
        let mut tree = RangeTree::new();
        for round in 0..10_u32 {
            tree.insert(Bytes::from("a"), Bytes::from("c"), round);
            assert_eq!(tree.remove(b"a", b"c"), Some(round));
        }
        assert_eq!((tree.len(), tree.nodes.len()), (0, 1));
    }
}

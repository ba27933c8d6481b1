//! What is read for a few of many ranges: nobody is handed a part of what it wants.

use super::*;

#[test]
fn who_wants_more_than_was_read_is_not_handed_a_part_of_it() {
    let whole = class_of(KeyRange::prefix("a"));
    let mut catch_up = catch_up([entry(1, &key("a1"), 2), entry(2, &key("a3"), 3)]);
    let outline = catch_up.outline().unwrap();
    assert_eq!(outline, key("a1").range.hull(&key("a3").range));
    // It comes while the others' history is read.
    catch_up.insert(entry(3, &whole, 2));
    let history = commits(2, &[b"a1", b"a2", b"a3"]);
    let handouts = catch_up.absorb(&history, covered(2, 5), Some(&outline));
    assert_eq!(span(&handouts), [(2, 2, vec![1]), (4, 4, vec![2])]);
    let waiting = catch_up.get(WatcherId(3)).unwrap();
    assert_eq!(waiting.next_revision, Revision(2));
    assert_eq!(catch_up.outline(), Some(whole.range.clone()));
    let handouts = catch_up.absorb(&history, covered(2, 5), catch_up.outline().as_ref());
    assert_eq!(span(&handouts), [(2, 4, vec![3])]);
}

#[test]
fn many_ranges_are_not_told_apart_in_what_is_read() {
    let keys = (0..17).map(|number| class_of(KeyRange::single(format!("k{number:02}"))));
    let mut catch_up = catch_up((0..).zip(keys).map(|(id, class)| entry(id, &class, 2)));
    assert_eq!(catch_up.outline(), None);
    catch_up.remove(WatcherId(0));
    let outline = catch_up.outline().unwrap();
    assert!(outline.contains(b"k01") && outline.contains(b"k16") && !outline.contains(b"k00"));
}

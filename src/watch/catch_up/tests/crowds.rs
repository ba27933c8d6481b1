//! Many narrow classes at once: when one reading of the gap serves them better than a look-up for each.

use super::*;

/// A hundred watchers of a key each.
fn crowd() -> CatchUp<()> {
    catch_up((0..100).map(|id| {
        let class = class_of(KeyRange::single(format!("{id}")));
        entry(id, &class, 2)
    }))
}

#[test]
fn l4_a_crowd_of_classes_in_a_short_gap_is_served_by_scanning_it() {
    let mut catch_up = crowd();
    let plan = catch_up.plan(Revision(9), |_, _, _| unreachable!("no need to ask"));
    assert_eq!(scan_from(&plan), 2);
}

#[test]
fn l4_classes_that_are_narrow_alone_are_read_in_one_pass_when_there_are_many() {
    let mut catch_up = crowd();
    let mut questions = 0;
    // Each has a hundredth of all there is.
    let mut plan = |catch_up: &mut CatchUp<()>| {
        catch_up.plan(Revision(10_000), |_, from, through| {
            questions += 1;
            let all = from.0..=through.0;
            Some(all.step_by(100).map(Revision).collect())
        })
    };
    let mut at = 2;
    for _ in 0..20 {
        assert_eq!(scan_from(&plan(&mut catch_up)), at);
        catch_up.absorb(&[], covered(at, at + 10), None);
        at += 10;
    }
    assert_eq!(questions, 64, "whom a plan looks at is asked for once");
    // The last one alone is looked up.
    for id in 1..100 {
        catch_up.remove(WatcherId(id));
    }
    let plan = catch_up.plan(Revision(100_000), |_, _, through| {
        Some(vec![Revision(9000), through])
    });
    assert_eq!(scan_from(&plan), at, "what was found out holds for a while");
    catch_up.absorb(&[], covered(at, 5000), None);
    let plan = catch_up.plan(Revision(100_000), |_, _, through| {
        Some(vec![Revision(9000), through])
    });
    assert!(matches!(plan, Plan::Pick(_)), "{plan:?}");
}

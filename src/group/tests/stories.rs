//! What each phase of a group makes of each request.

use expect_test::{Expect, expect};

use super::play;

fn check(story: &'static str, expected: Expect) {
    expected.assert_eq(&play(story));
}

/// Two members in a stable group.
macro_rules! two {
    ($then:literal) => {
        concat!("a joins; b joins; 6s; a syncs a=0 b=1; b syncs;", $then)
    };
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    check(
        "a joins; 2s; b joins; 1s; 2s; c joins; 1s; 3s; describe",
        expect![[r#"
        3s: a is a1 in 1 led by a1 range[a1 b2 c3], b is b2 in 1 led by a1 range[], c is c3 in 1 led by a1 range[]
        describe: Completing "" [a1= b2= c3=]
    "#]],
    );
    check(
        "a joins rebalance=4; 3s; 1s; b joins; 10s",
        expect![[r#"
        3s: a is a1 in 1 led by a1 range[a1]
        10s: b is b2 in 2 led by b2 range[b2]
    "#]],
    );
    // The wait does not go on for ever.
    check(
        "a joins rebalance=4; 2s; b joins rebalance=4; 1s; 1s; describe",
        expect![[r#"
        1s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        describe: Completing "" [a1= b2=]
    "#]],
    );
}

#[test]
fn an_assignment_is_handed_out_when_it_is_durable() {
    check("a joins; b joins; 6s; b syncs; a syncs a=0 b=1; describe", expect![]);
    check("a joins; 6s; the disk waits; a syncs a=0; describe; the disk works; describe", expect![]);
    check("a joins; b joins; 6s; b syncs; the disk waits; a syncs a=0; the disk fails; describe", expect![]);
    // A write that a rebalance has overtaken changes nothing any more.
    check(
        "a joins; 6s; the disk waits; a syncs a=0; b joins; the disk works; a beats; a joins; describe",
        expect![],
    );
    // Who was forgotten by the leader has nothing; who is no member gets nothing.
    check("a joins; b joins; 6s; a syncs a=0 z=9; b syncs", expect![]);
    check(two!("b syncs; a syncs a=7 b=7"), expect![]);
}

#[test]
fn members_that_join_or_leave_begin_a_rebalance() {
    check(two!("c joins; a beats; b beats; a joins; b joins; describe"), expect![]);
    check(two!("b leaves; a beats; a joins; a syncs a=01; describe"), expect![]);
    check(two!("b a leaves; describe; a beats; a syncs"), expect![]);
    check(two!("b leaves; b leaves; b beats; c leaves"), expect![]);
    // While the leader assigns.
    check("a joins; b joins; 6s; b syncs; c joins; a syncs a=0 b=1; a joins; b joins", expect![]);
}

#[test]
fn who_joins_again_without_news_is_told_what_is() {
    check(two!("b joins"), expect![]);
    check(two!("b joins says=new; a beats; a joins; describe"), expect![]);
    check(two!("a joins; b beats"), expect![]);
    check("a joins; b joins; 6s; b joins; a joins; b joins says=new; a joins", expect![]);
    check("a joins; b joins; a joins; 6s", expect![]);
}

#[test]
fn silence_ends_a_membership() {
    check(two!("9s; a beats; 2s; a beats; a joins; describe"), expect![]);
    check(two!("5s; a commits; 6s; a beats; b commits"), expect![]);
    // Who waits for the others is not silent; who does not join in time is out.
    check(
        two!("c joins rebalance=30; 8s; a beats; b beats; 8s; a beats; b beats; a joins; 50s; describe"),
        expect![],
    );
    // A new member whose connection broke.
    check(
        two!("c joins rebalance=900; 8s; a beats; a joins; b beats; 8s; b beats; b joins; describe"),
        expect![],
    );
    // The leader, and another, never ask for their assignments.
    check("a joins; b joins; c joins; 6s; b syncs; 9s; b beats; 9s; 60s; describe", expect![]);
}

#[test]
fn generations_and_ids_are_checked() {
    check("a beats; a syncs; a leaves; a commits; a joins as=a1", expect![]);
    check(two!("c joins; a joins; b joins; b commits"), expect![]);
    check(two!("b leaves; b commits; b syncs; b joins"), expect![]);
    check("a joins session=5; a joins session=1801; a joins session=6", expect![]);
    check("a joins; 6s; a commits; a syncs; a commits; z commits", expect![]);
}

#[test]
fn the_protocol_is_one_that_all_know_and_most_prefer() {
    check("a joins knows=range,rr; b joins knows=rr,range; c joins knows=rr,range; 6s", expect![]);
    check("a joins knows=x,range; b joins knows=y,range; 6s; c joins knows=x,y", expect![]);
    check("a joins knows=x,y; b joins knows=y,x; 6s", expect![]);
    check("a joins knows=; a joins type=; a joins; b joins type=connect; 6s", expect![]);
    check("a joins knows=range,range; b joins; 6s; a syncs; a leaves; b joins knows=rr; b joins", expect![]);
}

#[test]
fn somebody_new_comes_twice() {
    check("a joins politely; 2s; a joins politely; 6s; describe", expect![]);
    check("a joins politely; describe; 9s; 2s; a joins politely; describe", expect![]);
    // A rebalance waits for those who were invited.
    check(two!("c joins politely; a joins; b joins; c joins"), expect![]);
    check(two!("c joins politely; c leaves; a joins; b joins"), expect![]);
    check(two!("c joins politely; a joins; b joins; 10s"), expect![]);
}

#[test]
fn a_static_member_keeps_its_place() {
    check(
        "a joins static=s; b joins; 6s; a syncs a=0 b=1; b syncs; a restarts; a joins; a syncs; b beats",
        expect![],
    );
    check("a joins static=s; 6s; a syncs a=0; a restarts; a joins skipping; a syncs; a beats", expect![]);
    // Its new id must be durable before it hears of it.
    check(
        "a joins static=s; 6s; a syncs a=0; a restarts; the disk waits; a joins; the broker restarts; \
         the disk works; a joins; a syncs; a beats",
        expect![],
    );
    check(
        "a joins static=s; 6s; a syncs a=0; a restarts; the disk waits; a joins; the disk fails; a joins",
        expect![],
    );
    // Another protocol, or a rebalance under way: everybody joins again.
    check(
        "a joins static=s knows=x,y; b joins static=t knows=x,y; 6s; a syncs a=0 b=1; b syncs; \
         b restarts; b joins knows=y; a beats; a joins knows=x,y",
        expect![],
    );
    check("a joins static=s; b joins; 6s; b syncs; a restarts; a joins; b joins", expect![]);
    check("a joins static=s; b joins; a restarts; a joins; 6s", expect![]);
}

#[test]
fn of_two_with_one_instance_id_the_older_is_fenced() {
    check(
        "a joins static=s; 6s; a syncs a=0; b joins static=s; a beats; a syncs; a commits; a leaves; a joins",
        expect![],
    );
    check("a joins static=s; c joins; 6s; a beats; b joins static=s; a beats; c joins", expect![]);
    check("a joins static=s; b joins static=s; 6s", expect![]);
    check("a joins static=s; c joins; 6s; c syncs; b joins static=s; a syncs; c joins", expect![]);
    check("a joins; 6s; a syncs a=0; s is removed; b joins static=s as=a1", expect![]);
}

#[test]
fn static_members_are_missed_only_when_their_session_ends() {
    check(
        "a joins static=s session=30; b joins; 6s; a syncs a=0 b=1; b syncs; b leaves; 61s; describe",
        expect![],
    );
    check(
        "a joins static=s session=100; b joins; 6s; a syncs a=0 b=1; b syncs; c joins; b joins; 61s; \
         describe; b syncs b=0 c=1; describe",
        expect![],
    );
    check(
        "a joins static=s; b joins; 6s; a syncs a=0 b=1; b syncs; s is removed; s is removed; b joins",
        expect![],
    );
}

#[test]
fn a_restart_of_the_broker_goes_unnoticed() {
    check(
        two!("the broker restarts; describe; a beats; b beats; b commits; a syncs; 9s; a beats; b beats"),
        expect![],
    );
    check(two!("the broker restarts; 11s; describe; a beats"), expect![]);
    check(two!("the broker restarts; b joins; a joins; b beats; b joins"), expect![]);
    // A generation that nobody was assigned anything in is lost.
    check(
        two!("c joins; a joins; b joins; the broker restarts; c beats; a beats; a commits; a joins"),
        expect![],
    );
    check(two!("a b leaves; the broker restarts; describe; c joins; 6s"), expect![]);
}

#[test]
fn a_group_is_full_at_some_point() {
    check("a joins; b joins; c joins; d joins; e joins; 6s; e joins; a joins; f joins politely", expect![]);
    check(
        "a joins politely; b joins politely; c joins politely; d joins politely; e joins politely; 11s; e joins politely",
        expect![],
    );
    check(two!("c joins; a joins; b joins; d joins; e joins; c leaves; e joins"), expect![]);
}

#[test]
fn whoever_waits_is_told_when_the_broker_stops() {
    check("a joins; b joins; the broker stops; a beats; c joins; 9s", expect![]);
    check("a joins; b joins; 6s; b syncs; the broker stops; a syncs", expect![]);
    check(
        "a joins static=s; 6s; a syncs a=0; a restarts; the disk waits; a joins; the broker stops",
        expect![],
    );
}

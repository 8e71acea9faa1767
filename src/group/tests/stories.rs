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
    check(
        "a joins; b joins; 6s; b syncs; a syncs a=0 b=1; describe",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0], b has [1]
        describe: Stable "range" [a1=0 b2=1]
    "#]],
    );
    check(
        "a joins; 6s; the disk waits; a syncs a=0; describe; the disk works; describe",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1]
        describe: Completing "" [a1=]
        the disk works: a has [0]
        describe: Stable "range" [a1=0]
    "#]],
    );
    check(
        "a joins; b joins; 6s; b syncs; the disk waits; a syncs a=0; the disk fails; describe",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        the disk fails: a syncs: NotStored, b syncs: NotStored
        describe: Preparing "" [a1= b2=]
    "#]],
    );
    // A write that a rebalance has overtaken changes nothing any more.
    check(
        "a joins; 6s; the disk waits; a syncs a=0; b joins; the disk works; a beats; a joins; describe",
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1]
            b joins: a syncs: RebalanceInProgress
            a beats: a RebalanceInProgress
            a joins: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
            describe: Completing "" [a1= b2=]
        "#]],
    );
    // Who was forgotten by the leader has nothing; who is no member gets nothing.
    check(
        "a joins; b joins; 6s; a syncs a=0 z=9; b syncs",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 z=9: a has [0]
        b syncs: b has []
    "#]],
    );
    check(
        two!("b syncs; a syncs a=7 b=7"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        b syncs: b has [1]
        a syncs a=7 b=7: a has [0]
    "#]],
    );
}

#[test]
fn members_that_join_or_leave_begin_a_rebalance() {
    check(
        two!("c joins; a beats; b beats; a joins; b joins; describe"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        a beats: a RebalanceInProgress
        b beats: b RebalanceInProgress
        b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
        describe: Completing "" [a1= b2= c3=]
    "#]],
    );
    check(
        two!("b leaves; a beats; a joins; a syncs a=01; describe"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        b leaves: b ok
        a beats: a RebalanceInProgress
        a joins: a is a1 in 2 led by a1 range[a1]
        a syncs a=01: a has [01]
        describe: Stable "range" [a1=01]
    "#]],
    );
    check(
        two!("b a leaves; describe; a beats; a syncs"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        b a leaves: b ok, a ok
        describe: Empty "" []
        a beats: a UnknownMember
        a syncs: a syncs: UnknownMember
    "#]],
    );
    check(
        two!("b leaves; b leaves; b beats; c leaves"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        b leaves: b ok
        b leaves: b UnknownMember
        b beats: b UnknownMember
        c leaves: c UnknownMember
    "#]],
    );
    // While the leader assigns.
    check(
        "a joins; b joins; 6s; b syncs; c joins; a syncs a=0 b=1; a joins; b joins",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        c joins: b syncs: RebalanceInProgress
        a syncs a=0 b=1: a syncs: RebalanceInProgress
        b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
    "#]],
    );
}

#[test]
fn who_joins_again_without_news_is_told_what_is() {
    check(
        two!("b joins"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        b joins: b is b2 in 1 led by a1 range[]
    "#]],
    );
    check(
        two!("b joins says=new; a beats; a joins; describe"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        a beats: a RebalanceInProgress
        a joins: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
        describe: Completing "" [a1= b2=]
    "#]],
    );
    check(
        two!("a joins; b beats"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        b beats: b RebalanceInProgress
    "#]],
    );
    check(
        "a joins; b joins; 6s; b joins; a joins; b joins says=new; a joins",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        b joins: b is b2 in 1 led by a1 range[]
        a joins: a is a1 in 1 led by a1 range[a1 b2]
        a joins: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
    "#]],
    );
    check(
        "a joins; b joins; a joins; 6s",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2 a3], b is b2 in 1 led by a1 range[], a is a3 in 1 led by a1 range[]
    "#]],
    );
}

#[test]
fn silence_ends_a_membership() {
    check(
        two!("9s; a beats; 2s; a beats; a joins; describe"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        a beats: a ok
        a beats: a RebalanceInProgress
        a joins: a is a1 in 2 led by a1 range[a1]
        describe: Completing "" [a1=]
    "#]],
    );
    check(
        two!("5s; a commits; 6s; a beats; b commits"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        a commits: a ok
        a beats: a RebalanceInProgress
        b commits: b UnknownMember
    "#]],
    );
    // Who waits for the others is not silent; who does not join in time is out.
    check(
        two!("c joins rebalance=30; 8s; a beats; b beats; 8s; a beats; b beats; a joins; 50s; describe"),
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
            a syncs a=0 b=1: a has [0]
            b syncs: b has [1]
            a beats: a RebalanceInProgress
            b beats: b RebalanceInProgress
            a beats: a RebalanceInProgress
            b beats: b RebalanceInProgress
            50s: a is a1 in 2 led by a1 range[a1 c3], c is c3 in 2 led by a1 range[]
            describe: Empty "" []
        "#]],
    );
    // A new member whose connection broke.
    check(
        two!("c joins rebalance=900; 8s; a beats; a joins; b beats; 8s; b beats; b joins; describe"),
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
            a syncs a=0 b=1: a has [0]
            b syncs: b has [1]
            a beats: a RebalanceInProgress
            b beats: b RebalanceInProgress
            b beats: b RebalanceInProgress
            b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
            describe: Completing "" [a1= b2= c3=]
        "#]],
    );
    // The leader, and another, never ask for their assignments.
    check(
        "a joins; b joins; c joins; 6s; b syncs; 9s; b beats; 9s; 60s; describe",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2 c3], b is b2 in 1 led by a1 range[], c is c3 in 1 led by a1 range[]
        b beats: b ok
        9s: b syncs: RebalanceInProgress
        describe: Empty "" []
    "#]],
    );
}

#[test]
fn generations_and_ids_are_checked() {
    check(
        "a beats; a syncs; a leaves; a commits; a joins as=a1",
        expect![[r#"
        a beats: a UnknownMember
        a syncs: a syncs: UnknownMember
        a leaves: UnknownMember
        a commits: a UnknownGroup
        a joins as=a1: a joins: UnknownMember
    "#]],
    );
    check(
        two!("c joins; a joins; b joins; b commits"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
        b commits: b RebalanceInProgress
    "#]],
    );
    check(
        two!("b leaves; b commits; b syncs; b joins"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        b leaves: b ok
        b commits: b UnknownMember
        b syncs: b syncs: UnknownMember
        b joins: b joins: UnknownMember
    "#]],
    );
    check(
        "a joins session=5; a joins session=1801; a joins session=6",
        expect![[r#"
        a joins session=5: a joins: InvalidSessionTimeout
        a joins session=1801: a joins: InvalidSessionTimeout
    "#]],
    );
    check(
        "a joins; 6s; a commits; a syncs; a commits; z commits",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1]
        a commits: a RebalanceInProgress
        a syncs: a has []
        a commits: a ok
        z commits: z UnknownMember
    "#]],
    );
}

#[test]
fn the_protocol_is_one_that_all_know_and_most_prefer() {
    check(
        "a joins knows=range,rr; b joins knows=rr,range; c joins knows=rr,range; 6s",
        expect![[r#"
        6s: a is a1 in 1 led by a1 rr[a1 b2 c3], b is b2 in 1 led by a1 rr[], c is c3 in 1 led by a1 rr[]
    "#]],
    );
    check(
        "a joins knows=x,range; b joins knows=y,range; 6s; c joins knows=x,y",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        c joins knows=x,y: c joins: InconsistentProtocol
    "#]],
    );
    check(
        "a joins knows=x,y; b joins knows=y,x; 6s",
        expect![[r#"
        6s: a is a1 in 1 led by a1 x[a1 b2], b is b2 in 1 led by a1 x[]
    "#]],
    );
    check(
        "a joins knows=; a joins type=; a joins; b joins type=connect; 6s",
        expect![[r#"
        a joins knows=: a joins: InconsistentProtocol
        a joins type=: a joins: InconsistentProtocol
        b joins type=connect: b joins: InconsistentProtocol
        6s: a is a3 in 1 led by a3 range[a3]
    "#]],
    );
    check(
        "a joins knows=range,range; b joins; 6s; a syncs; a leaves; b joins knows=rr; b joins",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs: a has []
        a leaves: a ok
        b joins knows=rr: b joins: InconsistentProtocol
        b joins: b is b2 in 2 led by b2 range[b2]
    "#]],
    );
}

#[test]
fn somebody_new_comes_twice() {
    check(
        "a joins politely; 2s; a joins politely; 6s; describe",
        expect![[r#"
        a joins politely: a is to be a1
        6s: a is a1 in 1 led by a1 range[a1]
        describe: Completing "" [a1=]
    "#]],
    );
    check(
        "a joins politely; describe; 9s; 2s; a joins politely; describe",
        expect![[r#"
        a joins politely: a is to be a1
        describe: Empty "" []
        a joins politely: a joins: UnknownMember
        describe: nothing
    "#]],
    );
    // A rebalance waits for those who were invited.
    check(
        two!("c joins politely; a joins; b joins; c joins"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        c joins politely: c is to be c3
        c joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
    "#]],
    );
    check(
        two!("c joins politely; c leaves; a joins; b joins"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        c joins politely: c is to be c3
        c leaves: c ok
        b joins: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
    "#]],
    );
    check(
        two!("c joins politely; a joins; b joins; 10s"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        c joins politely: c is to be c3
        10s: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
    "#]],
    );
}

#[test]
fn a_static_member_keeps_its_place() {
    check(
        "a joins static=s; b joins; 6s; a syncs a=0 b=1; b syncs; a restarts; a joins; a syncs; b beats",
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
            a syncs a=0 b=1: a has [0]
            b syncs: b has [1]
            a joins: a is a3 in 1 led by a1 range[]
            a syncs: a has [0]
            b beats: b ok
        "#]],
    );
    check(
        "a joins static=s; 6s; a syncs a=0; a restarts; a joins skipping; a syncs; a beats",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1]
        a syncs a=0: a has [0]
        a joins skipping: a is a2 in 1 led by a2 range[a2] skips
        a syncs: a has [0]
        a beats: a ok
    "#]],
    );
    // Its new id must be durable before it hears of it.
    check(
        "a joins static=s; 6s; a syncs a=0; a restarts; the disk waits; a joins; the broker restarts; \
         the disk works; a joins; a syncs; a beats",
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1]
            a syncs a=0: a has [0]
            a joins: a is a3 in 1 led by a1 range[]
            a syncs: a has [0]
            a beats: a ok
        "#]],
    );
    check(
        "a joins static=s; 6s; a syncs a=0; a restarts; the disk waits; a joins; the disk fails; a joins",
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1]
            a syncs a=0: a has [0]
            the disk fails: a joins: NotStored
        "#]],
    );
    // Another protocol, or a rebalance under way: everybody joins again.
    check(
        "a joins static=s knows=x,y; b joins static=t knows=x,y; 6s; a syncs a=0 b=1; b syncs; \
         b restarts; b joins knows=y; a beats; a joins knows=x,y",
        expect![[r#"
            6s: a is a1 in 1 led by a1 x[a1 b2], b is b2 in 1 led by a1 x[]
            a syncs a=0 b=1: a has [0]
            b syncs: b has [1]
            a beats: a RebalanceInProgress
            a joins knows=x,y: a is a1 in 2 led by a1 y[a1 b3], b is b3 in 2 led by a1 y[]
        "#]],
    );
    check(
        "a joins static=s; b joins; 6s; b syncs; a restarts; a joins; b joins",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a joins: b syncs: RebalanceInProgress
        b joins: a is a3 in 2 led by a3 range[a3 b2], b is b2 in 2 led by a3 range[]
    "#]],
    );
    check(
        "a joins static=s; b joins; a restarts; a joins; 6s",
        expect![[r#"
        a joins: a joins: FencedInstance
        6s: a is a3 in 1 led by a3 range[a3 b2], b is b2 in 1 led by a3 range[]
    "#]],
    );
}

#[test]
fn of_two_with_one_instance_id_the_older_is_fenced() {
    check(
        "a joins static=s; 6s; a syncs a=0; b joins static=s; a beats; a syncs; a commits; a leaves; a joins",
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1]
            a syncs a=0: a has [0]
            b joins static=s: b is b2 in 1 led by a1 range[]
            a beats: a FencedInstance
            a syncs: a syncs: FencedInstance
            a commits: a FencedInstance
            a leaves: a FencedInstance
            a joins: a joins: FencedInstance
        "#]],
    );
    check(
        "a joins static=s; c joins; 6s; a beats; b joins static=s; a beats; c joins",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 c2], c is c2 in 1 led by a1 range[]
        a beats: a ok
        a beats: a FencedInstance
        c joins: b is b3 in 2 led by b3 range[b3 c2], c is c2 in 2 led by b3 range[]
    "#]],
    );
    check(
        "a joins static=s; b joins static=s; 6s",
        expect![[r#"
        b joins static=s: a joins: FencedInstance
        6s: b is b2 in 1 led by b2 range[b2]
    "#]],
    );
    check(
        "a joins static=s; c joins; 6s; c syncs; b joins static=s; a syncs; c joins",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 c2], c is c2 in 1 led by a1 range[]
        b joins static=s: c syncs: RebalanceInProgress
        a syncs: a syncs: FencedInstance
        c joins: b is b3 in 2 led by b3 range[b3 c2], c is c2 in 2 led by b3 range[]
    "#]],
    );
    check(
        "a joins; 6s; a syncs a=0; s is removed; b joins static=s as=a1",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1]
        a syncs a=0: a has [0]
        s is removed: s UnknownMember
        b joins static=s as=a1: b joins: UnknownMember
    "#]],
    );
    // Twice, before the first can be told its id.
    check(
        "a joins static=s; 6s; a syncs a=0; the disk waits; b joins static=s; c joins static=s; the disk works",
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1]
            a syncs a=0: a has [0]
            c joins static=s: b joins: FencedInstance
            the disk works: c is c3 in 1 led by b2 range[]
        "#]],
    );
}

#[test]
fn static_members_are_missed_only_when_their_session_ends() {
    check(
        "a joins static=s session=30; b joins; 6s; a syncs a=0 b=1; b syncs; b leaves; 61s; describe",
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
            a syncs a=0 b=1: a has [0]
            b syncs: b has [1]
            b leaves: b ok
            describe: Empty "" []
        "#]],
    );
    check(
        "a joins static=s session=100; b joins; 6s; a syncs a=0 b=1; b syncs; c joins; b joins; 61s; \
         describe; b syncs b=0 c=1; describe",
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
            a syncs a=0 b=1: a has [0]
            b syncs: b has [1]
            61s: b is b2 in 2 led by b2 range[a1 b2 c3], c is c3 in 2 led by b2 range[]
            describe: Completing "" [a1= b2= c3=]
            b syncs b=0 c=1: b has [0]
            describe: Stable "range" [a1= b2=0 c3=1]
        "#]],
    );
    check(
        "a joins static=s; b joins; 6s; a syncs a=0 b=1; b syncs; s is removed; s is removed; b joins",
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
            a syncs a=0 b=1: a has [0]
            b syncs: b has [1]
            s is removed: s ok
            s is removed: s UnknownMember
            b joins: b is b2 in 2 led by b2 range[b2]
        "#]],
    );
}

#[test]
fn a_restart_of_the_broker_goes_unnoticed() {
    check(
        two!("the broker restarts; describe; a beats; b beats; b commits; a syncs; 9s; a beats; b beats"),
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
            a syncs a=0 b=1: a has [0]
            b syncs: b has [1]
            describe: Stable "range" [a1=0 b2=1]
            a beats: a ok
            b beats: b ok
            b commits: b ok
            a syncs: a has [0]
            a beats: a ok
            b beats: b ok
        "#]],
    );
    check(
        two!("the broker restarts; 11s; describe; a beats"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        describe: Empty "" []
        a beats: a UnknownMember
    "#]],
    );
    check(
        two!("the broker restarts; b joins; a joins; b beats; b joins"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        b joins: b is b2 in 1 led by a1 range[]
        b beats: b RebalanceInProgress
        b joins: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
    "#]],
    );
    // A generation that nobody was assigned anything in is lost.
    check(
        two!("c joins; a joins; b joins; the broker restarts; c beats; a beats; a commits; a joins"),
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
            a syncs a=0 b=1: a has [0]
            b syncs: b has [1]
            b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
            c beats: c UnknownMember
            a beats: a IllegalGeneration
            a commits: a IllegalGeneration
        "#]],
    );
    check(
        two!("a b leaves; the broker restarts; describe; c joins; 6s"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        a b leaves: a ok, b ok
        describe: Empty "" []
        6s: c is c3 in 3 led by c3 range[c3]
    "#]],
    );
}

#[test]
fn a_group_is_full_at_some_point() {
    check(
        "a joins; b joins; c joins; d joins; e joins; 6s; e joins; a joins; f joins politely",
        expect![[r#"
        e joins: e joins: GroupFull
        6s: a is a1 in 1 led by a1 range[a1 b2 c3 d4], b is b2 in 1 led by a1 range[], c is c3 in 1 led by a1 range[], d is d4 in 1 led by a1 range[]
        e joins: e joins: GroupFull
        a joins: a is a1 in 1 led by a1 range[a1 b2 c3 d4]
        f joins politely: f joins: GroupFull
    "#]],
    );
    check(
        "a joins politely; b joins politely; c joins politely; d joins politely; e joins politely; 11s; e joins politely",
        expect![[r#"
            a joins politely: a is to be a1
            b joins politely: b is to be b2
            c joins politely: c is to be c3
            d joins politely: d is to be d4
            e joins politely: e joins: GroupFull
            e joins politely: e is to be e6
        "#]],
    );
    check(
        two!("c joins; a joins; b joins; d joins; e joins; c leaves; e joins"),
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        a syncs a=0 b=1: a has [0]
        b syncs: b has [1]
        b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
        c leaves: c ok
    "#]],
    );
}

#[test]
fn whoever_waits_is_told_when_the_broker_stops() {
    check(
        "a joins; b joins; the broker stops; a beats; c joins; 9s",
        expect![[r#"
        the broker stops: a joins: Stopping, b joins: Stopping
        a beats: a Stopping
        c joins: c joins: Stopping
    "#]],
    );
    check(
        "a joins; b joins; 6s; b syncs; the broker stops; a syncs",
        expect![[r#"
        6s: a is a1 in 1 led by a1 range[a1 b2], b is b2 in 1 led by a1 range[]
        the broker stops: b syncs: Stopping
        a syncs: a syncs: Stopping
    "#]],
    );
    check(
        "a joins static=s; 6s; a syncs a=0; a restarts; the disk waits; a joins; the broker stops",
        expect![[r#"
            6s: a is a1 in 1 led by a1 range[a1]
            a syncs a=0: a has [0]
            the broker stops: a joins: Stopping
        "#]],
    );
}

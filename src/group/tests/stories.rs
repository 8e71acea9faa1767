//! What each phase of a group makes of each request.

use expect_test::expect;

use super::{check, joined, stable};

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
    joined(&["a", "b"]).then(
        "b syncs; a syncs a=0 b=1; describe",
        expect![[r#"
        a syncs a=0 b=1: a has [0], b has [1]
        describe: Stable "range" [a1=0 b2=1]
    "#]],
    );
    joined(&["a"]).then(
        "the disk waits; a syncs a=0; describe; the disk works; describe",
        expect![[r#"
        describe: Completing "" [a1=]
        the disk works: a has [0]
        describe: Stable "range" [a1=0]
    "#]],
    );
    joined(&["a", "b"]).then(
        "b syncs; the disk waits; a syncs a=0; the disk fails; describe",
        expect![[r#"
        the disk fails: a syncs: NotStored, b syncs: NotStored
        describe: Preparing "" [a1= b2=]
    "#]],
    );
    // A write that a rebalance has overtaken changes nothing any more.
    joined(&["a"]).then(
        "the disk waits; a syncs a=0; b joins; the disk works; a beats; a joins; describe",
        expect![[r#"
            b joins: a syncs: RebalanceInProgress
            a beats: a RebalanceInProgress
            a joins: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
            describe: Completing "" [a1= b2=]
        "#]],
    );
    // Who was forgotten by the leader has nothing; who is no member gets nothing.
    joined(&["a", "b"]).then(
        "a syncs a=0 z=9; b syncs",
        expect![[r#"
        a syncs a=0 z=9: a has [0]
        b syncs: b has []
    "#]],
    );
    stable(&["a", "b"]).then(
        "b syncs; a syncs a=7 b=7",
        expect![[r#"
        b syncs: b has [1]
        a syncs a=7 b=7: a has [0]
    "#]],
    );
}

#[test]
fn members_that_join_or_leave_begin_a_rebalance() {
    stable(&["a", "b"]).then(
        "c joins; a beats; b beats; a joins; b joins; describe",
        expect![[r#"
        a beats: a RebalanceInProgress
        b beats: b RebalanceInProgress
        b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
        describe: Completing "" [a1= b2= c3=]
    "#]],
    );
    stable(&["a", "b"]).then(
        "b leaves; a beats; a joins; a syncs a=01; describe",
        expect![[r#"
        b leaves: b ok
        a beats: a RebalanceInProgress
        a joins: a is a1 in 2 led by a1 range[a1]
        a syncs a=01: a has [01]
        describe: Stable "range" [a1=01]
    "#]],
    );
    stable(&["a", "b"]).then(
        "b a leaves; describe; a beats; a syncs",
        expect![[r#"
        b a leaves: b ok, a ok
        describe: Empty "" []
        a beats: a UnknownMember
        a syncs: a syncs: UnknownMember
    "#]],
    );
    stable(&["a", "b"]).then(
        "b leaves; b leaves; b beats; c leaves",
        expect![[r#"
        b leaves: b ok
        b leaves: b UnknownMember
        b beats: b UnknownMember
        c leaves: c UnknownMember
    "#]],
    );
    // While the leader assigns.
    joined(&["a", "b"]).then(
        "b syncs; c joins; a syncs a=0 b=1; a joins; b joins",
        expect![[r#"
        c joins: b syncs: RebalanceInProgress
        a syncs a=0 b=1: a syncs: RebalanceInProgress
        b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
    "#]],
    );
}

#[test]
fn who_joins_again_without_news_is_told_what_is() {
    stable(&["a", "b"]).then(
        "b joins",
        expect![[r#"
        b joins: b is b2 in 1 led by a1 range[]
    "#]],
    );
    stable(&["a", "b"]).then(
        "b joins says=new; a beats; a joins; describe",
        expect![[r#"
        a beats: a RebalanceInProgress
        a joins: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
        describe: Completing "" [a1= b2=]
    "#]],
    );
    stable(&["a", "b"]).then(
        "a joins; b beats",
        expect![[r#"
        b beats: b RebalanceInProgress
    "#]],
    );
    joined(&["a", "b"]).then(
        "b joins; a joins; b joins says=new; a joins",
        expect![[r#"
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
    stable(&["a", "b"]).then(
        "9s; a beats; 2s; a beats; a joins; describe",
        expect![[r#"
        a beats: a ok
        a beats: a RebalanceInProgress
        a joins: a is a1 in 2 led by a1 range[a1]
        describe: Completing "" [a1=]
    "#]],
    );
    stable(&["a", "b"]).then(
        "5s; a commits; 6s; a beats; b commits",
        expect![[r#"
        a commits: a ok
        a beats: a RebalanceInProgress
        b commits: b UnknownMember
    "#]],
    );
    // Who waits for the others is not silent; who does not join in time is out.
    stable(&["a", "b"]).then(
        "c joins rebalance=30; 8s; a beats; b beats; 8s; a beats; b beats; a joins; 50s; describe",
        expect![[r#"
            a beats: a RebalanceInProgress
            b beats: b RebalanceInProgress
            a beats: a RebalanceInProgress
            b beats: b RebalanceInProgress
            50s: a is a1 in 2 led by a1 range[a1 c3], c is c3 in 2 led by a1 range[]
            describe: Empty "" []
        "#]],
    );
    // A new member whose connection broke.
    stable(&["a", "b"]).then(
        "c joins rebalance=900; 8s; a beats; a joins; b beats; 8s; b beats; b joins; describe",
        expect![[r#"
            a beats: a RebalanceInProgress
            b beats: b RebalanceInProgress
            b beats: b RebalanceInProgress
            b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
            describe: Completing "" [a1= b2= c3=]
        "#]],
    );
    // The leader, and another, never ask for their assignments.
    joined(&["a", "b", "c"]).then(
        "b syncs; 9s; b beats; 9s; 60s; describe",
        expect![[r#"
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
    stable(&["a", "b"]).then(
        "c joins; a joins; b joins; b commits",
        expect![[r#"
        b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
        b commits: b RebalanceInProgress
    "#]],
    );
    stable(&["a", "b"]).then(
        "b leaves; b commits; b syncs; b joins",
        expect![[r#"
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
    joined(&["a"]).then(
        "a commits; a syncs; a commits; z commits",
        expect![[r#"
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
    joined(&["a knows=x,range", "b knows=y,range"]).then(
        "c joins knows=x,y",
        expect![[r#"
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
    joined(&["a knows=range,range", "b"]).then(
        "a syncs; a leaves; b joins knows=rr; b joins",
        expect![[r#"
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
    stable(&["a", "b"]).then(
        "c joins politely; a joins; b joins; c joins",
        expect![[r#"
        c joins politely: c is to be c3
        c joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
    "#]],
    );
    stable(&["a", "b"]).then(
        "c joins politely; c leaves; a joins; b joins",
        expect![[r#"
        c joins politely: c is to be c3
        c leaves: c ok
        b joins: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
    "#]],
    );
    stable(&["a", "b"]).then(
        "c joins politely; a joins; b joins; 10s",
        expect![[r#"
        c joins politely: c is to be c3
        10s: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
    "#]],
    );
    // Without one, nobody notices that they do not come.
    stable(&["a session=30", "b session=30"]).then(
        "c joins politely; 11s; a beats; c restarts; c joins politely; c leaves; b beats",
        expect![[r#"
        c joins politely: c is to be c3
        a beats: a ok
        c joins politely: c is to be c4
        c leaves: c ok
        b beats: b ok
    "#]],
    );
}

#[test]
fn a_restart_of_the_broker_goes_unnoticed() {
    stable(&["a", "b"]).then(
        "the broker restarts; describe; a beats; b beats; b commits; a syncs; 9s; a beats; b beats",
        expect![[r#"
            describe: Stable "range" [a1=0 b2=1]
            a beats: a ok
            b beats: b ok
            b commits: b ok
            a syncs: a has [0]
            a beats: a ok
            b beats: b ok
        "#]],
    );
    stable(&["a", "b"]).then(
        "the broker restarts; 11s; describe; a beats",
        expect![[r#"
        describe: Empty "" []
        a beats: a UnknownMember
    "#]],
    );
    stable(&["a", "b"]).then(
        "the broker restarts; b joins; a joins; b beats; b joins",
        expect![[r#"
        b joins: b is b2 in 1 led by a1 range[]
        b beats: b RebalanceInProgress
        b joins: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
    "#]],
    );
    // A generation that nobody was assigned anything in is lost.
    stable(&["a", "b"]).then(
        "c joins; a joins; b joins; the broker restarts; c beats; a beats; a commits; a joins",
        expect![[r#"
            b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
            c beats: c UnknownMember
            a beats: a IllegalGeneration
            a commits: a IllegalGeneration
        "#]],
    );
    stable(&["a", "b"]).then(
        "a b leaves; the broker restarts; describe; c joins; 6s",
        expect![[r#"
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
    stable(&["a", "b"]).then(
        "c joins; a joins; b joins; d joins; e joins; c leaves; e joins",
        expect![[r#"
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
    joined(&["a", "b"]).then(
        "b syncs; the broker stops; a syncs",
        expect![[r#"
        the broker stops: b syncs: Stopping
        a syncs: a syncs: Stopping
    "#]],
    );
    stable(&["a static=s"]).then(
        "a restarts; the disk waits; a joins; the broker stops",
        expect![[r#"
            the broker stops: a joins: Stopping
        "#]],
    );
}

//! Static members: who has an instance id, and for how long.

use expect_test::expect;

use super::{check, joined, stable};

#[test]
fn a_static_member_keeps_its_place() {
    stable(&["a static=s", "b"]).then(
        "a restarts; a joins; a syncs; b beats",
        expect![[r#"
            a joins: a is a3 in 1 led by a1 range[]
            a syncs: a has [0]
            b beats: b ok
        "#]],
    );
    stable(&["a static=s"]).then(
        "a restarts; a joins skipping; a syncs; a beats",
        expect![[r#"
        a joins skipping: a is a2 in 1 led by a2 range[a2] skips
        a syncs: a has [0]
        a beats: a ok
    "#]],
    );
    // Its new id must be durable before it hears of it.
    stable(&["a static=s"]).then(
        "a restarts; the disk waits; a joins; the broker restarts; the disk works; a joins; a syncs; a beats",
        expect![[r#"
            a joins: a is a3 in 1 led by a1 range[]
            a syncs: a has [0]
            a beats: a ok
        "#]],
    );
    stable(&["a static=s"]).then(
        "a restarts; the disk waits; a joins; the disk fails; a joins",
        expect![[r#"
            the disk fails: a joins: NotStored
        "#]],
    );
    // Another protocol, or a rebalance under way: everybody joins again.
    stable(&["a static=s knows=x,y", "b static=t knows=x,y"]).then(
        "b restarts; b joins knows=y; a beats; a joins knows=x,y",
        expect![[r#"
            a beats: a RebalanceInProgress
            a joins knows=x,y: a is a1 in 2 led by a1 y[a1 b3], b is b3 in 2 led by a1 y[]
        "#]],
    );
    joined(&["a static=s", "b"]).then(
        "b syncs; a restarts; a joins; b joins",
        expect![[r#"
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

/// Java's client takes FENCED_INSTANCE_ID for the end.
#[test]
fn who_was_told_its_id_in_a_rebalance_is_not_fenced_after_a_crash() {
    stable(&["a static=s", "b"]).then(
        "c joins; a restarts; a joins; b joins; the broker restarts; a beats; a joins; b joins",
        expect![[r#"
            b joins: a is a4 in 2 led by a4 range[a4 b2 c3], b is b2 in 2 led by a4 range[], c is c3 in 2 led by a4 range[]
            a beats: a IllegalGeneration
            b joins: a is a4 in 2 led by a4 range[a4 b2], b is b2 in 2 led by a4 range[]
        "#]],
    );
    // While the leader assigns.
    joined(&["a", "b static=s"]).then(
        "a syncs a=0 b=1; b syncs; c joins; a joins; b joins; b restarts; b joins; a joins; c joins; \
         the broker restarts; b beats",
        expect![[r#"
            a syncs a=0 b=1: a has [0]
            b syncs: b has [1]
            b joins: a is a1 in 2 led by a1 range[a1 b2 c3], b is b2 in 2 led by a1 range[], c is c3 in 2 led by a1 range[]
            c joins: a is a1 in 3 led by a1 range[a1 b6 c3], b is b6 in 3 led by a1 range[], c is c3 in 3 led by a1 range[]
            b beats: b IllegalGeneration
        "#]],
    );
    // The group has forgotten the member in the meantime, what is stored has not.
    stable(&["a static=s", "b"]).then(
        "a leaves; a restarts; a joins; b joins; the broker restarts; a beats; describe",
        expect![[r#"
            a leaves: a ok
            b joins: b is b2 in 2 led by b2 range[b2 a3], a is a3 in 2 led by b2 range[]
            a beats: a IllegalGeneration
            describe: Stable "range" [a3=0 b2=1]
        "#]],
    );
    // Nothing is stored of the instance: whoever has it begins anew.
    stable(&["a"]).then(
        "b joins static=s; a joins; the broker restarts; b beats; a beats",
        expect![[r#"
            a joins: a is a1 in 2 led by a1 range[a1 b2], b is b2 in 2 led by a1 range[]
            b beats: b UnknownMember
            a beats: a IllegalGeneration
        "#]],
    );
}

#[test]
fn who_was_replaced_in_a_rebalance_stays_fenced_after_a_crash() {
    stable(&["a static=s", "b"]).then(
        "c joins; d joins static=s; b joins; the broker restarts; a beats; a joins; a commits; d beats",
        expect![[r#"
            b joins: d is d4 in 2 led by d4 range[d4 b2 c3], b is b2 in 2 led by d4 range[], c is c3 in 2 led by d4 range[]
            a beats: a FencedInstance
            a joins: a joins: FencedInstance
            a commits: a FencedInstance
            d beats: d IllegalGeneration
        "#]],
    );
}

#[test]
fn a_rebalance_waits_for_ids_to_be_stored() {
    stable(&["a static=s", "b"]).then(
        "c joins; a restarts; the disk waits; a joins; b joins; the disk works",
        expect![[r#"
            the disk works: a is a4 in 2 led by a4 range[a4 b2 c3], b is b2 in 2 led by a4 range[], c is c3 in 2 led by a4 range[]
        "#]],
    );
    stable(&["a static=s", "b"]).then(
        "c joins; a restarts; the disk waits; a joins; b joins; the disk fails; a joins; the disk works",
        expect![[r#"
            the disk fails: a joins: NotStored
            the disk works: a is a6 in 2 led by a6 range[a6 b2 c3], b is b2 in 2 led by a6 range[], c is c3 in 2 led by a6 range[]
        "#]],
    );
    // The first one, too; and not for ever.
    check(
        "the disk waits; a joins static=s; 6s; describe; the disk works",
        expect![[r#"
            describe: Preparing "" [a1=]
            the disk works: a is a1 in 1 led by a1 range[a1]
        "#]],
    );
    stable(&["a static=s session=100 rebalance=20", "b rebalance=20"]).then(
        "c joins rebalance=20; a restarts; the disk waits; a joins session=100 rebalance=20; \
         b joins rebalance=20; 20s; the disk works; b syncs a=0 b=1; a syncs",
        expect![[r#"
            20s: b is b2 in 2 led by b2 range[a4 b2 c3], c is c3 in 2 led by b2 range[]
            the disk works: a is a4 in 2 led by b2 range[]
            b syncs a=0 b=1: b has [1]
            a syncs: a has [0]
        "#]],
    );
    // Who is sent away while it waits.
    stable(&["a static=s", "b"]).then(
        "a restarts; the disk waits; a joins; s is removed; the disk works",
        expect![[r#"
            s is removed: s ok, a joins: UnknownMember
        "#]],
    );
}

#[test]
fn a_place_in_a_full_group_is_kept() {
    stable(&["a static=s", "b", "c", "d"]).then(
        "e joins static=t; a restarts; a joins; a syncs",
        expect![[r#"
            e joins static=t: e joins: GroupFull
            a joins: a is a6 in 1 led by a1 range[]
            a syncs: a has [0]
        "#]],
    );
    check(
        "the disk waits; a joins static=a; b joins static=b; c joins static=c; d joins static=d; \
         e joins static=e; a restarts; a joins",
        expect![[r#"
            e joins static=e: e joins: GroupFull
            a joins: a joins: FencedInstance
        "#]],
    );
}

#[test]
fn nobody_is_invited_under_an_instance_id() {
    check(
        "a joins politely; a joins static=s; b joins politely static=s; 6s",
        expect![[r#"
            a joins politely: a is to be a1
            a joins static=s: a joins: UnknownMember
            6s: b is b3 in 1 led by b3 range[b3]
        "#]],
    );
}

#[test]
fn of_two_with_one_instance_id_the_older_is_fenced() {
    stable(&["a static=s"]).then(
        "b joins static=s; a beats; a syncs; a commits; a leaves; a joins",
        expect![[r#"
            b joins static=s: b is b2 in 1 led by a1 range[]
            a beats: a FencedInstance
            a syncs: a syncs: FencedInstance
            a commits: a FencedInstance
            a leaves: a FencedInstance
            a joins: a joins: FencedInstance
        "#]],
    );
    joined(&["a static=s", "c"]).then(
        "a beats; b joins static=s; a beats; c joins",
        expect![[r#"
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
    joined(&["a static=s", "c"]).then(
        "c syncs; b joins static=s; a syncs; c joins",
        expect![[r#"
        b joins static=s: c syncs: RebalanceInProgress
        a syncs: a syncs: FencedInstance
        c joins: b is b3 in 2 led by b3 range[b3 c2], c is c2 in 2 led by b3 range[]
    "#]],
    );
    stable(&["a"]).then(
        "s is removed; b joins static=s as=a1",
        expect![[r#"
        s is removed: s UnknownMember
        b joins static=s as=a1: b joins: UnknownMember
    "#]],
    );
    // Twice, before the first can be told its id.
    stable(&["a static=s"]).then(
        "the disk waits; b joins static=s; c joins static=s; the disk works",
        expect![[r#"
            c joins static=s: b joins: FencedInstance
            the disk works: c is c3 in 1 led by b2 range[]
        "#]],
    );
}

#[test]
fn static_members_are_missed_only_when_their_session_ends() {
    stable(&["a static=s session=30", "b"]).then(
        "b leaves; 61s; describe",
        expect![[r#"
            b leaves: b ok
            describe: Empty "" []
        "#]],
    );
    stable(&["a static=s session=100", "b"]).then(
        "c joins; b joins; 61s; describe; b syncs b=0 c=1; describe",
        expect![[r#"
            61s: b is b2 in 2 led by b2 range[a1 b2 c3], c is c3 in 2 led by b2 range[]
            describe: Completing "" [a1= b2= c3=]
            b syncs b=0 c=1: b has [0]
            describe: Stable "range" [a1= b2=0 c3=1]
        "#]],
    );
    stable(&["a static=s", "b"]).then(
        "s is removed; s is removed; b joins",
        expect![[r#"
            s is removed: s ok
            s is removed: s UnknownMember
            b joins: b is b2 in 2 led by b2 range[b2]
        "#]],
    );
    // One that has asked for rebalances without patience.
    stable(&["a static=s rebalance=0", "b"]).then(
        "b leaves; 3s; describe; a beats; a joins",
        expect![[r#"
            b leaves: b ok
            describe: Preparing "" [a1=]
            a beats: a RebalanceInProgress
            a joins: a is a1 in 2 led by a1 range[a1]
        "#]],
    );
}

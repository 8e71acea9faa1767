//! A log that is asked by another shard's clients.

use super::*;
use crate::group::testing::join;

/// Calls of one shard to the other that may be under way.
const CREDITS: usize = 2;
const MEMBERS: u32 = 10;

/// A shard without logs, whose clients ask, and the log's.
struct Pair {
    office: Arc<PostOffice>,
    asking: Shard,
    host: Shard,
    _folder: TempDir,
}

impl Pair {
    fn new() -> Pair {
        let Rig { folder, hosted, catalog, .. } = Rig::new(&[]);
        let office = PostOffice::with_credits(2, CREDITS);
        let host = ShardId(1);
        Pair {
            asking: shard(ShardId(0), &office, &[host; 2], Vec::new(), catalog.clone()),
            host: shard(host, &office, &[host; 2], vec![hosted], catalog),
            office,
            _folder: folder,
        }
    }

    fn ask(&mut self, client: u32, call: Call) {
        let conn = ConnId { index: client, generation: 0 };
        self.asking.call(LOG, Ticket { conn, request: 0, part: 0 }, call, NOW);
    }

    /// Turns, until no mail is under way. Returns the clients that are answered, and what they hear.
    fn run(&mut self, now: Now) -> Vec<(u32, Answer)> {
        let mut news = News::default();
        let mut any = true;
        while std::mem::take(&mut any) {
            for shard in [&mut self.asking, &mut self.host] {
                shard.receive(now, &mut news);
                shard.apply_durable(now, &mut news);
                any |= self.office.has_mail(ShardId(0)) || self.office.has_mail(ShardId(1));
            }
        }
        news.answers.into_iter().map(|(ticket, answer)| (ticket.conn.index, answer)).collect()
    }
}

#[test]
fn members_that_wait_for_each_other_keep_nobody_waiting() {
    let mut pair = Pair::new();
    let call = || Call::Group { group: "g".into(), call: GroupCall::Join(Box::new(join())) };
    (0..MEMBERS).for_each(|member| pair.ask(member, call()));
    pair.ask(MEMBERS, Call::ListGroups);
    let answers = pair.run(NOW);
    assert!(matches!(&answers[..], [(MEMBERS, Answer::ListGroups(_))]), "{answers:?}");
    assert_eq!(pair.asking.calls_waiting(), 0);

    let mut joined = Vec::new();
    for seconds in [4, 8, 61] {
        joined.extend(pair.run(Now { mono: NOW.mono.plus(Duration::from_secs(seconds)), ..NOW }));
    }
    let mut sees: Vec<(u32, usize)> = joined
        .iter()
        .map(|(member, answer)| match answer {
            Answer::Joined(joined) => {
                (*member, joined.as_ref().as_ref().expect("a generation").members.len())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    sees.sort_unstable();
    let leader = |member| if member == 0 { MEMBERS as usize } else { 0 };
    assert!(sees.iter().copied().eq((0..MEMBERS).map(|member| (member, leader(member)))), "{sees:?}");
}

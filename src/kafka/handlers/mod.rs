//! One file an API: a request becomes calls to logs, their answers become the response.
//!
//! A handler never waits and never enters the kernel. It either answers at once ([`Outcome::Reply`])
//! or names its calls and leaves a [`Pending`] behind, which hears the answers and then encodes.
//!
//! Timeouts in requests are not looked at: nothing here takes long but a disk that fails, and then the
//! calls fail too.

pub mod alter_configs;
pub mod api_versions;
mod config_changes;
pub mod config_value;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_topic_partitions;
pub mod describe_user_scram_credentials;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
mod replies;
pub mod sync_group;
#[cfg(test)]
pub(crate) mod testing;

use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::context::Context;
use crate::kafka::protocol::wire::Writer;
use crate::model::LogId;
use crate::shard::call::{Answer, Call};

/// Calls that a request with many of them, each with an answer that may be large, has under way.
const ASKED_AT_ONCE: usize = 8;

/// What became of a request.
pub enum Outcome {
    /// The response body was written.
    Reply,
    /// These calls go out; `pending` gets an answer for each, `part` being its index here. With no
    /// calls the response is encoded at once.
    Wait { calls: Vec<(LogId, Call)>, pending: Box<dyn Pending> },
    /// The peer broke the protocol in a way that has no response.
    Close(&'static str),
}

/// A request whose calls are under way.
pub trait Pending {
    /// The answer to call `part`. May ask for further calls, which are numbered on from the last.
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)>;

    /// All answers are here: write the response body. `ctx` is that of the turn in which the last one
    /// came, or of a later one, so that what the calls changed can be seen.
    fn encode(&mut self, ctx: &Context<'_>, out: &mut Writer<'_>);

    /// What the answers hold until then, if that can be much: it is kept up to date with the memory that
    /// there is.
    fn room(&mut self) -> Option<&mut AnswerRoom> {
        None
    }

    /// What it takes to answer, if that does not follow from the request's bytes and the calls made so far; in
    /// about nanoseconds.
    fn cost(&self) -> usize {
        0
    }
}

/// Lets the calls go out, or answers at once if there are none.
fn wait(
    ctx: &Context<'_>,
    calls: Vec<(LogId, Call)>,
    mut pending: impl Pending + 'static,
    out: &mut Writer<'_>,
) -> Outcome {
    if calls.is_empty() {
        pending.encode(ctx, out);
        return Outcome::Reply;
    }
    Outcome::Wait { calls, pending: Box::new(pending) }
}

/// A shard answered another question than it was asked.
#[cold]
fn unexpected(answer: &Answer) -> ! {
    panic!("no answer to any call of this request: {answer:?}")
}

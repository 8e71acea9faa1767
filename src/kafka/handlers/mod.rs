//! One file an API: a request becomes calls to logs, their answers become the response.
//!
//! A handler never waits and never enters the kernel. It either answers at once ([`Outcome::Reply`])
//! or names its calls and leaves a [`Pending`] behind, which hears the answers and then encodes.

use crate::kafka::protocol::wire::Writer;
use crate::model::{LogId, Now};
use crate::shard::call::{Answer, Call};

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

    /// All answers are here: write the response body.
    fn encode(&mut self, now: Now, out: &mut Writer<'_>);
}

//! SIGINT and SIGTERM: the first ends the load in order, with what was measured; a second one ends the
//! process at once.

use std::convert::Infallible;
use std::future::pending;
use std::io::Write;
use std::process;
use std::thread;

use anyhow::Context;

use crate::admin::signal::{Cause, EXIT_CODE, Termination};
use crate::bench::Interrupt;

/// What the first signal sets. Install before anything is started that would have to be ended.
pub fn interrupt_on_signal() -> anyhow::Result<Interrupt> {
    let install = || -> std::io::Result<Interrupt> {
        let mut termination = Termination::install()?;
        let interrupt = Interrupt::default();
        let told = interrupt.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let name = next(&mut termination);
            told.set(name);
            // Nobody may be there to read it.
            let _ =
                writeln!(std::io::stderr(), "\n{name}: ending; a second one ends at once, without a result");
            next(&mut termination);
            // A broker of ours ends with us.
            process::exit(EXIT_CODE);
        })?;
        Ok(interrupt)
    };
    install().context("cannot wait for signals")
}

fn next(termination: &mut Termination) -> &'static str {
    match termination.wait_or(pending::<Infallible>()) {
        Cause::Signal(name) => name,
        Cause::Other(never) => match never {},
    }
}

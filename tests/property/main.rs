//! Laws of the Kafka codec, for every API and version.
//!
//! `oracle`: another implementation reads and writes the same. `hostile`: no bytes make the decoder panic
//! or take memory that they do not pay for. `docs`: the protocol table is what the code supports.

mod docs;
mod generator;
mod hostile;
mod oracle;
mod random;

//! Placeholder until the branch lands.

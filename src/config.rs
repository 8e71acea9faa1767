//! One configuration; every value knows where it came from.

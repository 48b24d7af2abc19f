//! Forebay's binary.
fn main() {}

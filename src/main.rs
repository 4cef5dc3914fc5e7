//! The binary: everything happens in [`metergate::cli`].

fn main() {}

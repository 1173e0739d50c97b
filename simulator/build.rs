//! Chooses the simulated atomics for the shipped files that this package compiles.

fn main() {
    println!("cargo::rustc-cfg=shmslot_sim");
    println!("cargo::rerun-if-changed=build.rs");
}

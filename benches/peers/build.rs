//! Compiles the shim for Boost, and finds ZeroMQ.

fn main() {
    println!("cargo::rerun-if-changed=shims/boost.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .file("shims/boost.cpp")
        .compile("boost_shim");
    println!("cargo::rustc-link-lib=zmq");
    println!("cargo::rustc-link-lib=rt");
}

//! Compiles `proto/` with protox, so that no protoc has to be installed.
//!
//! The path is relative to the package, where build scripts run: an absolute one would be remembered in a target folder
//! that several clones share, and changes in another clone go unnoticed.

const PROTO: &str = "../../proto";

const FILES: [&str; 3] = ["peer.proto", "time.proto", "admin.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let descriptors = protox::compile(FILES, [PROTO])?;
    tonic_prost_build::configure().bytes(".").build_transport(true).compile_fds(descriptors)?;
    Ok(())
}

//! Compiles `proto/` with protox, so that no protoc has to be installed.

use std::path::Path;

const FILES: [&str; 3] = ["peer.proto", "time.proto", "admin.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES, [&root])?;
    tonic_prost_build::configure().bytes(".").build_transport(true).compile_fds(descriptors)?;
    Ok(())
}

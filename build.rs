//! Compiles the proto files in Rust alone, so that no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost_types::FileDescriptorSet;

const PROTO: &str = "usher/v1/notification.proto";
/// Not among the descriptors: no service of ours speaks it.
const CENTRIFUGE: &str = "centrifuge/client.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files: FileDescriptorSet = protox::compile([PROTO], ["proto"])?;

    // Reflection serves this descriptor set.
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("usher.v1.bin");
    fs::write(&descriptors, prost::Message::encode_to_vec(&files))?;

    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(files)?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .compile_fds(protox::compile([CENTRIFUGE], ["proto"])?)?;
    Ok(())
}

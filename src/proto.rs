//! The messages and stubs generated from `proto/usher/v1/notification.proto`, and the
//! messages of `proto/centrifuge/client.proto`.

#![allow(missing_docs, reason = "generated code; the proto file documents it")]

tonic::include_proto!("usher.v1");

/// The encoded descriptors of `usher.v1`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/usher.v1.bin"));

/// The Centrifuge client protocol, as far as Usher speaks it.
pub mod centrifuge {
    tonic::include_proto!("centrifuge");
}

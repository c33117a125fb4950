//! Whatever a client of the Centrifuge protocol says in Protobuf → commands, or the end of its
//! session. A length that promises more than there is costs no memory.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tungstenite::Message;
use usher::{close::CloseReason, frame::Protocol, http::fuzzing::commands};
use usher_fuzz::{centrifuge, protobuf};

fuzz_target!(|input: &[u8]| {
    let message = Message::binary(Bytes::copy_from_slice(input));
    let crossed = commands(Protocol::CentrifugeJson, &message);
    assert_eq!(crossed, Err(CloseReason::BadFrame));
    let written = protobuf::messages(input);
    let read = match commands(Protocol::CentrifugeProtobuf, &message) {
        Ok(read) => read,
        Err(CloseReason::BadFrame) => return,
        Err(CloseReason::TooManyFrames) => {
            assert!(written.is_none_or(|written| written.len() > centrifuge::MOST));
            return;
        }
        Err(other) => panic!("{other:?}"),
    };
    assert!(read.len() <= centrifuge::MOST);
    let written = written.expect("each behind its length");
    assert_eq!(written.len(), read.len());
    assert!(centrifuge::encoded(&read).len() <= input.len());
    centrifuge::survive_protobuf(&read);
});

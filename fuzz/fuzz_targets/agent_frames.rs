//! Any bytes as frames: the two ways of reading them agree, and what they give is written as it was understood.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx_proto::{
    AgentReply, AgentRequest, ControlReply, ControlRequest, FrameDecoder, encode_frame, read_frame,
};
use serde::{Serialize, de::DeserializeOwned};

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(piece: usize, bytes: &[u8]) {
    let mut blocking = Vec::new();
    let mut reader = bytes;
    while let Ok(message) = read_frame::<T>(&mut reader) {
        let frame = encode_frame(&message).expect("what was read fits into a frame");
        assert_eq!(read_frame::<T>(&mut frame.as_slice()).expect("what was written can be read"), message);
        blocking.push(message);
    }
    let mut pieces = Vec::new();
    let mut decoder = FrameDecoder::new();
    'stream: for piece in bytes.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.next_frame::<T>() {
                Ok(Some(message)) => pieces.push(message),
                Ok(None) => break,
                Err(_) => break 'stream,
            }
        }
    }
    assert_eq!(blocking, pieces);
}

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let piece = usize::from(*piece).max(1);
    check::<AgentRequest>(piece, bytes);
    check::<AgentReply>(piece, bytes);
    check::<ControlRequest>(piece, bytes);
    check::<ControlReply>(piece, bytes);
});

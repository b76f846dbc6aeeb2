//! A frame of the stream tunnel, and the request that it may hold.
#![no_main]

use api::tunnel::{ConnectRequest, Frame};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: { fuzz::seed(fuzz::hex_column(fuzz::FRAMES, "frame_hex")) },
    |data: &[u8]| {
        let Ok(frame) = Frame::decode(Bytes::copy_from_slice(data)) else { return };
        let bytes = frame.encode().expect("what was read can be written");
        assert_eq!(Frame::decode(bytes).as_ref(), Ok(&frame));

        let Ok(request) = ConnectRequest::decode(&frame) else { return };
        let again = request.encode(frame.kind).expect("what was read can be written");
        assert_eq!(ConnectRequest::decode(&again).expect("it can be read"), request);
        if let Ok(line) = request.path_and_query() {
            // It goes into the first line of an HTTP request.
            assert!(line.starts_with('/') && line.bytes().all(|b| b.is_ascii_graphic()), "{line:?}");
        }
    }
);

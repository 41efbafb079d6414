//! Frames and messages as the two sides see them.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sbx_proto::{
    AgentReply, AgentRequest, BootConfig, ControlReply, ControlRequest, ExecRequest, Exit, FrameDecoder,
    FrameError, Home, MAX_CHUNK_BYTES, MAX_FRAME_BYTES, Mount, Network, PlacedFile, RefusedKind, Registry,
    User, WindowSize, encode_frame, read_frame, write_frame,
};
use serde::{Serialize, de::DeserializeOwned};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn environment() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    vec((bytes(), bytes()), 0..4)
}

fn window_size() -> impl Strategy<Value = WindowSize> {
    any::<(u16, u16)>().prop_map(|(rows, columns)| WindowSize { rows, columns })
}

fn exec_request() -> impl Strategy<Value = ExecRequest> {
    let user = option::of(any::<String>());
    (vec(bytes(), 0..4), environment(), option::of(bytes()), user, option::of(window_size()), any::<bool>())
        .prop_map(|(arguments, environment, directory, user, terminal, stdin)| ExecRequest {
            arguments,
            environment,
            directory,
            user,
            terminal,
            stdin,
        })
}

fn agent_request() -> impl Strategy<Value = AgentRequest> {
    prop_oneof![
        exec_request().prop_map(|request| AgentRequest::Exec(Box::new(request))),
        bytes().prop_map(AgentRequest::Stdin),
        Just(AgentRequest::StdinEnd),
        window_size().prop_map(AgentRequest::Resize),
        any::<i32>().prop_map(AgentRequest::Signal),
    ]
}

fn agent_reply() -> impl Strategy<Value = AgentReply> {
    let kind =
        prop_oneof![Just(RefusedKind::NotFound), Just(RefusedKind::NotExecutable), Just(RefusedKind::Failed)];
    prop_oneof![
        any::<u32>().prop_map(|pid| AgentReply::Started { pid }),
        (kind, any::<String>()).prop_map(|(kind, message)| AgentReply::Refused { kind, message }),
        bytes().prop_map(AgentReply::Stdout),
        bytes().prop_map(AgentReply::Stderr),
        any::<u32>().prop_map(|bytes| AgentReply::StdinWindow { bytes }),
        Just(AgentReply::StdinClosed),
        any::<u8>().prop_map(|code| AgentReply::Exited(Exit::Code(code))),
        any::<i32>().prop_map(|signal| AgentReply::Exited(Exit::Signal(signal))),
    ]
}

fn boot_config() -> impl Strategy<Value = BootConfig> {
    let user = (any::<String>(), any::<u32>(), any::<u32>(), bytes())
        .prop_map(|(name, uid, gid, home)| User { name, uid, gid, home });
    let mount = (any::<String>(), bytes(), any::<bool>(), vec(bytes(), 0..3))
        .prop_map(|(share, at, read_only, protected)| Mount { share, at, read_only, protected });
    let system = (any::<String>(), any::<u64>(), user, any::<String>());
    let root = (vec(placed_file(), 0..3), any::<bool>(), any::<bool>(), vec(bytes(), 0..3));
    let outside = (option::of(network()), any::<bool>(), vec(any::<String>(), 0..3), root);
    (system, vec(mount, 0..3), environment(), bytes(), outside).prop_map(
        |(
            (hostname, unix_nanoseconds, user, shares_tag),
            mounts,
            environment,
            directory,
            (network, registries, certificates, (files, own_home, fresh_root, setup_directories)),
        )| {
            BootConfig {
                hostname,
                unix_nanoseconds,
                user,
                shares_tag,
                mounts,
                environment,
                directory,
                network,
                registries,
                certificates,
                files,
                home: if own_home { Home::OfItsOwn } else { Home::InRoot },
                fresh_root,
                setup_directories,
            }
        },
    )
}

fn placed_file() -> impl Strategy<Value = PlacedFile> {
    any::<(Vec<u8>, Vec<u8>)>().prop_map(|(path, content)| PlacedFile { path, content })
}

fn registry() -> impl Strategy<Value = Registry> {
    any::<(String, String, String, u16)>().prop_map(|(client, source, host, port)| Registry {
        client,
        source,
        host,
        port,
    })
}

fn network() -> impl Strategy<Value = Network> {
    let addresses = || vec(any::<IpAddr>(), 0..3);
    let card = (any::<[u8; 6]>(), any::<u32>(), vec(any::<(IpAddr, u8)>(), 0..3));
    let names = (vec(any::<String>(), 0..3), vec(any::<(IpAddr, String)>(), 0..3));
    (card, addresses(), addresses(), names).prop_map(
        |((mac, mtu, addresses), gateways, name_servers, (search, hosts))| Network {
            mac,
            mtu,
            addresses,
            gateways,
            name_servers,
            search,
            hosts,
        },
    )
}

fn control_request() -> impl Strategy<Value = ControlRequest> {
    prop_oneof![
        boot_config().prop_map(|config| ControlRequest::Boot(Box::new(config))),
        any::<u64>().prop_map(|unix_nanoseconds| ControlRequest::SetClock { unix_nanoseconds }),
        any::<u32>().prop_map(|grace_milliseconds| ControlRequest::PowerOff { grace_milliseconds }),
    ]
}

fn control_reply() -> impl Strategy<Value = ControlReply> {
    prop_oneof![
        any::<u16>().prop_map(|version| ControlReply::Hello { version }),
        Just(ControlReply::Ready),
        any::<(String, String)>().prop_map(|(stage, message)| ControlReply::Failed { stage, message }),
        any::<String>().prop_map(|message| ControlReply::Warning { message }),
        vec(registry(), 0..3).prop_map(|registries| ControlReply::Registries { registries }),
    ]
}

/// Writes all messages to one stream, and reads them back in both ways: blocking, and in pieces of `piece` bytes.
fn round_trip<T>(messages: &[T], piece: usize) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let mut stream = Vec::new();
    for message in messages {
        write_frame(&mut stream, message).unwrap();
    }
    let mut reader = stream.as_slice();
    for message in messages {
        prop_assert_eq!(&read_frame::<T>(&mut reader).unwrap(), message);
    }
    prop_assert!(matches!(read_frame::<T>(&mut reader), Err(FrameError::Closed)));

    let mut decoder = FrameDecoder::new();
    let mut decoded = Vec::new();
    for piece in stream.chunks(piece) {
        decoder.push(piece);
        while let Some(message) = decoder.next_frame::<T>().unwrap() {
            decoded.push(message);
        }
    }
    prop_assert!(decoder.is_between_frames());
    prop_assert_eq!(decoded.as_slice(), messages);
    Ok(())
}

proptest! {
    #[test]
    fn agent_requests_round_trip(messages in vec(agent_request(), 0..5), piece in 1_usize..50) {
        round_trip(&messages, piece)?;
    }

    #[test]
    fn agent_replies_round_trip(messages in vec(agent_reply(), 0..5), piece in 1_usize..50) {
        round_trip(&messages, piece)?;
    }

    #[test]
    fn control_requests_round_trip(messages in vec(control_request(), 0..5), piece in 1_usize..50) {
        round_trip(&messages, piece)?;
    }

    #[test]
    fn control_replies_round_trip(messages in vec(control_reply(), 0..5), piece in 1_usize..50) {
        round_trip(&messages, piece)?;
    }

    #[test]
    fn garbage_is_refused_without_harm(garbage in vec(any::<u8>(), 0..200)) {
        let _ = read_frame::<AgentRequest>(&mut garbage.as_slice());
        let _ = read_frame::<AgentReply>(&mut garbage.as_slice());
        let _ = read_frame::<ControlRequest>(&mut garbage.as_slice());
        let _ = read_frame::<ControlReply>(&mut garbage.as_slice());
    }
}

#[test]
fn a_stream_that_ends_inside_a_frame_has_failed() {
    let frame = encode_frame(&AgentRequest::Stdin(vec![1, 2, 3])).unwrap();
    for length in 1..frame.len() {
        let error = read_frame::<AgentRequest>(&mut &frame[..length]).unwrap_err();
        assert!(matches!(error, FrameError::Io { .. }), "{length}: {error:?}");
    }
}

#[test]
fn a_frame_that_is_too_long_is_refused_before_it_is_there() {
    let header = u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_le_bytes();
    assert!(matches!(read_frame::<AgentReply>(&mut header.as_slice()), Err(FrameError::TooLong { .. })));
    let mut decoder = FrameDecoder::new();
    decoder.push(&header);
    assert!(matches!(decoder.next_frame::<AgentReply>(), Err(FrameError::TooLong { .. })));
    let too_long = AgentReply::Stdout(vec![0; MAX_FRAME_BYTES]);
    assert!(matches!(encode_frame(&too_long), Err(FrameError::TooLong { .. })));
    assert!(encode_frame(&AgentReply::Stdout(vec![0; MAX_CHUNK_BYTES])).is_ok());
}

/// A vector that claims to be longer than its frame must not be believed when memory is set aside for it.
#[test]
fn a_length_that_lies_is_refused() {
    let body = [2, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend(body);
    assert!(matches!(read_frame::<AgentRequest>(&mut frame.as_slice()), Err(FrameError::Malformed { .. })));
}

/// What is on the wire. If this fails, the change needs a new [`sbx_proto::VERSION`].
#[test]
fn the_wire_format_is_what_version_5_says() {
    let frame = |message: &AgentRequest| encode_frame(message).unwrap();
    assert_eq!(frame(&AgentRequest::Stdin(vec![7, 8])), [4, 0, 0, 0, 2, 2, 7, 8]);
    assert_eq!(frame(&AgentRequest::StdinEnd), [1, 0, 0, 0, 3]);
    assert_eq!(
        frame(&AgentRequest::Resize(WindowSize { rows: 24, columns: 300 })),
        [4, 0, 0, 0, 4, 24, 0xac, 2]
    );
    assert_eq!(frame(&AgentRequest::Signal(15)), [2, 0, 0, 0, 5, 30]);
    assert_eq!(encode_frame(&AgentReply::Stderr(vec![9])).unwrap(), [3, 0, 0, 0, 3, 1, 9]);
    assert_eq!(encode_frame(&AgentReply::Exited(Exit::Signal(9))).unwrap(), [3, 0, 0, 0, 6, 1, 18]);
    assert_eq!(encode_frame(&ControlReply::Hello { version: 1 }).unwrap(), [2, 0, 0, 0, 0, 1]);
    assert_eq!(encode_frame(&ControlReply::Ready).unwrap(), [1, 0, 0, 0, 1]);
    assert_eq!(
        encode_frame(&ControlRequest::PowerOff { grace_milliseconds: 1 }).unwrap(),
        [2, 0, 0, 0, 2, 1]
    );
}

//! Registries that fail, hang and lie.

use std::time::{Duration, Instant};

use sbx_image::progress::{LayerEvent, Note};

use crate::TestStore;
use crate::image::{Packing, TestImage, noise, tar_of};
use crate::server::{Ending, Reply, Server};

const SIZE: usize = 3 << 20;

/// Pulls an image of [`SIZE`] bytes whose first blob request ends badly; gives the ranges that were asked for.
fn ranges_after(ending: Ending) -> Vec<String> {
    let image = TestImage::of_bytes(SIZE);
    let layer = image.layers[0].to_string();
    let blob = layer.clone();
    let server = Server::with_script(&image, move |request, reply| {
        if request.path.ends_with(&blob) && request.earlier == 0 { reply.ending(ending) } else { reply }
    });
    let mut test = TestStore::new();
    test.options.network.stall_timeout = Duration::from_millis(300);
    let pulled = test.pull(&server.reference()).unwrap();
    assert_eq!(pulled.new_layers, 1);
    assert!(pulled.downloaded_bytes >= SIZE as u64);
    assert_eq!(test.leftovers(), Vec::<std::path::PathBuf>::new());
    test.assert_sound();
    server.requests(&layer).iter().map(|request| request.header("range").to_owned()).collect()
}

#[test]
fn a_broken_connection_is_continued() {
    for ending in [Ending::Close(1_000_000), Ending::Reset(1_000_000), Ending::Stall(1_000_000)] {
        let ranges = ranges_after(ending);
        assert_eq!(ranges.len(), 2, "{ending:?}: {ranges:?}");
        assert_eq!(ranges[0], "", "{ending:?}");
        // After a reset the kernel may throw away what had not been read yet.
        let expected = if matches!(ending, Ending::Reset(_)) { "bytes=" } else { "bytes=1000000-" };
        let from_start = matches!(ending, Ending::Reset(_)) && ranges[1].is_empty();
        assert!(from_start || ranges[1].starts_with(expected), "{ending:?}: {ranges:?}");
    }
}

#[test]
fn a_server_without_ranges_is_read_again_from_the_start() {
    let image = TestImage::of_bytes(SIZE);
    let layer = image.layers[0].clone();
    let whole = image.blobs[&layer].clone();
    let server = Server::with_script(&image, move |request, mut reply| {
        if !request.path.ends_with(layer.hex()) {
            return reply;
        }
        reply.status = 200;
        reply.body.clone_from(&whole);
        reply.headers.retain(|(name, _)| name != "content-range");
        if request.earlier < 2 { reply.ending(Ending::Close(1_234_567)) } else { reply }
    });
    let test = TestStore::new();
    // The second answer ends where the first one did: nothing new, and yet no reason to give up.
    test.pull(&server.reference()).unwrap();
    test.assert_sound();
}

#[test]
fn a_connection_that_never_works_is_given_up() {
    let image = TestImage::of_bytes(SIZE);
    let server = Server::with_script(&image, |request, reply| {
        if request.is_blob() && reply.body.len() > 1000 { reply.ending(Ending::Close(0)) } else { reply }
    });
    let mut test = TestStore::new();
    test.options.network.attempts = 3;
    let error = test.pull_error(&server.reference());
    assert!(error.contains("the connection"), "{error}");
    assert_eq!(test.heard.notes.lock().unwrap().len(), 2);
    assert!(test.find(&server.reference()).is_none());
}

#[test]
fn wrong_bytes_are_fetched_once_more_and_then_refused() {
    let image = TestImage::of_bytes(SIZE);
    for bad in [1, 2] {
        let layer = image.layers[0].clone();
        let server = Server::with_script(&image, move |request, mut reply| {
            if request.path.ends_with(layer.hex()) && request.earlier < bad {
                reply.body[1_500_000] ^= 1;
            }
            reply
        });
        let test = TestStore::new();
        let result = test.pull(&server.reference());
        assert!(
            test.heard.notes.lock().unwrap().contains(&Note::WrongDigest { digest: image.layers[0].clone() })
        );
        assert_eq!(test.leftovers(), Vec::<std::path::PathBuf>::new());
        match bad {
            1 => assert_eq!(result.unwrap().new_layers, 1),
            _ => {
                let error = crate::with_causes(&result.unwrap_err());
                assert!(error.contains("the copy at the source is damaged"), "{error}");
                assert!(test.find(&server.reference()).is_none());
            }
        }
        test.assert_sound();
    }
}

#[test]
fn longer_than_announced_is_refused() {
    let image = TestImage::of_bytes(1000);
    let layer = image.layers[0].clone();
    let server = Server::with_script(&image, move |request, mut reply| {
        if request.path.ends_with(layer.hex()) {
            reply.body.extend_from_slice(b"more");
        }
        reply
    });
    let error = TestStore::new().pull_error(&server.reference());
    assert!(error.contains("more than the"), "{error}");
}

#[test]
fn a_server_that_asks_to_wait_is_waited_for() {
    let image = TestImage::of_bytes(1000);
    let server = Server::with_script(&image, |request, reply| match request.earlier {
        0 if request.path.ends_with("latest") => Reply::new(
            429,
            "application/json",
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#,
        )
        .with("retry-after", "1"),
        _ => reply,
    });
    let test = TestStore::new();
    let begun = Instant::now();
    test.pull(&server.reference()).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let notes = test.heard.notes.lock().unwrap();
    assert!(
        matches!(&notes[0], Note::Retry { reason, delay_ms: 1000, .. } if reason.contains("slow down")),
        "{notes:?}"
    );
}

#[test]
fn a_server_that_asks_to_wait_for_an_hour_is_not() {
    let image = TestImage::of_bytes(1000);
    let server = Server::with_script(&image, |_, _| {
        Reply::new(429, "text/plain", "limit").with("retry-after", "3600")
    });
    let begun = Instant::now();
    let error = TestStore::new().pull_error(&server.reference());
    assert!(error.contains("come back in 3600 s (rate limit); log in with `docker login`"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn server_errors_are_tried_again_and_then_told() {
    let image = TestImage::of_bytes(1000);
    let server = Server::with_script(&image, |request, reply| {
        if request.earlier < 2 { Reply::new(503, "text/plain", "overloaded\nstack trace") } else { reply }
    });
    TestStore::new().pull(&server.reference()).unwrap();
    let server = Server::with_script(&image, |_, _| Reply::new(500, "text/plain", "no\x1b[31m database"));
    let mut test = TestStore::new();
    test.options.network.attempts = 2;
    let error = test.pull_error(&server.reference());
    assert!(error.ends_with("500 Internal Server Error (no [31m database)"), "{error}");
    assert_eq!(server.requests("latest").len(), 2);
}

#[test]
fn web_pages_are_recognised() {
    let image = TestImage::of_bytes(1000);
    for status in [200, 404, 403, 302] {
        let server = Server::with_script(&image, move |_, _| {
            Reply::new(status, "text/html", "<html>Please log in</html>")
        });
        let error = TestStore::new().pull_error(&server.reference());
        assert!(!error.contains("<html>"), "{error}");
        if [200, 404].contains(&status) {
            assert!(error.contains("the answer is a web page"), "{error}");
        }
    }
}

#[test]
fn a_manifest_is_what_its_digest_says() {
    let image = TestImage::of_bytes(1000);
    let server = Server::with_script(&image, |request, mut reply| {
        if request.path.contains("/manifests/") {
            reply.body.push(b' ');
        }
        reply
    });
    let pinned = format!("{}/test/image@{}", server.host(), image.manifest.as_ref().unwrap());
    let error = TestStore::new().pull_error(&pinned);
    assert!(error.contains("what arrived has the digest"), "{error}");
}

#[test]
fn a_manifest_without_end_is_cut_off() {
    let image = TestImage::of_bytes(1000);
    let server =
        Server::with_script(&image, |_, _| Reply::new(200, "application/json", &" ".repeat(5 << 20)));
    let error = TestStore::new().pull_error(&server.reference());
    assert!(error.contains("more than the 4194304 bytes"), "{error}");
}

#[test]
fn mirrors_are_tried_before_the_registry() {
    let image = TestImage::of_bytes(SIZE);
    let origin = Server::new(&image);
    // One mirror is down, one has another image, one breaks off in the middle of the layer for good.
    let other = Server::new(&TestImage::of_bytes(10));
    let breaking = Server::with_script(&image, |request, reply| {
        if !request.is_blob() || reply.body.len() < 1000 {
            return reply;
        }
        let ending = if request.earlier == 0 { Ending::Close(1_000_000) } else { Ending::Close(0) };
        reply.ending(ending)
    });
    let down = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let mut test = TestStore::new();
    test.options.network.attempts = 2;
    let name = origin.host();
    test.mirrors(&format!(
        "{name}=http://{down},{name}=http://{},{name}=http://{}",
        other.host(),
        breaking.host()
    ));
    let pinned = format!("{name}/test/image@{}", image.manifest.as_ref().unwrap());
    let pulled = test.pull(&pinned).unwrap();
    assert_eq!(Some(pulled.manifest_digest), image.manifest);
    let layer = image.layers[0].to_string();
    assert_eq!(origin.requests(&layer)[0].header("range"), "bytes=1000000-", "what the mirror gave is kept");
    assert_eq!(origin.requests("/manifests/").len(), 0, "the third mirror had the manifest");
    test.assert_sound();
}

#[test]
fn layers_of_all_kinds_and_twice_the_same() {
    let tar = tar_of(&[("a", b"one"), ("big", &noise(100_000, 3))]);
    let image = TestImage::new(&[
        (tar.clone(), Packing::Zstd),
        (tar_of(&[("b", b"two")]), Packing::Plain),
        (tar, Packing::Zstd),
        (tar_of(&[("c", b"three")]), Packing::Gzip),
    ]);
    let server = Server::new(&image);
    let test = TestStore::new();
    let pulled = test.pull(&server.reference()).unwrap();
    assert_eq!((pulled.layers.len(), pulled.new_layers), (4, 3));
    let done =
        test.heard.layers.lock().unwrap().iter().filter(|(_, event)| *event == LayerEvent::Done).count();
    assert_eq!(done, 3);
    let snapshot = test.store.snapshot(&pulled).unwrap();
    assert!(!snapshot.reused && test.store.snapshot(&pulled).unwrap().reused);
    test.assert_sound();
}

#[test]
fn an_image_that_is_stored_needs_no_registry() {
    let image = TestImage::of_bytes(1000);
    let server = Server::new(&image);
    let reference = server.reference();
    let pinned = format!("{}/other/name@{}", server.host(), image.manifest.as_ref().unwrap());
    let test = TestStore::new();
    let pulled = test.pull(&reference).unwrap();
    assert_eq!(test.pull(&reference).unwrap().new_layers, 0);
    assert_eq!(server.requests(image.layers[0].hex()).len(), 1);
    drop(server);
    assert_eq!(test.find(&reference).unwrap().layers, pulled.layers);
    assert_eq!(test.find(&pinned).unwrap().layers, pulled.layers, "a digest means the same under every name");
    assert!(test.find("127.0.0.1:1/test/image:other").is_none());
    let error = test.pull_error(&reference);
    assert!(error.contains("cannot connect: Connection refused"), "{error}");
    assert!(test.find(&reference).is_some());
}

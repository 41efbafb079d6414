//! A registry in the test's own process that can be told to misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::image::TestImage;

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// How many requests for this path came before.
    pub(crate) earlier: usize,
}

/// An answer, good or bad.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) ending: Ending,
}

/// What happens after some bytes of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything is sent.
    Complete,
    /// The connection is closed after so many bytes.
    Close(usize),
    /// The connection is reset after so many bytes.
    Reset(usize),
    /// Nothing more comes after so many bytes.
    Stall(usize),
    /// A pause after every 64 KiB.
    Slow(Duration),
}

type Script = dyn Fn(&Request, Reply) -> Reply + Send + Sync;

/// The server. Stops when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    images: Mutex<BTreeMap<String, Vec<u8>>>,
    script: Box<Script>,
    log: Mutex<Vec<Request>>,
    stopped: AtomicBool,
}

impl Server {
    /// Serves `image` as `test/image:latest` as a registry should.
    pub(crate) fn new(image: &TestImage) -> Self {
        Self::with_script(image, |_, reply| reply)
    }

    /// Serves `image`, each good answer being replaced by what `script` makes of it.
    pub(crate) fn with_script(
        image: &TestImage,
        script: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            images: Mutex::new(image.files("test/image")),
            script: Box::new(script),
            log: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let server = Self { address, state: Arc::clone(&state) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if state.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&state);
                thread::spawn(move || state.serve(stream));
            }
        });
        server
    }

    /// Host and port.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The image's name here.
    pub(crate) fn reference(&self) -> String {
        format!("{}/test/image:latest", self.address)
    }

    /// The paths that were asked for whose names contain `part`.
    pub(crate) fn requests(&self, part: &str) -> Vec<Request> {
        self.state.log.lock().unwrap().iter().filter(|request| request.path.contains(part)).cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

impl Reply {
    /// An answer with a status and a text.
    pub(crate) fn new(status: u16, content_type: &str, body: &str) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: body.as_bytes().to_vec(), ending: Ending::Complete }
    }

    /// The answer with one more header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The answer with another ending.
    pub(crate) fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }
}

impl State {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some((path, headers)) = read_head(&mut reader) {
            let request = {
                let mut log = self.log.lock().unwrap();
                let earlier = log.iter().filter(|request: &&Request| request.path == path).count();
                let request = Request { path, headers, earlier };
                log.push(request.clone());
                request
            };
            let reply = (self.script)(&request, self.good(&request));
            if !send(&mut stream, &reply, &self.stopped) {
                return;
            }
        }
    }

    /// What a registry should say.
    fn good(&self, request: &Request) -> Reply {
        let images = self.images.lock().unwrap();
        if request.path == "/v2/" {
            return Reply::new(200, "application/json", "{}");
        }
        let Some(body) = images.get(&request.path) else {
            let text = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            return Reply::new(404, "application/json", text);
        };
        let mut reply = Reply::new(200, "application/octet-stream", "");
        let offset = request.header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
        match offset.and_then(|offset| offset.parse::<usize>().ok()) {
            Some(offset) if offset < body.len() => {
                reply =
                    reply.with("content-range", &format!("bytes {offset}-{}/{}", body.len() - 1, body.len()));
                reply.status = 206;
                reply.body = body[offset..].to_vec();
            }
            _ => reply.body.clone_from(body),
        }
        reply
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<(String, BTreeMap<String, String>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    // The body of a POST is the token exchange's form; the tests look at the path only.
    if let Some(length) = headers.get("content-length").and_then(|length| length.parse().ok()) {
        let mut body = vec![0; length];
        std::io::Read::read_exact(reader, &mut body).ok()?;
        headers.insert(":body".to_owned(), String::from_utf8_lossy(&body).into_owned());
    }
    Some((path, headers))
}

/// False when the connection is done.
fn send(stream: &mut TcpStream, reply: &Reply, stopped: &AtomicBool) -> bool {
    let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    if stream.write_all(head.as_bytes()).is_err() {
        return false;
    }
    let until = match reply.ending {
        Ending::Complete | Ending::Slow(_) => reply.body.len(),
        Ending::Close(bytes) | Ending::Reset(bytes) | Ending::Stall(bytes) => bytes.min(reply.body.len()),
    };
    for chunk in reply.body[..until].chunks(64 * 1024) {
        if stream.write_all(chunk).is_err() {
            return false;
        }
        if let Ending::Slow(pause) = reply.ending {
            thread::sleep(pause);
        }
    }
    match reply.ending {
        Ending::Complete | Ending::Slow(_) => true,
        Ending::Close(_) => false,
        Ending::Reset(_) => {
            let _ = rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO));
            false
        }
        Ending::Stall(_) => {
            while !stopped.load(Ordering::SeqCst) && stream.peek(&mut [0]).is_ok_and(|count| count > 0) {
                thread::sleep(Duration::from_millis(10));
            }
            false
        }
    }
}

//! Proxies of the host carry what the sandbox may reach.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
};

use sbx_tests::Environment;

/// A public address that nobody has (192.0.1.0/24): only a proxy can lead there.
const FAR: &str = "192.0.1.8";

/// A proxy that answers each request for a way with the next of these answers, and returns what it was asked.
fn proxy(answers: Vec<&'static str>) -> (u16, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            asked.push(lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    (port, server)
}

#[test]
fn connections_go_through_the_proxy_and_its_refusals_are_told() {
    let env = Environment::new().with_busybox();
    let rules = format!("network {{ allow \"{FAR}\"; }}\n");
    env.write("sandbox.kdl", format!("{}{rules}", env.read("sandbox.kdl")));
    let (port, server) = proxy(vec!["HTTP/1.1 200 OK\r\n\r\nfrom afar\n", "HTTP/1.1 403 Forbidden\r\n\r\n"]);

    let nc = format!("busybox timeout 20 busybox nc {FAR} 5000 </dev/null");
    let look = format!("{nc}; {nc} || echo refused");
    let arguments = ["up", "--yes", "--", "sh", "-c", &look];
    let mut command = env.command(&arguments);
    command.env("ALL_PROXY", format!("http://me:secret@127.0.0.1:{port}"));
    let outcome = env.run(command, &arguments);
    assert_eq!(outcome.text(), "from afar\nrefused");

    let credentials = "Proxy-Authorization: Basic bWU6c2VjcmV0";
    let request = format!("CONNECT {FAR}:5000 HTTP/1.1\nHost: {FAR}:5000\n{credentials}");
    assert_eq!(server.join().unwrap(), [request.clone(), request]);
    let log = std::fs::read_to_string(env.sandbox().join("policy.log")).unwrap();
    assert!(log.contains("the host's proxy refused it with status 403"), "{log}");
    for file in ["policy.log", "process.log"] {
        let text = std::fs::read_to_string(env.sandbox().join(file)).unwrap_or_default();
        assert!(!text.contains("secret"), "{file}: {text}");
    }
}

#[test]
fn a_name_that_only_the_proxy_knows_is_reached_through_it() {
    let env = Environment::new().with_busybox();
    // RFC 6761, 6.4: no name server knows it.
    let rules = "network { allow \"far.invalid\"; }\n";
    env.write("sandbox.kdl", format!("{}{rules}", env.read("sandbox.kdl")));
    let (port, server) = proxy(vec!["HTTP/1.1 200 OK\r\n\r\nfrom afar\n"]);

    let look = "busybox timeout 20 busybox nc far.invalid 5000 </dev/null; busybox nslookup other.invalid >/dev/null || echo unknown";
    let arguments = ["up", "--yes", "--", "sh", "-c", look];
    let mut command = env.command(&arguments);
    command.env("ALL_PROXY", format!("http://127.0.0.1:{port}"));
    assert_eq!(env.run(command, &arguments).text(), "from afar\nunknown");
    assert_eq!(server.join().unwrap(), ["CONNECT far.invalid:5000 HTTP/1.1\nHost: far.invalid:5000"]);
}

#[test]
fn a_proxy_that_sbx_cannot_speak_to_is_an_error_and_not_passed_by() {
    let env = Environment::new().with_busybox();
    env.write("sandbox.kdl", format!("{}network \"allow\"\n", env.read("sandbox.kdl")));
    let arguments = ["up", "--yes", "--", "true"];
    let mut command = env.command(&arguments);
    command.env("HTTPS_PROXY", "https://me:secret@proxy.example");
    env.run(command, &arguments).exits(2).stderr_has("the proxy in HTTPS_PROXY cannot be used");
}

//! Which proxy, and what is said to it.

use super::*;

fn proxy(text: &str) -> Proxy {
    text.parse().unwrap()
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[test]
fn proxies_are_read_as_they_are_written() {
    let table = [
        ("proxy.example:3128", ProxyKind::Http, "proxy.example", 3128),
        ("http://Proxy.Example", ProxyKind::Http, "proxy.example", 1080),
        ("HTTP://user:p%40ss@10.0.0.1:8080/", ProxyKind::Http, "10.0.0.1", 8080),
        ("socks5://[fd00::1]:1081", ProxyKind::Socks, "fd00::1", 1081),
        ("socks5h://user@proxy.example", ProxyKind::SocksWithNames, "proxy.example", 1080),
    ];
    for (text, kind, host, port) in table {
        let proxy = proxy(text);
        assert_eq!((proxy.kind, proxy.host.as_str(), proxy.port), (kind, host, port), "{text}");
    }
    let wrong = [
        ("https://proxy.example", ProxyError::Scheme { scheme: "https".to_owned() }),
        ("http://", ProxyError::Host),
        ("http://[::g]:1", ProxyError::Host),
        ("http://a b:1", ProxyError::Host),
        ("http://proxy.example:0", ProxyError::Port),
        ("http://proxy.example:99999", ProxyError::Port),
        ("http://us%0Aer@proxy.example", ProxyError::Credentials),
        ("http://us%zz@proxy.example", ProxyError::Credentials),
        ("http://:secret@proxy.example", ProxyError::Credentials),
    ];
    for (text, error) in wrong {
        assert_eq!(text.parse::<Proxy>(), Err(error), "{text}");
    }
}

#[test]
fn nobody_reads_a_password_in_a_log() {
    let proxy = proxy("http://user:secret@proxy.example:3128");
    assert!(!format!("{proxy:?}").contains("secret"));
}

#[test]
fn the_port_chooses_and_exceptions_go_before() {
    let proxies = Proxies {
        http: Some(proxy("http://plain.example:1")),
        https: Some(proxy("http://tls.example:1")),
        all: Some(proxy("socks5://all.example:1")),
        exempt: Exempt::parse("internal.example, .corp.example,192.0.2.0/24 [2001:db8::1] direct.example:22"),
    };
    let table = [
        ("93.184.216.34:80", None, Some("plain.example")),
        ("93.184.216.34:443", None, Some("tls.example")),
        ("93.184.216.34:22", None, Some("all.example")),
        ("93.184.216.34:443", Some("internal.example"), None),
        ("93.184.216.34:443", Some("a.internal.example"), None),
        ("93.184.216.34:443", Some("corp.example"), None),
        ("93.184.216.34:443", Some("notcorp.example"), Some("tls.example")),
        ("192.0.2.7:443", None, None),
        ("[2001:db8::1]:443", None, None),
        ("93.184.216.34:22", Some("direct.example"), None),
        ("93.184.216.34:443", Some("direct.example"), Some("tls.example")),
        ("127.0.0.1:443", None, None),
    ];
    for (address, host, expected) in table {
        let name = host.map(name);
        let chosen = proxies.choose(socket(address), name.as_ref()).map(|proxy| proxy.host.as_str());
        assert_eq!(chosen, expected, "{address} {host:?}");
    }
    let none = Proxies { exempt: Exempt::parse("*"), ..proxies };
    assert_eq!(none.choose(socket("93.184.216.34:80"), None), None);
    let only_tls = Proxies { https: Some(proxy("http://tls.example:1")), ..Proxies::default() };
    assert_eq!(only_tls.choose(socket("93.184.216.34:22"), None), None);
}

#[test]
fn connect_says_the_name_and_who_asks() {
    let host = name("api.example");
    let asked = proxy("http://Aladdin:open%20sesame@proxy.example:3128");
    let (_, request) = Dialogue::begin(&asked, socket("93.184.216.34:443"), Some(&host));
    assert_eq!(
        String::from_utf8(request).unwrap(),
        "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\
         Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
    );
    let (_, request) = Dialogue::begin(&proxy("proxy.example"), socket("[2001:db8::1]:22"), None);
    assert!(request.starts_with(b"CONNECT [2001:db8::1]:22 HTTP/1.1\r\n"));
}

#[test]
fn answers_of_http_proxies() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(MAX_HEAD_BYTES));
    let table: [(&str, usize, Progress); 9] = [
        ("HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0", 39, Progress::Open),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", 38, Progress::Open),
        ("HTTP/1.1 100 Continue\r\n\r\n", 25, Progress::Wait),
        ("HTTP/1.1 200 Conn", 0, Progress::Wait),
        ("", 0, Progress::Wait),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", 26, Progress::Refused(Refusal::Status(403))),
        ("HTTP/1.1 407 Who\r\n\r\n", 20, Progress::Refused(Refusal::Credentials)),
        ("SSH-2.0-x\r\n", 0, Progress::Refused(Refusal::Nonsense)),
        (&long, 0, Progress::Refused(Refusal::Nonsense)),
    ];
    for (answer, length, progress) in table {
        let (mut dialogue, _) = Dialogue::begin(&proxy("proxy.example"), socket("93.184.216.34:443"), None);
        assert_eq!(dialogue.receive(answer.as_bytes()), (length, progress), "{answer:.60}");
    }
}

#[test]
fn socks_with_a_password_and_a_name() {
    let host = name("db.example");
    let asked = proxy("socks5h://me:pw@proxy.example");
    let (mut dialogue, greeting) = Dialogue::begin(&asked, socket("93.184.216.34:5432"), Some(&host));
    assert_eq!(greeting, [5, 2, 0, 2]);
    assert_eq!(dialogue.receive(&[5]), (0, Progress::Wait));
    assert_eq!(dialogue.receive(&[5, 2]), (2, Progress::Send(b"\x01\x02me\x02pw".to_vec())));
    let request = b"\x05\x01\x00\x03\x0adb.example\x15\x38".to_vec();
    assert_eq!(dialogue.receive(&[1, 0]), (2, Progress::Send(request)));
    assert_eq!(dialogue.receive(&[5, 0, 0, 1, 0, 0, 0, 0, 0]), (0, Progress::Wait));
    assert_eq!(dialogue.receive(&[5, 0, 0, 3, 2, b'a', b'b', 0, 80, b'x']), (9, Progress::Open));
}

#[test]
fn socks_that_refuse() {
    let refused = |answers: &[&[u8]]| {
        let proxy = proxy("socks5://proxy.example");
        let (mut dialogue, greeting) =
            Dialogue::begin(&proxy, socket("[2001:db8::1]:22"), Some(&name("a.b")));
        assert_eq!(greeting, [5, 1, 0]);
        let mut progress = Progress::Wait;
        for answer in answers {
            progress = dialogue.receive(answer).1;
        }
        progress
    };
    assert!(matches!(refused(&[&[5, 0]]), Progress::Send(request) if request.len() == 22));
    assert_eq!(refused(&[&[5, 0xff]]), Progress::Refused(Refusal::Credentials));
    assert_eq!(refused(&[&[5, 2]]), Progress::Refused(Refusal::Credentials));
    assert_eq!(refused(&[b"HT"]), Progress::Refused(Refusal::Nonsense));
    for reply in 1..=9 {
        let answer = [5, reply, 0, 1, 0];
        assert_eq!(refused(&[&[5, 0], &answer]), Progress::Refused(Refusal::Reply(reply)));
    }
    assert_eq!(refused(&[&[5, 0], &[5, 0, 0, 9, 0]]), Progress::Refused(Refusal::Nonsense));
}

//! What is not allowed does not work, whatever the guest tries and however it was started.

use std::sync::Arc;

use sbx_tests::{Environment, Lan, Outcome, lan::Service};

use super::{lan, sandbox, up};

/// The first message of a TLS client that speaks to `host`.
fn client_hello(host: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let server = rustls::pki_types::ServerName::try_from(host.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), server).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

/// What the guest tries, and what comes of it, a line each. The helpers: `get` asks for a page and says what came, or else what
/// wget said last; `says` sends a file to the echoing server on port 443 and says how much came back.
const TRIES: &str = r#"
get() { timeout 10 wget -q -O - --header "Host: $2" "http://$1/" 2>&1 | tail -n 1 | sed "s/.*: //"; }
says() { nc -w 5 93.184.216.34 443 < hello-$1 2>/dev/null | cmp -s - hello-$1 && echo echoed || echo ended; }
found() { nslookup "$@" 2>&1 | grep -v 255.253 | grep -e ^Address -e NXDOMAIN | sed "s/.*: //" | sort -u | tr "\n" " "; echo; }
row() { printf "%s: " "$1"; shift; "$@"; }

row "a name" get good.example good.example
row "a literal" get 93.184.216.99 93.184.216.99
row "the name at another address" get 93.184.216.99 good.example
row "a name that no rule allows" found evil.example
row "a name that leads inside" found inside.example
row "a private address" get 10.0.0.1 inside.example
row "metadata" get 169.254.169.254 inside.example
row "a name that leads inside and outside" found mixed.example
row "another Host" get good.example evil.example
row "no Host" sh -c 'printf "GET / HTTP/1.0\r\n\r\n" | nc -w 5 93.184.216.34 80 | wc -c'
row "the SNI" says good
row "another SNI" says evil
row "no SNI" says nobody
row "a literal of IPv6" get "[2606:2800:220:1::99]" good.example
row "a mapped address" get "[::ffff:93.184.216.99]" good.example
row "the mapped address of the name" get "[::ffff:93.184.216.34]" good.example
# nslookup asks twice and waits for an answer each time, whatever the kernel says.
row "another name server" sh -c 'timeout 1 nslookup good.example 93.184.216.99 | grep -c Name'
row "QUIC" sh -c 'timeout 1 nslookup good.example 93.184.216.34:443 | grep -c Name'
row "ping" sh -c 'sudo ping -c 1 -W 5 93.184.216.34 | grep -c "bytes from"'
row "the gateway's ssh" sh -c 'nc -w 5 100.127.255.253 22 </dev/null 2>&1 | sed "s/.*: //"'
row "the gateway over IPv6" sh -c 'nc -w 5 fd73:6278:7362:7801::1 80 </dev/null 2>&1 | sed "s/.*: //"'

# A second request for another host, once the first one is answered.
cd ~
mkfifo requests
nc -w 5 93.184.216.34 80 < requests > answers &
exec 3> requests
printf "GET /first HTTP/1.1\r\nHost: good.example\r\n\r\n" >&3
until grep -q first answers; do sleep 0.1; done
printf "GET /second HTTP/1.1\r\nHost: evil.example\r\n\r\n" >&3
wait
exec 3>&-
row "a second request" grep ^GET answers
rm requests answers
"#;

const CAME: &str = "\
a name: GET good.example /
a literal: Connection refused
the name at another address: Connection refused
a name that no rule allows: NXDOMAIN
a name that leads inside:
a private address: Connection refused
metadata: Connection refused
a name that leads inside and outside: 93.184.216.34
another Host: Connection reset by peer
no Host: 0
the SNI: echoed
another SNI: ended
no SNI: ended
a literal of IPv6: Connection refused
a mapped address: Connection refused
the mapped address of the name: GET good.example /
another name server: 0
QUIC: 0
ping: 0
the gateway's ssh: Connection refused
the gateway over IPv6: Connection refused
a second request: GET good.example /first
";

/// What only servers see that the guest must not get at.
const UNVISITED: [&str; 7] = [
    "93.184.216.99:80",
    "10.0.0.1:80",
    "169.254.169.254:80",
    "[2606:2800:220:1::99]:80",
    "93.184.216.99:53",
    "93.184.216.34:5353",
    "127.0.0.1:22",
];

/// A network with traps wherever the guest should not get.
fn traps() -> Lan {
    let lan = lan();
    for trap in ["10.0.0.1:80", "169.254.169.254:80", "[2606:2800:220:1::99]:80", "127.0.0.1:22"] {
        lan.serve(trap, Service::Http);
    }
    lan.serve("93.184.216.99:53", Service::Datagrams);
    lan.serve("93.184.216.34:443", Service::Echo);
    lan.name("inside.example", "A", &["10.0.0.1", "127.0.0.1", "169.254.169.254"]);
    lan.name("inside.example", "AAAA", &["::1", "::ffff:10.0.0.1", "fe80::1", "fd00::1"]);
    lan.name("mixed.example", "A", &["169.254.169.254", "93.184.216.34"]);
    lan
}

#[track_caller]
fn check(lan: &Lan, way: &str, outcome: &Outcome) {
    let lines = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(&outcome.stdout()), lines(CAME), "{way}: {outcome:?}");
    for trap in UNVISITED {
        assert_eq!(lan.visits(trap), 0, "{way}: {trap}");
    }
    assert!(!lan.questions().contains(&"evil.example".to_owned()), "{way}: {:?}", lan.questions());
}

#[test]
fn the_rules_hold_on_every_way_a_guest_can_start() {
    let lan = traps();
    let env = sandbox(&lan, "allow \"good.example\" \"inside.example\" \"mixed.example\"");
    env.write("tries", TRIES);
    for (name, host) in [("good", "good.example"), ("evil", "evil.example"), ("nobody", "93.184.216.34")] {
        env.write(&format!("hello-{name}"), client_hello(host));
    }
    let tries =
        |env: &Environment, arguments: &[&str]| env.sbx(&[arguments, &["--", "sh", "tries"]].concat());
    check(&lan, "up", &tries(&env, &["up", "--yes"]));
    check(&lan, "exec starts it", &tries(&env, &["exec"]));
    env.sbx(&["up", "-d"]).success();
    check(&lan, "exec", &tries(&env, &["exec"]));
    env.sbx(&["stop"]).success();
    check(&lan, "stop and up", &tries(&env, &["up"]));
    env.sbx(&["reset"]).success();
    check(&lan, "reset and up", &tries(&env, &["up"]));
}

#[test]
fn a_guest_that_reconfigures_its_card_gets_no_further() {
    let lan = traps();
    let env = sandbox(&lan, "allow \"good.example\"");
    let outcome = up(
        &env,
        r#"
        get() { printf "%s: " "$1"; timeout 2 wget -q -O - --header "Host: good.example" "http://$2/" 2>/dev/null || echo; }
        again() { sudo ip link set eth0 up; sudo ip route add default via 100.127.255.253; }
        get before good.example
        sudo ip addr add 10.0.0.7/8 dev eth0
        get "a private network of its own" 10.0.0.1
        sudo ip addr del 10.0.0.7/8 dev eth0
        sudo ip route add 169.254.0.0/16 dev eth0
        get "a route to metadata" 169.254.169.254
        sudo ip route del default
        sudo ip route add default dev eth0
        get "everybody on the link" 93.184.216.34
        sudo ip route del default dev eth0
        sudo ip link set eth0 down
        sudo ip link set eth0 address 02:73:62:78:00:01
        again
        get "the gateway's own address" 93.184.216.34
        sudo ip link set eth0 down
        sudo ip link set eth0 address 02:73:62:78:00:02
        again
        get "after all" 93.184.216.34
        "#,
    );
    let expected = "before: GET good.example /\n\
                    a private network of its own: \n\
                    a route to metadata: \n\
                    everybody on the link: \n\
                    the gateway's own address: \n\
                    after all: GET good.example /\n";
    assert_eq!(outcome.stdout(), expected, "{outcome:?}");
    for trap in ["10.0.0.1:80", "169.254.169.254:80"] {
        assert_eq!(lan.visits(trap), 0, "{trap}");
    }
}

#[test]
fn a_rule_that_goes_ends_what_it_allowed() {
    let lan = lan();
    lan.serve("93.184.216.34:7", Service::Echo);
    let env = sandbox(&lan, "allow \"good.example\"");
    env.sbx(&["up", "--yes", "-d"]).success();
    let script =
        "nslookup good.example >/dev/null; mkfifo ~/in; nc 93.184.216.34 7 < ~/in > ~/out & exec 3> ~/in
        echo hello >&3; until grep -q hello ~/out; do sleep 0.1; done
        echo open > state; wait; exec 3>&-; echo ended";
    let client = env.command(&["exec", "--", "sh", "-c", script]);
    let mut client = { client };
    let client = client.stdout(std::process::Stdio::piped()).spawn().unwrap();
    while !env.repo().join("state").exists() {
        std::thread::yield_now();
    }
    env.sbx(&["deny", "good.example"]).success();
    let output = client.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ended\n");
    let refused = env.exec("wget -q -O - http://93.184.216.34/").exits(1);
    assert!(refused.stderr.contains("Connection refused"), "{refused:?}");
}

//! Ports of the guest on the host, and of the host in the guest.

use sbx_tests::{
    Environment, Lan,
    lan::{Service, Visit, digest_of_pattern},
};
use serde_json::{Value, json};

use super::sandbox;

/// Bytes that go each way in one connection.
const BULK_BYTES: usize = 64 << 20;

/// A server in the guest that answers every connection with what it was sent.
const SERVER: &str = "nc -ll -p 3000 -e cat > /dev/null 2>&1 &
    until netstat -ltn | grep -q :3000; do sleep 0.1; done";

fn ports(env: &Environment) -> Value {
    serde_json::from_str(&env.sbx(&["ports", "--json"]).text()).unwrap()
}

fn hello(lan: &Lan, address: &str) -> Result<String, String> {
    lan.visit(address, &Visit::Say("hello".to_owned()))
}

#[test]
fn published_ports_lead_into_the_guest_as_long_as_they_are_published() {
    let lan = Lan::new(&[]);
    let env = sandbox(&lan, "publish 3000\npublish 3001");
    env.sbx(&["up", "--yes", "-d"]).success();
    env.exec(SERVER).success();
    let listed = ports(&env);
    assert_eq!(listed[0], json!({ "guest": 3000, "host": 3000, "address": "127.0.0.1" }), "{listed}");

    // Both loopback addresses lead there.
    for address in ["127.0.0.1:3000", "[::1]:3000"] {
        assert_eq!(hello(&lan, address).as_deref(), Ok("hello"), "{address}");
    }
    // Nobody listens there in the guest.
    let refused = hello(&lan, "127.0.0.1:3001").unwrap_err();
    assert!(refused.contains("reset") || refused.contains("Broken pipe"), "{refused}");
    // More bytes than all buffers hold, both ways at once.
    let poured = lan.visit("127.0.0.1:3000", &Visit::Pour(BULK_BYTES));
    assert_eq!(poured, Ok(digest_of_pattern(BULK_BYTES)));

    // More of them while it runs.
    env.sbx(&["ports", "add", "3000", "--as", "8080"]).success();
    assert_eq!(hello(&lan, "[::1]:8080").as_deref(), Ok("hello"));
    let added: Value =
        serde_json::from_str(&env.sbx(&["ports", "--json", "add", "3000", "--as", "0"]).text()).unwrap();
    let chosen = added[0]["host"].as_u64().unwrap();
    assert_eq!(hello(&lan, &format!("127.0.0.1:{chosen}")).as_deref(), Ok("hello"));
    assert_eq!(ports(&env).as_array().unwrap().len(), 4);
    env.sbx(&["ports", "rm", "8080"]).success();
    for address in ["127.0.0.1:8080", "[::1]:8080"] {
        assert!(hello(&lan, address).unwrap_err().contains("refused"), "{address}");
    }
    env.sbx(&["ports", "rm", "8080"]).exits(2).stderr_has("is not published");
    env.sbx(&["stop"]).success();
    assert!(hello(&lan, "127.0.0.1:3000").unwrap_err().contains("refused"));
    env.sbx(&["ports"]).exits(125).stderr_has("does not run");
}

#[test]
fn who_has_a_port_is_told() {
    let lan = Lan::new(&[]);
    lan.serve("127.0.0.1:3000", Service::Echo);
    lan.serve("[::1]:3001", Service::Echo);
    let env = sandbox(&lan, "publish 3000");
    let taken = env.sbx(&["up", "--yes", "--", "true"]).exits(125);
    assert!(taken.stderr.contains("port 3000 of the host is taken by sbx-test-lan (pid "), "{taken:?}");
    assert!(taken.stderr.contains("publish 3000 as=13000"), "{taken:?}");
    let manifest = env.read("sandbox.kdl").replace("publish 3000", "publish 3000 as=0");
    env.write("sandbox.kdl", manifest);
    env.sbx(&["up", "--yes", "-d"])
        .success()
        .stderr_has("be reached at a free port of this machine's localhost");
    env.exec(SERVER).success();
    let chosen = ports(&env)[0]["host"].as_u64().unwrap();
    for address in ["127.0.0.1", "[::1]"] {
        assert_eq!(hello(&lan, &format!("{address}:{chosen}")).as_deref(), Ok("hello"), "{address}");
    }
    for port in ["3000", "3001"] {
        let taken = env.sbx(&["ports", "add", port]).exits(125);
        assert!(
            taken.stderr.contains(&format!("port {port} of the host is taken by sbx-test-lan")),
            "{taken:?}"
        );
    }
    assert_eq!(ports(&env).as_array().unwrap().len(), 1);
}

#[test]
fn a_service_of_the_host_is_reached_and_its_neighbours_are_not() {
    let lan = Lan::new(&[]);
    for address in ["127.0.0.1:5432", "127.0.0.1:5433", "127.0.0.1:80"] {
        lan.serve(address, Service::Echo);
    }
    let env = sandbox(&lan, "host-service 5432");
    let outcome = super::up(
        &env,
        "try() { echo hello | nc -w 5 $1 $2 2>&1 | sed 's/.*: //'; }
         try host.sbx.internal 5432; try host.sbx.internal 5433; try host.sbx.internal 80; try 100.127.255.253 5433
         nslookup host.sbx.internal | grep ^Address | tail -n 2",
    );
    let expected = "hello\nConnection refused\nConnection refused\nConnection refused\n\
                    Address: 100.127.255.253\nAddress: fd73:6278:7362:7801::1";
    assert_eq!(outcome.text(), expected);
    assert_eq!(
        (lan.visits("127.0.0.1:5432"), lan.visits("127.0.0.1:5433"), lan.visits("127.0.0.1:80")),
        (1, 0, 0)
    );
}

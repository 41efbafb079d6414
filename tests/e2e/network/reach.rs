//! What is allowed works.

use super::{lan, sandbox, up};

/// A question over a stream for the address of `good.example`, in `printf`'s notation: the length, a header, the name, A, IN
/// (RFC 1035, 4.1 and 4.2.2).
const QUESTION: &str = r"\0\036\0\007\001\0\0\001\0\0\0\0\0\0\004good\007example\0\0\001\0\001";

#[test]
fn an_allowed_name_is_reached_over_both_versions_of_ip() {
    let lan = lan();
    let env = sandbox(&lan, "allow \"good.example\"");
    let outcome = up(
        &env,
        &format!(
            "cat /sys/class/net/eth0/mtu
         ip -o addr show dev eth0 scope global | tr -s ' ' | cut -d ' ' -f 3,4
         nslookup good.example | grep ^Address | tail -n 2
         printf '{QUESTION}' | nc 100.127.255.253 53 | tail -c 4 | od -A n -t u1
         wget -q -O - http://good.example/by-name
         wget -q -O - --header 'Host: good.example' 'http://[2606:2800:220:1::34]/over-six'
         sudo ping -c 1 -W 5 100.127.255.253 | grep -c 'bytes from'
         sudo ping6 -c 1 -W 5 fd73:6278:7362:7801::1 | grep -c 'bytes from'"
        ),
    );
    assert_eq!(
        outcome.text(),
        "65520\n\
         inet 100.127.255.254/30\n\
         inet6 fd73:6278:7362:7801::2/64\n\
         Address: 93.184.216.34\n\
         Address: 2606:2800:220:1::34\n  \
         93 184 216  34\n\
         GET good.example /by-name\n\
         GET good.example /over-six\n\
         1\n\
         1"
    );
    assert!(lan.questions().iter().all(|name| name == "good.example"), "{:?}", lan.questions());
}

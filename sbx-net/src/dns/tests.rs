//! A guest, a gateway and name servers, with a clock that is moved by hand.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::svcb::SVCB;
use hickory_proto::rr::rdata::{CNAME, HTTPS, MX, TXT};
use hickory_proto::rr::{DNSClass, RData};

use super::*;
use crate::policy::{self, Reason, tests::policy};

struct Net {
    resolver: Resolver,
    policy: Policy,
    pins: Pins,
    now: Instant,
}

/// A query that went outside.
struct Outside {
    server: Server,
    token: u64,
    query: Message,
    over_tcp: bool,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn dns(text: &str) -> DnsName {
    DnsName::from_ascii(format!("{text}.")).unwrap()
}

fn a(owner: &str, ttl: u32, address: [u8; 4]) -> Record {
    Record::from_rdata(dns(owner), ttl, RData::A(A(Ipv4Addr::from(address))))
}

fn alias(owner: &str, target: &str) -> Record {
    Record::from_rdata(dns(owner), 300, RData::CNAME(CNAME(dns(target))))
}

fn asking(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(dns(text), kind));
    message.set_edns(Edns::new());
    message
}

const UDP: Source = Source { token: 5, transport: Transport::Udp };
const TCP: Source = Source { token: 6, transport: Transport::Tcp };

impl Net {
    fn new(rules: &str) -> Self {
        let upstream = ResolvConf::parse("nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions timeout:2");
        let mut id = 1000;
        let configuration = Configuration {
            gateway: vec![[10, 99, 0, 1].into(), "fd99::1".parse().unwrap()],
            hosts: vec![([10, 1, 1, 1].into(), name("box.lan")), ([127, 0, 0, 1].into(), name("box.lan"))],
            upstream,
            random: Box::new(move || {
                id += 7;
                id
            }),
        };
        Self {
            resolver: Resolver::new(configuration),
            policy: policy(policy::Action::Deny, rules),
            pins: Pins::default(),
            now: Instant::now(),
        }
    }

    fn send(&mut self, bytes: &[u8], source: Source) {
        let mut context = Context { policy: &self.policy, pins: &mut self.pins };
        self.resolver.handle_query(self.now, &mut context, bytes, source);
    }

    fn ask(&mut self, text: &str, kind: RecordType) {
        self.send(&asking(text, kind).to_vec().unwrap(), UDP);
    }

    /// What the guest is told next.
    fn told(&mut self) -> Message {
        match self.resolver.poll_action() {
            Some(Action::Answer { bytes, .. }) => Message::from_vec(&bytes).unwrap(),
            other => panic!("not an answer: {other:?}"),
        }
    }

    /// What goes outside next.
    fn outside(&mut self) -> Outside {
        let (server, bytes, token, over_tcp) = match self.resolver.poll_action() {
            Some(Action::SendUdp { server, bytes, token }) => (server, bytes, token, false),
            Some(Action::QueryTcp { server, bytes, token }) => (server, bytes, token, true),
            other => panic!("not a query: {other:?}"),
        };
        Outside { server, token, query: Message::from_vec(&bytes).unwrap(), over_tcp }
    }

    fn respond(&mut self, token: u64, message: &Message) {
        let mut context = Context { policy: &self.policy, pins: &mut self.pins };
        self.resolver.handle_response(self.now, &mut context, token, &message.to_vec().unwrap());
    }

    /// Has the next query outside answered with these records.
    fn answer(&mut self, records: &[Record]) {
        let outside = self.outside();
        self.respond(outside.token, &outside.response(ResponseCode::NoError, records));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let mut context = Context { policy: &self.policy, pins: &mut self.pins };
        self.resolver.handle_timeout(self.now, &mut context);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.resolver.poll_event()).collect()
    }

    fn is_silent(&mut self) -> bool {
        self.resolver.poll_action().is_none()
    }
}

impl Outside {
    fn response(&self, code: ResponseCode, records: &[Record]) -> Message {
        let mut message = Message::new(self.query.metadata.id, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.add_queries(self.query.queries.clone());
        message.add_answers(records.to_vec());
        message
    }
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().filter_map(answer::address).map(|address| address.to_string()).collect()
}

fn note(message: &Message) -> Option<(u16, String)> {
    match message.edns.as_ref()?.option(EdnsCode::Unknown(15))? {
        EdnsOption::Unknown(15, data) => {
            Some((u16::from_be_bytes([data[0], data[1]]), String::from_utf8(data[2..].to_vec()).unwrap()))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_allowed_name_is_asked_for_told_and_pinned() {
    let mut net = Net::new("allow api.example.com");
    net.ask("API.example.com", RecordType::A);
    let outside = net.outside();
    assert_eq!(outside.server.address, IpAddr::from([10, 0, 0, 1]));
    assert_ne!(outside.query.metadata.id, 77);
    assert_eq!(outside.query.queries[0].name().to_ascii(), "api.example.com.");
    let records = [a("api.example.com", 5, [20, 0, 0, 1]), a("api.example.com", 86400, [20, 0, 0, 2])];
    net.respond(outside.token, &outside.response(ResponseCode::NoError, &records));
    let told = net.told();
    assert_eq!((told.metadata.id, told.metadata.response_code), (77, ResponseCode::NoError));
    // The name in the case in which it was asked for (some check that), times to live within bounds.
    assert_eq!(told.queries[0].name().to_ascii(), "API.example.com.");
    assert_eq!(told.answers.iter().map(|record| record.ttl).collect::<Vec<_>>(), [30, 3600]);
    assert_eq!(net.pins.names_of([20, 0, 0, 2].into(), net.now), [name("api.example.com")]);
    let addresses = vec![[20, 0, 0, 1].into(), [20, 0, 0, 2].into()];
    assert_eq!(net.events(), [Event::Resolved { name: name("api.example.com"), addresses }]);
    // Once more: nothing goes outside.
    net.now += Duration::from_secs(10);
    net.ask("api.example.com", RecordType::A);
    let ttls: Vec<u32> = net.told().answers.iter().map(|record| record.ttl).collect();
    assert_eq!(ttls, [30, 3600]);
    net.now += Duration::from_secs(30);
    net.ask("api.example.com", RecordType::A);
    assert_eq!(net.outside().query.queries.len(), 1);
}

#[test]
fn a_name_that_is_not_allowed_does_not_exist_and_the_reply_says_why() {
    let mut net = Net::new("allow api.example.com");
    net.ask("evil.com", RecordType::A);
    let told = net.told();
    assert_eq!(told.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(note(&told), Some((15, "no rule allows this host".to_owned())));
    let [Event::Refused { name: refused, decision }] = &net.events()[..] else { panic!("no event") };
    assert_eq!((refused.as_str(), decision.reason), ("evil.com", Reason::NoRule));
    // Who does not know EDNS gets none.
    let mut plain = asking("evil.com", RecordType::A);
    plain.edns = None;
    net.send(&plain.to_vec().unwrap(), UDP);
    assert!(net.told().edns.is_none());
    assert!(net.is_silent());
}

#[test]
fn answers_that_lead_inside_are_withheld() {
    let mut net = Net::new("allow rebind.example\n allow 10.1.0.0/16");
    net.ask("rebind.example", RecordType::A);
    let all = [[127, 0, 0, 1], [169, 254, 169, 254], [10, 2, 0, 1], [10, 1, 0, 1], [20, 0, 0, 1]];
    net.answer(&all.map(|address| a("rebind.example", 60, address)));
    let told = net.told();
    assert_eq!(addresses(&told), ["10.1.0.1", "20.0.0.1"]);
    assert!(note(&told).is_some_and(|(code, _)| code == 15));
    assert_eq!(net.pins.addresses_of(&name("rebind.example"), net.now).len(), 2);
    let withheld = net.events().iter().filter(|event| matches!(event, Event::Withheld { .. })).count();
    assert_eq!(withheld, 3);
    // In IPv6 form it is the same address.
    net.ask("rebind.example", RecordType::AAAA);
    let mapped = Ipv4Addr::new(169, 254, 169, 254).to_ipv6_mapped();
    let records = [mapped, Ipv6Addr::LOCALHOST]
        .map(|address| Record::from_rdata(dns("rebind.example"), 60, RData::AAAA(AAAA(address))));
    net.answer(&records);
    assert_eq!(addresses(&net.told()), [] as [&str; 0]);
}

#[test]
fn aliases_are_followed_and_other_records_dropped() {
    let mut net = Net::new("allow www.example.com\n allow **.cdn.net");
    net.ask("www.example.com", RecordType::A);
    net.answer(&[
        a("host.evil.com", 60, [20, 0, 0, 9]),
        alias("www.example.com", "a.cdn.net"),
        alias("A.CDN.net", "b.other.net"),
        a("b.other.net", 60, [20, 0, 0, 1]),
        a("www.example.org", 60, [20, 0, 0, 8]),
        Record::from_rdata(dns("b.other.net"), 60, RData::TXT(TXT::new(vec!["x".to_owned()]))),
    ]);
    let told = net.told();
    assert_eq!(addresses(&told), ["20.0.0.1"]);
    assert_eq!(told.answers.len(), 3);
    // Pinned for what was asked for, and for what is allowed itself.
    let names = net.pins.names_of([20, 0, 0, 1].into(), net.now);
    assert_eq!(names, [name("www.example.com"), name("a.cdn.net")]);
    assert_eq!(net.pins.names_of([20, 0, 0, 9].into(), net.now), []);
}

#[test]
fn a_ring_of_aliases_ends() {
    let mut net = Net::new("allow a.com");
    net.ask("a.com", RecordType::A);
    net.answer(&[alias("a.com", "b.com"), alias("b.com", "a.com")]);
    assert_eq!(net.told().answers.len(), 16);
}

#[test]
fn only_the_answer_to_this_question_counts() {
    let mut net = Net::new("allow a.com");
    net.ask("a.com", RecordType::A);
    let outside = net.outside();
    let right = outside.response(ResponseCode::NoError, &[a("a.com", 60, [20, 0, 0, 1])]);
    let mut other_id = right.clone();
    other_id.metadata.id ^= 1;
    let mut other_name = right.clone();
    other_name.queries = vec![Query::query(dns("b.com"), RecordType::A)];
    let mut other_kind = right.clone();
    other_kind.queries = vec![Query::query(dns("a.com"), RecordType::AAAA)];
    let mut a_query = right.clone();
    a_query.metadata.message_type = MessageType::Query;
    for wrong in [other_id, other_name, other_kind, a_query] {
        net.respond(outside.token, &wrong);
        assert!(net.is_silent());
    }
    net.respond(outside.token + 1, &right);
    assert!(net.is_silent());
    net.respond(outside.token, &right);
    assert_eq!(addresses(&net.told()), ["20.0.0.1"]);
    // It was answered; nothing comes of a second one.
    net.respond(outside.token, &right);
    assert!(net.is_silent());
}

#[test]
fn the_next_server_is_asked_after_a_while_and_then_it_is_given_up() {
    let mut net = Net::new("allow a.com");
    net.ask("a.com", RecordType::A);
    let (mut servers, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let outside = net.outside();
        servers.push(outside.server.address.to_string());
        ids.push(outside.query.metadata.id);
        assert_eq!(net.resolver.poll_timeout(), Some(net.now + Duration::from_secs(2)));
        net.pass(Duration::from_millis(1999));
        assert!(net.is_silent());
        net.pass(Duration::from_millis(1));
    }
    assert_eq!(servers, ["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2"]);
    ids.dedup();
    assert_eq!(ids.len(), 4);
    let told = net.told();
    assert_eq!(told.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(note(&told).map(|(code, _)| code), Some(22));
    assert_eq!(net.events(), [Event::Failed { name: name("a.com") }]);
    assert_eq!(net.resolver.poll_timeout(), None);
}

#[test]
fn a_server_that_fails_is_not_the_last_word() {
    let mut net = Net::new("allow a.com");
    net.ask("a.com", RecordType::A);
    let first = net.outside();
    net.respond(first.token, &first.response(ResponseCode::ServFail, &[]));
    let second = net.outside();
    assert_eq!(second.server.address, IpAddr::from([10, 0, 0, 2]));
    net.respond(second.token, &second.response(ResponseCode::NXDomain, &[]));
    assert_eq!(net.told().metadata.response_code, ResponseCode::NXDomain);
    // That there is no such name is remembered for half a minute.
    net.now += Duration::from_secs(29);
    net.ask("a.com", RecordType::A);
    assert_eq!(net.told().metadata.response_code, ResponseCode::NXDomain);
    net.now += Duration::from_secs(1);
    net.ask("a.com", RecordType::A);
    net.outside();
}

#[test]
fn long_answers_are_fetched_by_tcp_and_cut_for_udp() {
    let mut net = Net::new("allow a.com");
    net.ask("a.com", RecordType::TXT);
    let first = net.outside();
    let mut cut = first.response(ResponseCode::NoError, &[]);
    cut.metadata.truncation = true;
    net.respond(first.token, &cut);
    let second = net.outside();
    assert!(second.over_tcp && !first.over_tcp);
    assert_eq!(second.server, first.server);
    let text = |n: u8| RData::TXT(TXT::new(vec![char::from(b'a' + n).to_string().repeat(200)]));
    let records: Vec<_> = (0..10).map(|n| Record::from_rdata(dns("a.com"), 60, text(n))).collect();
    net.respond(second.token, &second.response(ResponseCode::NoError, &records));
    let told = net.told();
    assert!(told.metadata.truncation && told.answers.is_empty());
    net.send(&asking("a.com", RecordType::TXT).to_vec().unwrap(), TCP);
    let told = net.told();
    assert_eq!((told.metadata.truncation, told.answers.len()), (false, 10));
}

#[test]
fn the_same_question_is_asked_once() {
    let mut net = Net::new("allow a.com");
    for token in 0..3 {
        let source = Source { token, transport: Transport::Udp };
        net.send(&asking("a.com", RecordType::A).to_vec().unwrap(), source);
    }
    net.answer(&[a("a.com", 60, [20, 0, 0, 1])]);
    for token in 0..3 {
        let Some(Action::Answer { source, .. }) = net.resolver.poll_action() else { panic!("no answer") };
        assert_eq!(source.token, token);
    }
    assert!(net.is_silent());
}

#[test]
fn kinds_that_are_not_hosts_get_nothing_and_dangerous_ones_are_refused() {
    let mut net = Net::new("allow a.com");
    for kind in [RecordType::HTTPS, RecordType::SVCB, RecordType::NULL, RecordType::CAA] {
        net.ask("a.com", kind);
        let told = net.told();
        assert_eq!((told.metadata.response_code, told.answers.len()), (ResponseCode::NoError, 0), "{kind}");
    }
    for kind in [RecordType::ANY, RecordType::AXFR] {
        net.ask("a.com", kind);
        assert_eq!(net.told().metadata.response_code, ResponseCode::Refused, "{kind}");
    }
    // Nor does HTTPS come along with what was asked for.
    net.ask("a.com", RecordType::MX);
    let svcb = SVCB::new(1, dns("a.com"), Vec::new());
    net.answer(&[
        Record::from_rdata(dns("a.com"), 60, RData::MX(MX::new(10, dns("mail.a.com")))),
        Record::from_rdata(dns("a.com"), 60, RData::HTTPS(HTTPS(svcb))),
    ]);
    let kinds: Vec<_> = net.told().answers.iter().map(Record::record_type).collect();
    assert_eq!(kinds, [RecordType::MX]);
}

#[test]
fn messages_that_are_no_proper_queries_are_refused_or_ignored() {
    let mut net = Net::new("allow a.com");
    let code = |net: &mut Net, message: &Message| {
        net.send(&message.to_vec().unwrap(), UDP);
        net.told().metadata.response_code
    };
    let right = asking("a.com", RecordType::A);
    let mut notify = right.clone();
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(code(&mut net, &notify), ResponseCode::NotImp);
    let mut two = right.clone();
    two.add_query(Query::query(dns("b.com"), RecordType::A));
    assert_eq!(code(&mut net, &two), ResponseCode::FormErr);
    let mut none = right.clone();
    none.queries.clear();
    assert_eq!(code(&mut net, &none), ResponseCode::FormErr);
    let mut chaos = right.clone();
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(code(&mut net, &chaos), ResponseCode::Refused);
    let mut future = right.clone();
    future.edns.as_mut().unwrap().set_version(1);
    // BADVERS and BADSIG have the same number.
    assert_eq!(u16::from(code(&mut net, &future)), u16::from(ResponseCode::BADVERS));
    let mut response = right.clone();
    response.metadata.message_type = MessageType::Response;
    net.send(&response.to_vec().unwrap(), UDP);
    net.send(&[0; 11], UDP);
    assert!(net.is_silent());
    net.send(&[&right.to_vec().unwrap()[..20], &[0xff; 5]].concat(), UDP);
    assert_eq!(net.told().metadata.response_code, ResponseCode::FormErr);
    net.send(&[0; 5000], UDP);
    assert_eq!(net.told().metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn the_gateway_and_the_hosts_file_need_no_server() {
    let mut net = Net::new("allow box.lan\n allow 10.1.1.1");
    net.ask(HOST_NAME, RecordType::A);
    assert_eq!(addresses(&net.told()), ["10.99.0.1"]);
    net.ask(HOST_NAME, RecordType::AAAA);
    assert_eq!(addresses(&net.told()), ["fd99::1"]);
    net.ask("box.lan", RecordType::A);
    // The loopback address of the host is nothing for the guest.
    assert_eq!(addresses(&net.told()), ["10.1.1.1"]);
    assert_eq!(net.pins.names_of([10, 1, 1, 1].into(), net.now), [name("box.lan")]);
    assert!(net.is_silent());
    let mut net = Net::new("");
    net.ask("box.lan", RecordType::A);
    assert_eq!(net.told().metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn addresses_have_names_if_the_guest_was_told_them() {
    let mut net = Net::new("allow a.com");
    net.ask("a.com", RecordType::A);
    net.answer(&[a("a.com", 60, [20, 0, 0, 1])]);
    net.told();
    for (reverse, expected) in [
        ("1.0.0.20.in-addr.arpa", Some("a.com.")),
        ("1.0.99.10.in-addr.arpa", Some("host.sbx.internal.")),
        ("2.0.0.20.in-addr.arpa", None),
        ("0.0.20.in-addr.arpa", None),
        ("nonsense.arpa", None),
    ] {
        net.ask(reverse, RecordType::PTR);
        let told = net.told();
        let names = told.answers.iter().filter_map(|record| match &record.data {
            RData::PTR(name) => Some(name.0.to_ascii()),
            _ => None,
        });
        assert_eq!(names.collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>(), "{reverse}");
        let code = if expected.is_some() { ResponseCode::NoError } else { ResponseCode::NXDomain };
        assert_eq!(told.metadata.response_code, code);
    }
}

#[test]
fn names_made_up_below_a_wildcard_are_few_and_queries_that_wait_are_bounded() {
    let mut net = Net::new("allow **.tunnel.com\n allow a.com");
    let mut limited = 0;
    for n in 0..300 {
        net.ask(&format!("n{n}.tunnel.com"), RecordType::A);
        match net.resolver.poll_action() {
            Some(Action::SendUdp { .. }) => {}
            Some(Action::Answer { bytes, .. }) => {
                let told = Message::from_vec(&bytes).unwrap();
                assert_eq!(told.metadata.response_code, ResponseCode::ServFail);
                limited += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(limited, 100);
    // A name of a rule is still asked for, until too many wait.
    for _ in 0..56 {
        net.ask("a.com", RecordType::A);
    }
    net.outside();
    assert!(net.is_silent());
    net.ask("a.com", RecordType::A);
    assert_eq!(net.told().metadata.response_code, ResponseCode::ServFail);
    assert_eq!(net.events().len(), 101);
}

#[test]
fn a_rule_that_went_while_the_answer_was_on_its_way_allows_nothing() {
    let mut net = Net::new("allow a.com");
    net.ask("a.com", RecordType::A);
    let outside = net.outside();
    net.policy = policy(policy::Action::Deny, "");
    net.respond(outside.token, &outside.response(ResponseCode::NoError, &[a("a.com", 60, [20, 0, 0, 1])]));
    assert_eq!(net.told().metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(net.pins.names_of([20, 0, 0, 1].into(), net.now), []);
}

#[test]
fn services_of_a_host_that_is_allowed_may_be_asked_for_and_other_names_below_it_may_not() {
    let mut net = Net::new("allow a.com\n deny _ldap._tcp.a.com");
    net.ask("_http._tcp.a.com", RecordType::SRV);
    let outside = net.outside();
    net.respond(outside.token, &outside.response(ResponseCode::NXDomain, &[]));
    assert_eq!(net.told().metadata.response_code, ResponseCode::NXDomain);
    for (name, kind) in [
        ("_http._tcp.a.com", RecordType::TXT),
        ("_ldap._tcp.a.com", RecordType::SRV),
        ("x._http._tcp.a.com", RecordType::SRV),
        ("_http._tcp.b.com", RecordType::SRV),
    ] {
        net.ask(name, kind);
        assert_eq!(net.told().metadata.response_code, ResponseCode::NXDomain, "{name}");
    }
    let refused = net.events().into_iter().filter_map(|event| match event {
        Event::Refused { name, .. } => Some(name.to_string()),
        _ => None,
    });
    // What would have to be allowed is the host.
    let expected = ["_http._tcp.a.com", "_ldap._tcp.a.com", "x._http._tcp.a.com", "b.com"];
    assert_eq!(refused.collect::<Vec<_>>(), expected);
    assert!(net.is_silent());
}

#[test]
fn a_host_that_asks_other_servers_may_be_told_something_else() {
    let mut net = Net::new("allow a.com");
    net.ask("a.com", RecordType::A);
    net.answer(&[a("a.com", 60, [20, 0, 0, 1])]);
    assert_eq!(net.told().answers.len(), 1);
    net.ask("a.com", RecordType::A);
    assert_eq!(net.told().answers.len(), 1);
    net.resolver.set_host(ResolvConf::parse("nameserver 10.0.0.9"), Vec::new());
    net.ask("a.com", RecordType::A);
    let outside = net.outside();
    assert_eq!(outside.server.address, IpAddr::from([10, 0, 0, 9]));
    net.respond(outside.token, &outside.response(ResponseCode::NoError, &[a("a.com", 60, [10, 0, 0, 1])]));
    assert!(net.told().answers.is_empty());
}

#[test]
fn a_name_that_only_a_proxy_can_know_gets_an_address_that_stands_for_it() {
    let mut net = Net::new("allow far.example");
    let proxy = "http://proxy.example:3128".parse().unwrap();
    net.resolver.use_proxies(Proxies { https: Some(proxy), ..Proxies::default() });
    net.ask("far.example", RecordType::A);
    let outside = net.outside();
    net.respond(outside.token, &outside.response(ResponseCode::NXDomain, &[]));
    let told = net.told();
    assert_eq!(
        (told.metadata.response_code, addresses(&told)),
        (ResponseCode::NoError, vec!["198.18.0.0".to_owned()])
    );
    let stand_in = IpAddr::from([198, 18, 0, 0]);
    assert!(net.resolver.is_stand_in(stand_in));
    assert_eq!(net.pins.names_of(stand_in, net.now), [name("far.example")]);
    // There is no IPv6 address, and nothing else is made up.
    for (kind, code) in [(RecordType::AAAA, ResponseCode::NoError), (RecordType::TXT, ResponseCode::NXDomain)]
    {
        net.ask("far.example", kind);
        let outside = net.outside();
        net.respond(outside.token, &outside.response(ResponseCode::NXDomain, &[]));
        let told = net.told();
        assert_eq!((told.metadata.response_code, told.answers.len()), (code, 0), "{kind}");
    }
    // A name server that answers with such an address does not open it.
    net.policy = policy(policy::Action::Deny, "allow near.example");
    net.ask("near.example", RecordType::A);
    net.answer(&[a("near.example", 60, [198, 18, 0, 7])]);
    assert_eq!(addresses(&net.told()), [] as [String; 0]);
    assert!(!net.resolver.is_stand_in([198, 18, 0, 7].into()));
    // What no rule allows is refused as ever.
    net.ask("far.example", RecordType::A);
    assert_eq!(net.told().metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn a_name_gets_an_address_also_when_no_server_answers() {
    let mut net = Net::new("allow far.example");
    let proxy = "socks5h://proxy.example:1080".parse().unwrap();
    net.resolver.use_proxies(Proxies { all: Some(proxy), ..Proxies::default() });
    net.ask("far.example", RecordType::A);
    while let Some(action) = net.resolver.poll_action() {
        match action {
            Action::SendUdp { .. } => net.pass(Duration::from_secs(2)),
            Action::Answer { bytes, .. } => {
                assert_eq!(addresses(&Message::from_vec(&bytes).unwrap()), ["198.18.0.0"]);
                return;
            }
            Action::QueryTcp { .. } => panic!("over TCP"),
        }
    }
    panic!("no answer");
}

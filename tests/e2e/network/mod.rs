//! What a sandbox reaches, and what it does not: real guests, real servers, on networks of the tests' own.

mod clients;
mod flows;
mod idle;
mod notices;
mod ports;
mod raw;
mod reach;
mod rebind;
mod refuse;
mod rules;

use sbx_tests::{Environment, Lan, Outcome, lan::Service};

/// The host that rules allow by its name, and another beside it. Addresses of the internet, which here lead to servers of the test.
const GOOD: &str = "93.184.216.34";
const OTHER: &str = "93.184.216.99";
const GOOD_SIX: &str = "2606:2800:220:1::34";
const OTHER_SIX: &str = "2606:2800:220:1::99";

/// A network where `good.example` serves HTTP over both versions of IP, and `evil.example` beside it as well.
pub(crate) fn lan() -> Lan {
    let lan = Lan::new(&[GOOD, OTHER, GOOD_SIX, OTHER_SIX, "10.0.0.1", "169.254.169.254"]);
    for address in ["93.184.216.34:80", "93.184.216.99:80", "[2606:2800:220:1::34]:80"] {
        lan.serve(address, Service::Http);
    }
    lan.name("good.example", "A", &[GOOD]);
    lan.name("good.example", "AAAA", &[GOOD_SIX]);
    lan.name("evil.example", "A", &[OTHER]);
    lan
}

/// A sandbox on `lan` that reaches what `rules` allow.
fn sandbox(lan: &Lan, rules: &str) -> Environment {
    Environment::new().on_lan(lan).with_network("deny", rules)
}

/// `sbx up -- sh -c SCRIPT`, by a user who agrees to what the manifest opens.
fn up(env: &Environment, script: &str) -> Outcome {
    env.sbx(&["up", "--yes", "--", "sh", "-c", script])
}

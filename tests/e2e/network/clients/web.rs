//! curl, Python and git over HTTP and HTTPS.

use std::process::Command;

use super::{Site, refused};

/// Fetches by the name, by each version of IP, and with each library. The helper: `says` runs a command and shows the last line of what
/// it said, without what varies.
const FETCH: &str = r#"
says() { "$@" 2>&1 | tail -n 1 | sed "s/ after [0-9]* ms//; s/(35).*reset.*/(35) reset/"; }
url() { says python3 -c 'import sys, urllib.request as web; print(web.urlopen(sys.argv[1]).read().decode(), end="")' "$1"; }
requests() { says python3 -c 'import sys, requests; print(requests.get(sys.argv[1]).text, end="")' "$1"; }

says curl -sS http://good.example/hello
says curl -sS -4 https://good.example/hello
says curl -sS -6 https://good.example/hello
url https://good.example/hello
requests https://good.example/hello

says curl -sS http://evil.example/hello
says curl -sS https://evil.example/hello
says curl -sS http://93.184.216.99/hello
says curl -sS https://good.example:8443/hello
says curl -sS --connect-to good.example:443:93.184.216.99 https://good.example/hello
says curl -sS --resolve evil.example:443:93.184.216.34 https://evil.example/hello
says curl -sS -H "Host: evil.example" http://good.example/hello
url https://evil.example/hello
requests https://evil.example/hello | grep -o "Failed to resolve.*known\|Name or service not known"
"#;

const FETCHED: &str = "\
hello from the web
hello from the web
hello from the web
hello from the web
hello from the web
curl: (6) Could not resolve host: evil.example
curl: (6) Could not resolve host: evil.example
curl: (7) Failed to connect to 93.184.216.99 port 80: Couldn't connect to server
curl: (7) Failed to connect to good.example port 8443: Couldn't connect to server
curl: (7) Failed to connect to 93.184.216.99 port 443: Couldn't connect to server
curl: (35) reset
curl: (56) Recv failure: Connection reset by peer
urllib.error.URLError: <urlopen error [Errno -2] Name or service not known>
Name or service not known
";

#[test]
fn curl_and_python_fetch_what_is_allowed_over_http_and_https() {
    let site = Site::new();
    let env = site.sandbox("allow \"good.example\" port=80\nallow \"good.example\" port=443");
    let outcome = site.up(&env, FETCH);
    assert_eq!(outcome.stdout(), FETCHED, "{outcome:?}");
    let expected = [
        "93.184.216.99:443",
        "93.184.216.99:80",
        "evil.example",
        "evil.example:443",
        "evil.example:80",
        "good.example:8443",
    ];
    assert_eq!(refused(&env), expected.map(str::to_owned).into());
    let said = site.web.said();
    assert!(!said.contains("evil.example") && !said.contains(super::OTHER), "{said}");
    assert_eq!(said.matches("good.example GET /hello").count(), 5, "{said}");
}

#[test]
fn git_clones_and_pushes_over_https() {
    let site = Site::new();
    let repository = site.pages().join("git/hello.git");
    let made =
        Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&repository).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let env = site.sandbox("allow \"good.example\" port=443");
    let outcome = site.up(
        &env,
        "cd ~
        git config --global user.name agent; git config --global user.email agent@good.example
        git clone -q https://good.example/git/hello.git 2>/dev/null && cd hello
        seq 100000 > numbers && git add numbers && git commit -q -m numbers && git push -q origin HEAD:main
        git clone -q https://good.example/git/hello.git ../again && cmp numbers ../again/numbers && echo the same
        git clone https://evil.example/git/hello.git 2>&1 | tail -n 1
        git clone http://good.example/git/hello.git 2>&1 | tail -n 1 | sed 's/ after [0-9]* ms//'",
    );
    let expected = "the same\n\
        fatal: unable to access 'https://evil.example/git/hello.git/': Could not resolve host: evil.example\n\
        fatal: unable to access 'http://good.example/git/hello.git/': Failed to connect to good.example port 80: \
        Couldn't connect to server\n";
    assert_eq!(outcome.stdout(), expected, "{outcome:?}");
    assert_eq!(refused(&env), ["evil.example", "good.example:80"].map(str::to_owned).into());
    assert!(!site.web.said().contains("evil.example"), "{}", site.web.said());
    let log =
        Command::new("git").arg("-C").arg(&repository).args(["log", "--format=%s %ae", "main"]).output();
    assert_eq!(String::from_utf8_lossy(&log.unwrap().stdout), "numbers agent@good.example\n");
}

//! The grammar above KDL: which nodes there are, and what each may have.
//!
//! Every node of the language is one line of a table here; that a property or a child is unknown, given twice or
//! missing is checked against it once, for all nodes alike.

/// How often a node may be there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Occurs {
    Once,
    Often,
}

/// How many arguments a node has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arguments {
    None,
    One,
    AtMostOne,
    OneOrMore,
    Any,
}

/// What may stand between a node's braces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Children {
    /// No braces.
    None,
    /// These nodes.
    Known(&'static [Shape]),
    /// Nodes whose names are the manifest's own.
    Free,
}

/// What one node may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) occurs: Occurs,
    pub(crate) arguments: Arguments,
    pub(crate) properties: &'static [&'static str],
    pub(crate) children: Children,
    /// A line that can be pasted.
    pub(crate) example: &'static str,
}

const fn shape(
    name: &'static str,
    occurs: Occurs,
    arguments: Arguments,
    properties: &'static [&'static str],
    children: Children,
    example: &'static str,
) -> Shape {
    Shape { name, occurs, arguments, properties, children, example }
}

use Arguments::{Any, AtMostOne, None as NoArguments, One, OneOrMore};
use Children::{Free, Known, None as NoChildren};
use Occurs::{Often, Once};

/// Nodes of the file.
pub(crate) const MANIFEST: &[Shape] = &[
    shape("sandbox", Once, One, &[], NoChildren, r#"sandbox "payments""#),
    AGENT,
    IMAGE,
    PACKAGES,
    SETUP,
    START,
    RESOURCES,
    WORKSPACE,
    MOUNT,
    NETWORK,
    SECRET,
    ENV,
    DOCKER,
    MCP,
    shape("share", Once, One, &[], NoChildren, r#"share "ghcr.io/acme/sandboxes""#),
    shape("profile", Often, One, &[], Known(PROFILE), r#"profile "ci" { agent "shell"; }"#),
];

/// Nodes of a profile.
pub(crate) const PROFILE: &[Shape] =
    &[AGENT, IMAGE, PACKAGES, SETUP, START, RESOURCES, WORKSPACE, MOUNT, NETWORK, SECRET, ENV, DOCKER, MCP];

/// Nodes of a file that describes an agent.
pub(crate) const AGENT_FILE: &[Shape] =
    &[shape("agent", Once, One, &["title"], Known(IN_DEFINITION), r#"agent "acme" { command "acme"; }"#)];

const AGENT: Shape = shape("agent", Often, One, &["version"], Known(IN_AGENT), r#"agent "claude""#);
const IMAGE: Shape =
    shape("image", Once, One, &["platform"], NoChildren, r#"image "docker.io/library/debian:bookworm-slim""#);
const PACKAGES: Shape =
    shape("packages", Once, NoArguments, &[], Known(IN_PACKAGES), r#"packages { apt "git"; }"#);
const SETUP: Shape = shape(
    "setup",
    Often,
    One,
    &["inputs", "timeout"],
    Known(IN_SETUP),
    r#"setup "npm ci" inputs="package-lock.json""#,
);
const START: Shape = shape("start", Often, One, &[], NoChildren, r#"start "redis-server --daemonize yes""#);
const RESOURCES: Shape = shape(
    "resources",
    Once,
    NoArguments,
    &["cpus", "memory", "disk"],
    NoChildren,
    r#"resources cpus=4 memory="8GiB" disk="40GiB""#,
);
const WORKSPACE: Shape =
    shape("workspace", Once, AtMostOne, &["mode"], NoChildren, r#"workspace "." mode="direct""#);
const MOUNT: Shape = shape(
    "mount",
    Often,
    One,
    &["at", "readonly"],
    NoChildren,
    r#"mount "../shared-lib" at="/src/shared-lib""#,
);
const NETWORK: Shape = shape(
    "network",
    Once,
    AtMostOne,
    &[],
    Known(IN_NETWORK),
    r#"network "deny" { allow "api.github.com"; }"#,
);
const SECRET: Shape = shape(
    "secret",
    Often,
    One,
    &["host", "header", "bearer", "from"],
    NoChildren,
    r#"secret "GH_TOKEN" host="api.github.com" bearer=#true"#,
);
const ENV: Shape = shape("env", Often, NoArguments, &[], Free, r#"env { RUST_LOG "debug"; }"#);
const DOCKER: Shape = shape("docker", Once, AtMostOne, &[], NoChildren, "docker #true");
const MCP: Shape =
    shape("mcp", Often, One, &["command"], Known(IN_MCP), r#"mcp "github" command="github-mcp""#);

const ARGS: Shape = shape("args", Once, OneOrMore, &[], NoChildren, r#"args "--model" "opus""#);

const INSTALL: Shape = shape(
    "install",
    Once,
    NoArguments,
    &["apt", "apk", "dnf", "npm", "pip", "cargo", "url", "latest", "archive"],
    Known(IN_INSTALL),
    r#"install npm="@acme/agent""#,
);
const IN_INSTALL: &[Shape] =
    &[shape("program", Often, One, &["path"], NoChildren, r#"program "acme" path="acme/bin/acme""#)];
const NODE: Shape = shape("node", Once, One, &[], NoChildren, r#"node ">=22""#);
const COMMAND: Shape = shape("command", Once, OneOrMore, &[], NoChildren, r#"command "acme" "--auto""#);
const VERSION_COMMAND: Shape =
    shape("version-command", Once, OneOrMore, &[], NoChildren, r#"version-command "acme" "--version""#);
const HOSTS: Shape = shape("allow", Often, OneOrMore, &[], NoChildren, r#"allow "api.acme.example""#);
const CONFIG: Shape = shape("config", Often, OneOrMore, &[], NoChildren, r#"config ".acme""#);
const FILE: Shape =
    shape("file", Often, One, &["content"], NoChildren, r#"file ".acme/settings.json" content="{}""#);

const IN_AGENT: &[Shape] = &[INSTALL, NODE, COMMAND, VERSION_COMMAND, HOSTS, SECRET, ENV, CONFIG, FILE, ARGS];

const IN_DEFINITION: &[Shape] = &[INSTALL, NODE, COMMAND, VERSION_COMMAND, HOSTS, SECRET, ENV, CONFIG, FILE];

const IN_MCP: &[Shape] = &[ARGS];

const IN_PACKAGES: &[Shape] = &[
    shape("apt", Often, OneOrMore, &[], NoChildren, r#"apt "git" "ripgrep""#),
    shape("apk", Often, OneOrMore, &[], NoChildren, r#"apk "git" "ripgrep""#),
    shape("dnf", Often, OneOrMore, &[], NoChildren, r#"dnf "git" "ripgrep""#),
    shape("npm", Often, OneOrMore, &[], NoChildren, r#"npm "typescript@5""#),
    shape("pip", Often, OneOrMore, &[], NoChildren, r#"pip "ruff""#),
    shape("cargo", Often, OneOrMore, &[], NoChildren, r#"cargo "just""#),
];

const IN_SETUP: &[Shape] =
    &[shape("inputs", Often, OneOrMore, &[], NoChildren, r#"inputs "package.json" "package-lock.json""#)];

const IN_NETWORK: &[Shape] = &[
    shape(
        "allow",
        Often,
        Any,
        &["port", "protocol", "registries"],
        NoChildren,
        r#"allow "api.github.com" port=443"#,
    ),
    shape("deny", Often, Any, &["port", "protocol"], NoChildren, r#"deny "gist.github.com""#),
    shape("host-service", Often, One, &[], NoChildren, "host-service 5432"),
    shape("publish", Often, One, &["as"], NoChildren, "publish 3000 as=8080"),
];

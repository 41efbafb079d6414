//! Names of images, by the reference grammar of the distribution project, and the forms for files.
//!
//! ```text
//! reference  := name [":" tag] ["@" digest]
//! name       := [domain "/"] component ("/" component)*      at most 255 characters
//! domain     := label ("." label)* [":" port] | "[" IPv6 "]" [":" port]
//! component  := [a-z0-9]+ (("." | "_" | "__" | "-"+) [a-z0-9]+)*
//! tag        := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
//! digest     := "sha256:" hex{64} | "sha512:" hex{128}
//! file       := ("oci-layout:" | "oci-archive:") path [":" tag | "@" digest] | "docker-archive:" path [":" name]
//! ```

use std::str::FromStr;

use super::{Refusal, name::shorten, path::normal_path};

/// Longest name of a repository, domain included.
const MAX_NAME_BYTES: usize = 255;

/// Checks what `image` names.
pub(crate) fn check_image(text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(Refusal::new("the image is empty", "names nothing"));
    }
    for scheme in ["oci-layout:", "oci-archive:", "docker-archive:"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return check_file(scheme, rest);
        }
    }
    if let Some(refusal) = other_tool(text) {
        return Err(refusal);
    }
    check_reference(text)
}

/// A repository of a registry in which snapshots are shared, as `share` names it: `ghcr.io/acme/sandboxes`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Repository(String);

/// Why a text is no [`Repository`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {}", .0.message, .0.label)]
pub struct NotARepository(Refusal);

impl Repository {
    /// The name, with its registry and without a tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NotARepository {
    /// What was meant, or else what to do.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.instead.as_deref().or(self.0.advice.as_deref())
    }
}

impl FromStr for Repository {
    type Err = NotARepository;

    fn from_str(text: &str) -> Result<Self, NotARepository> {
        check_repository(text).map(|()| Self(text.to_owned())).map_err(NotARepository)
    }
}

/// Checks what `share` names: a repository of a registry, whose tags are sbx's own.
pub(crate) fn check_repository(text: &str) -> Result<(), Refusal> {
    let refuse = |label| Refusal::new(format!("`{}` is not a repository", shorten(text)), label);
    let name = text.split_once('@').map_or(text, |(name, _)| name);
    let last_slash = name.rfind('/').unwrap_or(0);
    let tag = name.get(last_slash..).and_then(|last| last.find(':'));
    let bare = tag.and_then(|colon| name.get(..last_slash.saturating_add(colon))).unwrap_or(name);
    if bare != text && bare.contains('/') && check_reference(bare).is_ok() {
        return Err(refuse("a snapshot gets a tag of its own").instead(bare));
    }
    match check_reference(text) {
        Ok(()) if bare == text && bare.contains('/') => Ok(()),
        _ => Err(refuse("must be the name of a repository in a registry")
            .advice("for example: share \"ghcr.io/acme/sandboxes\"")),
    }
}

/// Checks `os/architecture` or `os/architecture/variant`, in Go's spelling.
pub(crate) fn check_platform(text: &str) -> Result<(), Refusal> {
    let refusal = || Refusal::new(format!("`{}` is not a platform", shorten(text)), "os/architecture");
    let well_formed = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let parts: Vec<_> = text.split('/').collect();
    match parts.as_slice() {
        [architecture] => Err(match *architecture {
            "amd64" | "x86_64" | "x86-64" | "x64" => refusal().instead("linux/amd64"),
            "arm64" | "aarch64" => refusal().instead("linux/arm64"),
            _ => refusal().advice("for example \"linux/amd64\""),
        }),
        ["linux", rest @ ..] if rest.len() <= 2 && rest.iter().all(|part| well_formed(part)) => Ok(()),
        [os, _, ..] if *os != "linux" && parts.len() <= 3 => {
            Err(Refusal::new(format!("`{}` cannot be booted", shorten(text)), "only linux images can")
                .advice("for example \"linux/amd64\""))
        }
        _ => Err(refusal().advice("for example \"linux/amd64\"")),
    }
}

fn check_file(scheme: &str, rest: &str) -> Result<(), Refusal> {
    let by_digest = if scheme == "docker-archive:" { None } else { rest.split_once('@') };
    let (path, choice) = match by_digest {
        Some((path, digest)) => {
            check_digest(digest)?;
            (path, None)
        }
        None => rest.split_once(':').map_or((rest, None), |(path, choice)| (path, Some(choice))),
    };
    if path.is_empty() || choice == Some("") {
        let kind = if scheme == "oci-layout:" { "DIR" } else { "FILE" };
        return Err(Refusal::new(format!("`{scheme}{rest}` names no file"), "a path is missing")
            .advice(format!("write it as {scheme}{kind} or {scheme}{kind}:TAG")));
    }
    normal_path(path)
}

/// Transports of skopeo and podman, and URLs.
fn other_tool(text: &str) -> Option<Refusal> {
    let (scheme, rest) = text.split_once(':')?;
    let foreign = |label: &str| Refusal::new(format!("`{scheme}:` is not known here"), label);
    match scheme {
        "docker" | "http" | "https" if rest.starts_with("//") => {
            let name = rest.trim_start_matches('/');
            let refusal = Refusal::new("an image is not a URL", "the name is enough");
            Some(if check_reference(name).is_ok() { refusal.instead(name) } else { refusal })
        }
        "oci" | "dir" if rest.contains('/') => {
            Some(foreign("another tool's name for a directory").instead(format!("oci-layout:{rest}")))
        }
        "docker-daemon" | "containers-storage" => Some(
            foreign("sbx does not read other tools' stores")
                .advice("save the image to a file first: docker save IMAGE -o image.tar, then image \"docker-archive:image.tar\""),
        ),
        _ => None,
    }
}

fn check_reference(text: &str) -> Result<(), Refusal> {
    let refuse = |label: &str| Refusal::new(format!("`{}` is not an image", shorten(text)), label);
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    if let Some(digest) = digest {
        check_digest(digest)?;
    }
    let last_slash = rest.rfind('/').map_or(0, |slash| slash.saturating_add(1));
    let (name, tag) = match rest.get(last_slash..).and_then(|last| last.find(':')) {
        Some(colon) => rest.split_at_checked(last_slash.saturating_add(colon)).unwrap_or((rest, "")),
        None => (rest, ""),
    };
    if let Some(tag) = tag.strip_prefix(':')
        && !is_tag(tag)
    {
        return Err(refuse("after the `:` must be a tag: letters, digits, `_`, `.`, `-`, at most 128"));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(refuse("longer than 255 characters"));
    }
    let (domain, path) = split_domain(name);
    if let Some(domain) = domain
        && !is_domain(domain)
    {
        return Err(refuse("the part before the first `/` is not a registry"));
    }
    if path.split('/').all(is_component) {
        return Ok(());
    }
    let lower = text.replacen(name, &name.to_ascii_lowercase(), 1);
    if lower != text && check_reference(&lower).is_ok() {
        return Err(refuse("names of images are in lower case").instead(lower));
    }
    Err(refuse("must be a name like docker.io/library/debian:bookworm-slim")
        .advice("for example: image \"docker.io/library/debian:bookworm-slim\""))
}

/// The registry is what stands before the first slash, if it has a dot, a colon or a capital, or is `localhost`.
fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':', '['])
                || first == "localhost"
                || first.to_ascii_lowercase() != first =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn is_domain(text: &str) -> bool {
    let is_port =
        |port: &str| !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = rest.strip_prefix(':');
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (rest.is_empty() || port.is_some_and(is_port));
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = text.split(|character: char| u8::try_from(character).is_ok_and(alphanumeric));
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| alphanumeric(*byte))
        && bytes.last().is_some_and(|byte| alphanumeric(*byte))
        && separators
            .into_iter()
            .all(|run| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    const MAX_BYTES: usize = 128;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !text.is_empty() && text.len() <= MAX_BYTES && text.bytes().all(known) && !text.starts_with(['.', '-'])
}

fn check_digest(text: &str) -> Result<(), Refusal> {
    let refuse = |label: &str| Refusal::new(format!("`{}` is not a digest", shorten(text)), label);
    let (algorithm, hex) = text.split_once(':').ok_or_else(|| refuse("sha256: and 64 hexadecimal digits"))?;
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return Err(refuse("only sha256 and sha512 are known")),
    };
    if hex.len() == length && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        Ok(())
    } else {
        Err(refuse(&format!(
            "after the `:` must be {length} hexadecimal digits in lower case, here are {}",
            hex.len()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_and_files_are_accepted() {
        for text in [
            "debian",
            "debian:12",
            "library/debian",
            "docker.io/library/debian:bookworm-slim",
            "localhost/x",
            "localhost:5000/x:1",
            "127.0.0.1:5000/a/b",
            "ghcr.io/o_w/n__a/m-e.x:V1.0-rc_2",
            "[::1]:5000/x",
            "a--b/c",
            "oci-layout:dir",
            "oci-layout:/a/b:tag",
            "oci-archive:../x.tar",
            "docker-archive:~/x.tar:debian:12",
        ] {
            assert_eq!(check_image(text), Ok(()), "{text}");
        }
        for text in
            [format!("debian@{DIGEST}"), format!("a.b/c:t@{DIGEST}"), format!("oci-layout:x@{DIGEST}")]
        {
            assert_eq!(check_image(&text), Ok(()), "{text}");
        }
    }

    #[test]
    fn others_are_refused_with_what_was_meant() {
        for (text, instead) in [
            ("Debian:12", Some("debian:12")),
            ("docker.io/Library/debian:Tag", Some("docker.io/library/debian:Tag")),
            ("docker://debian:12", Some("debian:12")),
            ("https://ghcr.io/a/b", Some("ghcr.io/a/b")),
            ("oci:./dir:tag", Some("oci-layout:./dir:tag")),
            ("docker-daemon:x:latest", None),
            ("", None),
            ("debian:", None),
            ("debian:-x", None),
            ("debian@sha256:abc", None),
            ("debian@md5:abc", None),
            ("debian@", None),
            ("/debian", None),
            ("debian/", None),
            ("a//b", None),
            ("a b", None),
            ("-a", None),
            ("a___b", None),
            ("a._b", None),
            ("ä", None),
            ("oci-layout:", None),
            ("oci-layout::tag", None),
            ("oci-layout:x:", None),
            ("docker-archive:", None),
            ("oci-archive:$X", None),
            ("http://", None),
            (":", None),
            ("@", None),
        ] {
            let refusal = check_image(text).err().unwrap_or_else(|| panic!("{text} was accepted"));
            assert_eq!(refusal.instead.as_deref(), instead, "{text}");
        }
        assert!(check_image(&"a".repeat(256)).is_err());
        assert!(check_image(&format!("a:{}", "t".repeat(129))).is_err());
    }

    #[test]
    fn platforms() {
        for text in ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"] {
            assert_eq!(check_platform(text), Ok(()), "{text}");
        }
        for (text, instead) in [
            ("amd64", Some("linux/amd64")),
            ("aarch64", Some("linux/arm64")),
            ("windows/amd64", None),
            ("linux", None),
            ("linux/", None),
            ("linux/amd64/v1/x", None),
            ("Linux/AMD64", None),
            ("", None),
        ] {
            assert_eq!(check_platform(text).unwrap_err().instead.as_deref(), instead, "{text}");
        }
    }
}

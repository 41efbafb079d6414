//! Paths as manifests write them. Nothing is looked up: that is the caller's, who may touch the disk.

use super::{Refusal, name::shorten};

/// Checks a path on the host: absolute, relative, `~` or `~/…`.
pub(crate) fn normal_path(text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(Refusal::new("a path is empty", "names no directory").instead("."));
    }
    if text.starts_with('~') && text != "~" && !text.starts_with("~/") {
        return Err(Refusal::new(
            format!("`{text}` means another user's home"),
            "only `~` and `~/…` are known",
        )
        .instead(format!("~/{}", text.trim_start_matches('~'))));
    }
    if text.starts_with('$') || text.contains("${") {
        return Err(Refusal::new(
            format!("variables are not replaced in `{text}`"),
            "taken as it is written",
        )
        .advice("use a path relative to the manifest, or one that begins with ~/"));
    }
    if text.contains("://") {
        return Err(Refusal::new(
            format!("`{text}` is a URL, not a path"),
            "must be a directory of the host",
        ));
    }
    Ok(())
}

/// A path in the sandbox: absolute and without `.` and `..`; returned without superfluous slashes.
pub(crate) fn absolute_path(text: &str) -> Result<String, Refusal> {
    normal_path(text)?;
    let Some(rest) = text.strip_prefix('/') else {
        return Err(Refusal::new(format!("`{text}` is not an absolute path"), "must begin with `/`")
            .instead(format!("/{}", text.trim_start_matches(['~', '.', '/']))));
    };
    let parts: Vec<_> = rest.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(Refusal::new(format!("`{text}` has `.` or `..` in it"), "write where it leads to"));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A path in the workspace: relative, and nowhere else; returned without `.` and superfluous slashes.
pub(crate) fn workspace_path(text: &str) -> Result<String, Refusal> {
    normal_path(text)?;
    let refuse = || Refusal::new(format!("`{}` is not in the workspace", shorten(text)), "leads out of it");
    if text.starts_with(['/', '~']) {
        return Err(refuse().advice("write it relative to the manifest"));
    }
    if text.contains('\0') {
        return Err(Refusal::new("there is a NUL in the path", "no file has such a name"));
    }
    let parts: Vec<_> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(refuse().advice("setup sees the files of the workspace, and no others"));
    }
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_relative_absolute_or_at_home() {
        for text in [".", "..", "../lib", "/srv", "~", "~/.cargo/registry", "a b", "ä"] {
            assert_eq!(normal_path(text), Ok(()), "{text}");
        }
        for text in ["", "~root", "~root/x", "$HOME/x", "${HOME}", "file:///x"] {
            assert!(normal_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn workspace_paths_stay_inside() {
        for (text, expected) in [
            ("package-lock.json", "package-lock.json"),
            ("./a//b/", "a/b"),
            (".", "."),
            ("a b/...", "a b/..."),
        ] {
            assert_eq!(workspace_path(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "/etc/passwd", "~/x", "~", "..", "a/../../b", "a/..", "$X", "a\0b"] {
            assert!(workspace_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn guest_paths_are_absolute() {
        for (text, expected) in [("/src", "/src"), ("//src//x/", "/src/x"), ("/", "/")] {
            assert_eq!(absolute_path(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["src", "./src", "~/src", "/a/../b", "/a/./b", ""] {
            assert!(absolute_path(text).is_err(), "{text}");
        }
        assert_eq!(absolute_path("./src").unwrap_err().instead.as_deref(), Some("/src"));
    }
}

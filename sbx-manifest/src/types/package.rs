//! Packages as their managers write them. What does not fit is refused: it could be an option, a path or a URL to the
//! program that is handed it.
//!
//! ```text
//! apt    := name [":" architecture] ["=" version | "/" release]       git=1:2.39.5-0+deb12u2
//! apk    := name [("=" | "<" | ">" | "~" …) version] ["@" tag]        git~2.45
//! dnf    := name ["=" version]                                        git=2.47.0-1.fc41
//! npm    := ["@" scope "/"] name ["@" version or range or tag]        @types/node@^20
//! pip    := name ["[" extra ("," extra)* "]"] [specifier ("," …)*]    uvicorn[standard]>=0.30,<1
//! cargo  := name ["@" version]                                        just@1.36.0
//! ```

use super::{Refusal, name::shorten};
use crate::model::PackageManager;

/// Longest package with its version; npm's own bound for a name is 214.
const MAX_BYTES: usize = 256;

/// Checks what a manifest asks `manager` for.
pub(crate) fn check_package(manager: PackageManager, text: &str) -> Result<(), Refusal> {
    let refuse = |label: &str| Refusal::new(format!("`{}` cannot be a package", shorten(text)), label);
    if text.is_empty() {
        return Err(refuse("is empty"));
    }
    if text.starts_with('-') {
        return Err(refuse("an option, not a name"));
    }
    if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        let names: Vec<_> = text.split_whitespace().collect();
        return Err(refuse("one string for each package").advice(
            names.iter().take(5).map(|name| crate::decode::quoted(name)).collect::<Vec<_>>().join(" "),
        ));
    }
    if text.len() > MAX_BYTES {
        return Err(refuse(&format!("longer than {MAX_BYTES} bytes")));
    }
    if is_package(manager, text) {
        return Ok(());
    }
    let refusal = refuse(match manager {
        PackageManager::Apt => "apt has NAME, NAME=VERSION and NAME/RELEASE, names in lower case",
        PackageManager::Apk => "apk has NAME, NAME=VERSION, NAME~VERSION and NAME@TAG",
        PackageManager::Dnf => "dnf has NAME and NAME=VERSION; no groups, files or what packages provide",
        PackageManager::Npm => "npm has NAME, @SCOPE/NAME, and each with @VERSION",
        PackageManager::Pip => "pip has NAME, NAME[EXTRA], and each with ==VERSION, >=VERSION and so on",
        PackageManager::Cargo => "cargo has NAME and NAME@VERSION",
    });
    Err(match respelled(manager, text) {
        Some(right) => refusal.instead(right),
        None => refusal.advice(match manager {
            PackageManager::Apt => r#"for example "git" or "git=1:2.39.5-0+deb12u2""#,
            PackageManager::Apk => r#"for example "git" or "git~2.45""#,
            PackageManager::Dnf => r#"for example "git" or "git=2.47.0-1.fc41""#,
            PackageManager::Npm => r#"for example "typescript@5" or "@types/node@^20""#,
            PackageManager::Pip => r#"for example "ruff" or "uvicorn[standard]>=0.30,<1""#,
            PackageManager::Cargo => r#"for example "just" or "just@1.36.0""#,
        }),
    })
}

/// The name in a package that [`check_package`] accepts, without version, extras and the like.
pub(crate) fn package_name(manager: PackageManager, text: &str) -> &str {
    let ends: &[char] = match manager {
        PackageManager::Apt => &[':', '=', '/'],
        PackageManager::Apk => &['=', '<', '>', '~', '@'],
        PackageManager::Dnf => &['='],
        PackageManager::Npm | PackageManager::Cargo => &['@'],
        PackageManager::Pip => &['[', '=', '<', '>', '!', '~'],
    };
    let scope = usize::from(manager == PackageManager::Npm && text.starts_with('@'));
    let end = text.get(scope..).and_then(|rest| rest.find(ends)).map(|end| end.saturating_add(scope));
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// Whether `text` is a package's name alone.
pub(crate) fn is_name(manager: PackageManager, text: &str) -> bool {
    let of = |allowed: &[u8]| made_of(text, allowed);
    match manager {
        // A `-` at the end would have apt remove it (apt-get(8)).
        PackageManager::Apt => of(b"+-.") && is_lower(text) && text.len() > 1 && !text.ends_with('-'),
        PackageManager::Apk => match text.split_once(':') {
            // What a package provides: `cmd:sh`, `so:libc.so.6`.
            Some((kind, name)) => made_of(kind, b".") && made_of(name, b"+-._"),
            None => of(b"+-._"),
        },
        PackageManager::Dnf => of(b"+-._"),
        PackageManager::Npm => match text.strip_prefix('@') {
            Some(scoped) => {
                scoped.split_once('/').is_some_and(|(scope, name)| is_npm_part(scope) && is_npm_part(name))
            }
            None => is_npm_part(text),
        },
        PackageManager::Pip => of(b"-._") && text.ends_with(|last: char| last.is_ascii_alphanumeric()),
        PackageManager::Cargo => {
            of(b"-_") && text.len() <= 64 && text.starts_with(|first: char| first.is_ascii_alphabetic())
        }
    }
}

/// Whether `text` is a version as one of the managers writes it.
pub(crate) fn is_version(text: &str) -> bool {
    text.len() <= MAX_BYTES && made_of(text, b".+:~^_!-")
}

fn is_package(manager: PackageManager, text: &str) -> bool {
    let name = package_name(manager, text);
    let rest = text.get(name.len()..).unwrap_or_default();
    is_name(manager, name)
        && (rest.is_empty()
            || match manager {
                PackageManager::Apt => is_apt_choice(rest),
                PackageManager::Apk => is_apk_choice(rest),
                PackageManager::Dnf => {
                    rest.strip_prefix('=').is_some_and(|version| made_of(version, b".+:~^_-"))
                }
                PackageManager::Npm => rest.strip_prefix('@').is_some_and(is_npm_range),
                PackageManager::Pip => is_pip_choice(rest),
                PackageManager::Cargo => rest.strip_prefix('@').is_some_and(is_cargo_version),
            })
}

fn is_apt_choice(text: &str) -> bool {
    let choice = match text.strip_prefix(':') {
        Some(rest) => {
            let end = rest.find(['=', '/']).unwrap_or(rest.len());
            let (architecture, choice) = rest.split_at_checked(end).unwrap_or((rest, ""));
            if !made_of(architecture, b"-") {
                return false;
            }
            choice
        }
        None => text,
    };
    choice.is_empty()
        || choice.strip_prefix('=').is_some_and(|version| made_of(version, b".+:~-"))
        || choice.strip_prefix('/').is_some_and(|release| made_of(release, b".+_-"))
}

fn is_apk_choice(text: &str) -> bool {
    let (choice, tag) = text.split_once('@').map_or((text, None), |(choice, tag)| (choice, Some(tag)));
    let operators = choice.bytes().take_while(|byte| b"=<>~".contains(byte)).count();
    let (operator, version) = choice.split_at_checked(operators).unwrap_or((choice, ""));
    let operator_fits = matches!(operator, "=" | "<" | ">" | "<=" | ">=" | "~" | "~=" | "=~" | "<~" | ">~");
    tag.is_none_or(|tag| made_of(tag, b"-_."))
        && (choice.is_empty() || (operator_fits && made_of(version, b"._-")))
}

/// A range without spaces, or the name of a tag. No alias, path or URL: they have a `:` or a `/`.
fn is_npm_range(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b".+-_^~<>=|*".contains(&byte);
    !text.is_empty() && text.bytes().all(known) && !text.starts_with('-')
}

fn is_npm_part(text: &str) -> bool {
    made_of(text.trim_start_matches(['_', '-', '~']), b"-._~") && !text.starts_with('-')
}

fn is_pip_choice(text: &str) -> bool {
    let specifiers = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((extras, specifiers))) if extras.split(',').all(|extra| made_of(extra, b"-._")) => {
            specifiers
        }
        Some(_) => return false,
        None => text,
    };
    specifiers.is_empty()
        || specifiers.split(',').all(|specifier| {
            let operators = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];
            let version = operators.iter().find_map(|operator| specifier.strip_prefix(operator));
            version.is_some_and(|version| made_of(version, b".*+!_-"))
        })
}

/// As `cargo install` has it: one to three numbers, then perhaps what semver allows.
fn is_cargo_version(text: &str) -> bool {
    let numbers_end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at_checked(numbers_end).unwrap_or((text, ""));
    let numbers: Vec<_> = numbers.trim_start_matches(['=', '^', '~']).split('.').collect();
    numbers.len() <= 3
        && numbers.iter().all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        && (rest.is_empty() || made_of(rest.get(1..).unwrap_or_default(), b".+-"))
}

/// Whether the first character is a letter or a digit, and the others are, or one of `also`.
fn made_of(text: &str, also: &[u8]) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
}

fn is_lower(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// With a version as this manager writes it, if it was written as another does.
fn respelled(manager: PackageManager, text: &str) -> Option<String> {
    let operator = match manager {
        PackageManager::Apt | PackageManager::Apk | PackageManager::Dnf => "=",
        PackageManager::Npm | PackageManager::Cargo => "@",
        PackageManager::Pip => "==",
    };
    let lower = text.to_ascii_lowercase();
    if manager == PackageManager::Apt && is_package(manager, &lower) {
        return Some(lower);
    }
    let scope = usize::from(text.starts_with('@'));
    let start = text.get(scope..)?.find(['=', '@'])?.saturating_add(scope);
    let (name, rest) = text.split_at_checked(start)?;
    let right = format!("{name}{operator}{}", rest.trim_start_matches(['=', '@']));
    (right != text && is_package(manager, &right)).then_some(right)
}

#[cfg(test)]
mod tests {
    use super::{PackageManager::*, *};

    #[test]
    fn packages_and_their_names() {
        for (manager, text, name) in [
            (Apt, "git", "git"),
            (Apt, "g++", "g++"),
            (Apt, "libc6:i386=2.36-9+deb12u8", "libc6"),
            (Apt, "git=1:2.39.5-0+deb12u2", "git"),
            (Apt, "golang/bookworm-backports", "golang"),
            (Apk, "py3-pip", "py3-pip"),
            (Apk, "git~2.45", "git"),
            (Apk, "git>=2.45.2-r0", "git"),
            (Apk, "cmd:sh", "cmd:sh"),
            (Apk, "helm@testing", "helm"),
            (Dnf, "gcc-c++", "gcc-c++"),
            (Dnf, "python3.13=3.13.0~rc1-1.fc41", "python3.13"),
            (Dnf, "vim-minimal=2:9.1^20240101-1", "vim-minimal"),
            (Npm, "typescript", "typescript"),
            (Npm, "typescript@5", "typescript"),
            (Npm, "@types/node@^20.1", "@types/node"),
            (Npm, "@scope/name", "@scope/name"),
            (Npm, "JSONStream@>=1", "JSONStream"),
            (Npm, "eslint@next", "eslint"),
            (Pip, "ruff", "ruff"),
            (Pip, "uvicorn[standard,dev]>=0.30,<1", "uvicorn"),
            (Pip, "zope.interface==6.*", "zope.interface"),
            (Cargo, "just", "just"),
            (Cargo, "cargo-nextest@0.9", "cargo-nextest"),
            (Cargo, "just@1.36.0-rc.1+b", "just"),
        ] {
            assert_eq!(check_package(manager, text), Ok(()), "{text}");
            assert_eq!(package_name(manager, text), name, "{text}");
            assert!(is_name(manager, name), "{name}");
        }
    }

    #[test]
    fn what_means_something_else_to_a_manager_is_refused() {
        for (manager, text, instead) in [
            (Apt, "git@2.39", Some("git=2.39")),
            (Apt, "Git", Some("git")),
            (Apt, "git-", None),
            (Apt, "./x.deb", None),
            (Apt, "a", None),
            (Apt, "git=", None),
            (Apt, "git;reboot", None),
            (Apk, "git==2.45", Some("git=2.45")),
            (Apk, "!git", None),
            (Apk, "git@", None),
            (Dnf, "git@2.47", Some("git=2.47")),
            (Dnf, "@development-tools", None),
            (Dnf, "/usr/bin/git", None),
            (Dnf, "perl(English)", None),
            (Dnf, "git*", None),
            (Npm, "typescript=5", Some("typescript@5")),
            (Npm, "x@npm:y", None),
            (Npm, "x@file:../y", None),
            (Npm, "git+ssh://x/y", None),
            (Npm, "owner/repository", None),
            (Npm, "../x", None),
            (Npm, "..", None),
            (Npm, "@scope", None),
            (Npm, "@/x", None),
            (Pip, "ruff@0.4", Some("ruff==0.4")),
            (Pip, "ruff=0.4", Some("ruff==0.4")),
            (Pip, "ruff;python_version<'3'", None),
            (Pip, "ruff[", None),
            (Pip, "git+https://x/y", None),
            (Cargo, "just=1", Some("just@1")),
            (Cargo, "just@latest", None),
            (Cargo, "just@1.2.3.4", None),
            (Cargo, "1x", None),
            (Npm, "$(reboot)", None),
        ] {
            let refusal = check_package(manager, text).err().unwrap_or_else(|| panic!("{text} was accepted"));
            assert_eq!(refusal.instead.as_deref(), instead, "{text}");
        }
        assert!(check_package(Apt, &"a".repeat(257)).is_err());
    }
}

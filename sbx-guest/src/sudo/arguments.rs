//! The command line of `sudo`, as far as people and scripts use it.

/// Shown when the command line is not understood.
pub(super) const USAGE: &str = "\
usage: sudo [-EHnS] [-u USER] [-g GROUP] [VAR=VALUE…] COMMAND [ARGUMENT…]
       sudo -i|-s [-u USER] [COMMAND [ARGUMENT…]]";

const VERSION: &str = concat!("sudo of sbx ", env!("CARGO_PKG_VERSION"), "\n");

/// What was asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Arguments {
    /// What to do at all.
    pub mode: Mode,
    /// `-u`; root if none.
    pub user: Option<String>,
    /// `-g`.
    pub group: Option<String>,
    /// `-i`: a login shell.
    pub login: bool,
    /// `-s`: a shell.
    pub shell: bool,
    /// `-E`: keep `HOME` as well.
    pub preserve_environment: bool,
    /// `VAR=VALUE` before the command.
    pub variables: Vec<(Vec<u8>, Vec<u8>)>,
    /// Program and arguments; may be empty with `-i` and `-s`.
    pub command: Vec<Vec<u8>>,
}

/// What `sudo` is to do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Mode {
    /// Run a command.
    #[default]
    Run,
    /// Say something and be done.
    Print(String),
    /// Succeed: there is no password to ask for, and none to forget (`-v`, `-k`, `-K`).
    Nothing,
}

/// A command line that is not understood.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ArgumentsError {
    #[error("unknown option {option}")]
    Unknown { option: String },
    #[error("{option} needs a value")]
    NoValue { option: String },
    #[error("what is to be run?")]
    NoCommand,
}

impl Arguments {
    /// Understands everything after `sudo`.
    pub(super) fn parse(words: &[Vec<u8>]) -> Result<Self, ArgumentsError> {
        let mut arguments = Self::default();
        let mut words = words.iter().map(Vec::as_slice).peekable();
        while let Some(word) = words.next_if(|word| word.len() > 1 && word.starts_with(b"-")) {
            if word == b"--" {
                break;
            }
            match word.strip_prefix(b"--") {
                Some(long) => arguments.long(long, &mut words)?,
                None => arguments.short(word.get(1..).unwrap_or_default(), &mut words)?,
            }
        }
        while let Some((name, value)) = words.peek().and_then(|word| variable(word)) {
            arguments.variables.push((name.to_vec(), value.to_vec()));
            words.next();
        }
        arguments.command = words.map(<[u8]>::to_vec).collect();
        let needs_command = arguments.mode == Mode::Run && !arguments.login && !arguments.shell;
        if needs_command && arguments.command.is_empty() {
            return Err(ArgumentsError::NoCommand);
        }
        Ok(arguments)
    }

    /// User and group as [`crate::identity::Identity::resolve`] takes them; `#UID` is how sudo writes a number.
    pub(super) fn spec(&self) -> Option<String> {
        let strip = |text: &str| text.strip_prefix('#').unwrap_or(text).to_owned();
        match (&self.user, &self.group) {
            (None, None) => None,
            (user, None) => user.as_deref().map(strip),
            (user, Some(group)) => {
                Some(format!("{}:{}", strip(user.as_deref().unwrap_or("root")), strip(group)))
            }
        }
    }

    fn short<'a>(
        &mut self,
        letters: &[u8],
        words: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), ArgumentsError> {
        for (index, letter) in letters.iter().enumerate() {
            let rest = letters.get(index.saturating_add(1)..).unwrap_or_default();
            let mut value = || {
                let found = if rest.is_empty() { words.next() } else { Some(rest) };
                let option = format!("-{}", char::from(*letter));
                found.map(text).ok_or(ArgumentsError::NoValue { option })
            };
            match letter {
                b'u' => self.user = Some(value()?),
                b'g' => self.group = Some(value()?),
                // A prompt, a host, a class, a timeout, descriptors to keep: nothing to do for us.
                b'p' | b'h' | b'C' | b'T' | b'r' | b't' => drop(value()?),
                b'n' | b'H' | b'S' | b'A' | b'P' | b'B' | b'N' => continue,
                b'E' => self.preserve_environment = true,
                b'i' => self.login = true,
                b's' => self.shell = true,
                b'v' | b'k' | b'K' => self.mode = Mode::Nothing,
                b'l' => self.mode = Mode::Print("You may run everything as everybody.\n".to_owned()),
                b'V' => self.mode = Mode::Print(VERSION.to_owned()),
                _ => return Err(ArgumentsError::Unknown { option: format!("-{}", char::from(*letter)) }),
            }
            if matches!(letter, b'u' | b'g' | b'p' | b'h' | b'C' | b'T' | b'r' | b't') {
                break;
            }
        }
        Ok(())
    }

    fn long<'a>(
        &mut self,
        word: &[u8],
        words: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), ArgumentsError> {
        let (name, given) = match word.iter().position(|byte| *byte == b'=') {
            Some(at) => (word.get(..at).unwrap_or_default(), word.get(at.saturating_add(1)..)),
            None => (word, None),
        };
        let option = || format!("--{}", text(name));
        let mut value = || {
            given
                .or_else(|| words.next())
                .map(text)
                .ok_or_else(|| ArgumentsError::NoValue { option: option() })
        };
        match name {
            b"user" => self.user = Some(value()?),
            b"group" => self.group = Some(value()?),
            b"prompt" => drop(value()?),
            b"non-interactive" | b"set-home" | b"stdin" | b"askpass" => {}
            b"preserve-env" => self.preserve_environment = true,
            b"login" => self.login = true,
            b"shell" => self.shell = true,
            b"validate" | b"reset-timestamp" | b"remove-timestamp" => self.mode = Mode::Nothing,
            b"list" => self.mode = Mode::Print("You may run everything as everybody.\n".to_owned()),
            b"version" => self.mode = Mode::Print(VERSION.to_owned()),
            b"help" => self.mode = Mode::Print(format!("{USAGE}\n")),
            _ => return Err(ArgumentsError::Unknown { option: option() }),
        }
        Ok(())
    }
}

/// One line for `sh -c` in which each word is what it was. As sudo does it: everything but letters, digits, `_`, `-`
/// and `$` is escaped.
pub(super) fn quoted(words: &[Vec<u8>]) -> Vec<u8> {
    let mut line = Vec::new();
    for word in words {
        if !line.is_empty() {
            line.push(b' ');
        }
        for byte in word {
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$') || *byte >= 0x80) {
                line.push(b'\\');
            }
            line.push(*byte);
        }
    }
    line
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn variable(word: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = word.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    let (name, value) = (word.get(..at)?, word.get(at.saturating_add(1)..)?);
    let is_name = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    (is_name && !name.first()?.is_ascii_digit()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, ArgumentsError> {
        let words: Vec<Vec<u8>> =
            line.split(' ').filter(|w| !w.is_empty()).map(|w| w.as_bytes().to_vec()).collect();
        Arguments::parse(&words)
    }

    fn command(arguments: &Arguments) -> String {
        arguments.command.iter().map(|word| text(word)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_end_at_the_command() {
        let arguments = parse("-n -E apt-get -y install git").unwrap();
        assert!(arguments.preserve_environment);
        assert_eq!(command(&arguments), "apt-get -y install git");
        assert_eq!(command(&parse("-- -odd").unwrap()), "-odd");
    }

    #[test]
    fn users_and_groups() {
        assert_eq!(parse("true").unwrap().spec(), None);
        assert_eq!(parse("-u postgres psql").unwrap().spec().as_deref(), Some("postgres"));
        assert_eq!(parse("-nupostgres psql").unwrap().spec().as_deref(), Some("postgres"));
        assert_eq!(parse("--user=#33 id").unwrap().spec().as_deref(), Some("33"));
        assert_eq!(parse("--user www --group adm id").unwrap().spec().as_deref(), Some("www:adm"));
        assert_eq!(parse("-g adm id").unwrap().spec().as_deref(), Some("root:adm"));
    }

    #[test]
    fn variables_come_before_the_command() {
        let arguments = parse("A=1 B_2=x=y env C=3").unwrap();
        assert_eq!(arguments.variables, [(b"A".to_vec(), b"1".to_vec()), (b"B_2".to_vec(), b"x=y".to_vec())]);
        assert_eq!(command(&arguments), "env C=3");
    }

    #[test]
    fn shells_need_no_command() {
        assert!(parse("-i").unwrap().login);
        assert!(parse("-su root").unwrap().shell);
        assert_eq!(parse("").unwrap_err(), ArgumentsError::NoCommand);
    }

    #[test]
    fn questions_that_need_no_command() {
        assert_eq!(parse("-v").unwrap().mode, Mode::Nothing);
        assert!(matches!(parse("--version").unwrap().mode, Mode::Print(_)));
        assert_eq!(parse("-nv").unwrap().mode, Mode::Nothing);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(parse("-x true").unwrap_err().to_string(), "unknown option -x");
        assert_eq!(parse("--odd true").unwrap_err().to_string(), "unknown option --odd");
        assert_eq!(parse("-u").unwrap_err().to_string(), "-u needs a value");
    }

    #[test]
    fn a_shell_gets_the_words_as_they_were() {
        let words = [b"echo".to_vec(), b"a b".to_vec(), b"it's".to_vec(), b"$HOME".to_vec()];
        assert_eq!(text(&quoted(&words)), "echo a\\ b it\\'s $HOME");
    }
}

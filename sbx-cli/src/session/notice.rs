//! What the sandbox has to tell while a command has the terminal.
//!
//! A line among those of a shell is welcome; in the middle of a program that draws on the whole screen it would be dirt. Such
//! programs switch to the terminal's alternate screen (xterm's private modes 47, 1047 and 1049), so lines wait until they have
//! switched back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ui::Ui;

/// Lines that wait for a program to give the screen back; what comes then is in the log only.
const MAX_WAITING: usize = 20;

/// Longest sequence that is looked for, less one byte: so much of what was written before may belong to one.
const CARRIED_BYTES: usize = 7;

/// The sequences (DECSET and DECRST of the modes) and whether the alternate screen is on after them.
const SWITCHES: [(&[u8], bool); 6] = [
    (b"\x1b[?1049h", true),
    (b"\x1b[?1049l", false),
    (b"\x1b[?1047h", true),
    (b"\x1b[?1047l", false),
    (b"\x1b[?47h", true),
    (b"\x1b[?47l", false),
];

/// The terminal as this process has left it.
#[derive(Debug)]
struct Screen {
    raw: bool,
    alternate: bool,
    carried: Vec<u8>,
    waiting: Vec<String>,
}

static SCREEN: Mutex<Screen> =
    Mutex::new(Screen { raw: false, alternate: false, carried: Vec::new(), waiting: Vec::new() });

fn screen() -> MutexGuard<'static, Screen> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows `line` now, or as soon as the screen is there for lines again.
pub(crate) fn tell(line: &str) {
    let mut screen = screen();
    if !screen.alternate {
        Ui::new().notice(line, screen.raw);
    } else if screen.waiting.len() < MAX_WAITING {
        screen.waiting.push(line.to_owned());
    }
}

/// The terminal has become raw, or is not any more.
pub(super) fn set_raw(raw: bool) {
    let mut screen = screen();
    screen.raw = raw;
    if !raw {
        screen.alternate = false;
        screen.carried.clear();
        screen.show();
    }
}

/// The command has written `bytes` to the raw terminal.
pub(super) fn written(bytes: &[u8]) {
    let mut screen = screen();
    if screen.raw {
        screen.follow(bytes);
        if !screen.alternate {
            screen.show();
        }
    }
}

impl Screen {
    fn follow(&mut self, bytes: &[u8]) {
        self.carried.extend_from_slice(bytes);
        let last = SWITCHES
            .iter()
            .filter_map(|(sequence, on)| Some((rfind(&self.carried, sequence)?, *on)))
            .max_by_key(|(position, _)| *position);
        if let Some((_, on)) = last {
            self.alternate = on;
        }
        let done = self.carried.len().saturating_sub(CARRIED_BYTES);
        self.carried.drain(..done);
    }

    fn show(&mut self) {
        for line in self.waiting.drain(..) {
            Ui::new().notice(&line, self.raw);
        }
    }
}

fn rfind(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).rposition(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alternate_screen_is_followed_through_any_pieces() {
        let mut screen = Screen { raw: true, alternate: false, carried: Vec::new(), waiting: Vec::new() };
        for (bytes, alternate) in [
            (b"$ vim\r\n\x1b[?10".as_slice(), false),
            (b"49h~", true),
            (b"text \x1b[?25h", true),
            (b"\x1b[?1049l", false),
            (b"\x1b[?47h\x1b[?47l", false),
            (b"\x1b[?1047l\x1b[?1047h", true),
        ] {
            screen.follow(bytes);
            assert_eq!(screen.alternate, alternate, "{}", bytes.escape_ascii());
        }
    }
}

//! A patch on a terminal: colours of ours, and none of the control characters that are in it.

use anstyle::{AnsiColor, Style};

use crate::workspace::diff::{Class, Line};

/// `line`, for a terminal.
pub(super) fn render(line: &Line) -> String {
    let style = match line.class {
        Class::Header => Style::new().bold(),
        Class::Hunk => AnsiColor::Cyan.on_default(),
        Class::Added => AnsiColor::Green.on_default(),
        Class::Removed => AnsiColor::Red.on_default(),
        Class::Context | Class::Other => Style::new(),
    };
    let text = String::from_utf8_lossy(&line.bytes);
    let text = visible(text.strip_suffix('\n').unwrap_or(&text));
    format!("{style}{text}{style:#}\n")
}

/// `text` with characters that would drive the terminal, or show it in another order than it has, made visible.
fn visible(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        match character {
            '\t' => shown.push(character),
            // Control characters for the direction of text: what is read is not what is compiled.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.push_str(&format!("<U+{:04X}>", u32::from(character)));
            }
            other if other.is_control() => shown.push('\u{fffd}'),
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_cannot_drive_the_terminal() {
        let line = |class, text: &str| render(&Line { class, bytes: text.as_bytes().to_vec() });
        assert_eq!(
            line(Class::Added, "+a\u{1b}[2J\tb\u{9b}\r\n"),
            "\u{1b}[32m+a\u{fffd}[2J\tb\u{fffd}\u{fffd}\u{1b}[0m\n"
        );
        assert_eq!(line(Class::Context, " if a \u{202e}b"), " if a <U+202E>b\n");
    }
}

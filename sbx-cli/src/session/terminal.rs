//! The user's terminal: its size, and raw mode that is left on every way out.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use sbx_proto::WindowSize;

use crate::error::{CommandError, Result};

/// What terminals have had since the VT100; for `-t` without a terminal on this side.
const DEFAULT_SIZE: WindowSize = WindowSize { rows: 24, columns: 80 };

/// A terminal in raw mode. Restored when asked, when the last clone is dropped, and when the program panics.
#[derive(Clone, Debug)]
pub(super) struct Terminal {
    cooked: Arc<Termios>,
    raw: Arc<AtomicBool>,
}

impl Terminal {
    /// The size of the terminal on stdout, or [`DEFAULT_SIZE`] if there is none or it does not know.
    pub(super) fn size_or_default() -> WindowSize {
        Self::size().unwrap_or(DEFAULT_SIZE)
    }

    /// The size of the terminal on stdout.
    pub(super) fn size() -> Option<WindowSize> {
        let size = tcgetwinsize(io::stdout()).ok()?;
        (size.ws_row > 0 && size.ws_col > 0).then_some(WindowSize { rows: size.ws_row, columns: size.ws_col })
    }

    /// Puts the terminal on stdin into raw mode.
    ///
    /// # Errors
    /// If stdin is not a terminal after all.
    pub(super) fn enter_raw() -> Result<Self> {
        let cooked = tcgetattr(io::stdin()).map_err(|error| {
            CommandError::failed("cannot read the settings of the terminal")
                .with_source(io::Error::from(error))
        })?;
        let terminal = Self { cooked: Arc::new(cooked), raw: Arc::new(AtomicBool::new(false)) };
        terminal.make_raw();
        let for_panic = terminal.clone();
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |information| {
            for_panic.restore();
            earlier(information);
        }));
        Ok(terminal)
    }

    /// Raw mode, again after a `restore`.
    pub(super) fn make_raw(&self) {
        let mut settings = (*self.cooked).clone();
        settings.make_raw();
        if tcsetattr(io::stdin(), OptionalActions::Drain, &settings).is_ok() {
            self.raw.store(true, Ordering::SeqCst);
        }
    }

    /// The settings that the terminal had before.
    pub(super) fn restore(&self) {
        if self.raw.swap(false, Ordering::SeqCst) {
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.cooked);
        }
    }
}

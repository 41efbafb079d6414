//! `sbx logs`.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    thread,
};

use crate::{
    args::Selection,
    context::Context,
    error::{CommandError, Outcome, Result},
    sandbox::directory::SandboxDirectory,
    watch::Watch,
};

/// Show the guest's console and what the sandbox process has to say
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Go on as the log grows, until the sandbox stops
    #[arg(short, long)]
    follow: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (directory, _) = context.sandbox(&args.selection)?;
    let mut logs = [Log::new(directory.process_log()), Log::new(directory.console_log())];
    for log in &mut logs {
        log.copy()?;
    }
    if args.follow {
        follow(&directory, &mut logs)?;
    }
    Ok(Outcome::Done)
}

fn follow(directory: &SandboxDirectory, logs: &mut [Log]) -> Result<()> {
    let failed =
        |error: io::Error| CommandError::failed("cannot watch the logs of the sandbox").with_source(error);
    let watch = Watch::new([directory.path(), &directory.run()]).map_err(failed)?;
    // The end of the process is no change of a file; a thread waits for it, and its end of the pipe tells.
    let (ended, ending) = io::pipe().map_err(failed)?;
    let waited_for = directory.clone();
    thread::spawn(move || {
        let _ = waited_for.wait_until_dead();
        drop(ending);
    });
    loop {
        let alive = directory.is_alive();
        for log in &mut *logs {
            log.copy()?;
        }
        if !alive {
            return Ok(());
        }
        watch.wait_or(&ended).map_err(failed)?;
    }
}

/// A log file that may not be there yet, and that starts anew when the sandbox does.
#[derive(Debug)]
struct Log {
    path: std::path::PathBuf,
    position: u64,
}

impl Log {
    fn new(path: std::path::PathBuf) -> Self {
        Self { path, position: 0 }
    }

    /// Copies to stdout what came since the last time.
    fn copy(&mut self) -> Result<()> {
        copy_from(&self.path, &mut self.position).map_err(|error| {
            CommandError::failed(format!("cannot read {}", self.path.display())).with_source(error)
        })
    }
}

fn copy_from(path: &Path, position: &mut u64) -> io::Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() < *position {
        *position = 0;
    }
    file.seek(SeekFrom::Start(*position))?;
    let mut stdout = io::stdout().lock();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return stdout.flush().or_else(ignore_broken_pipe);
        }
        stdout.write_all(buffer.get(..count).unwrap_or_default()).or_else(ignore_broken_pipe)?;
        *position = position.saturating_add(count as u64);
    }
}

fn ignore_broken_pipe(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

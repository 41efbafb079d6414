//! `sbx image`.

use clap::Subcommand;
use sbx_image::{Platform, Source, platform::PlatformError, source::SourceError};

use crate::{
    context::Context,
    error::{CommandError, Outcome, Result},
    images,
    sandbox::state::now,
    ui::{Table, age, bytes, printable, short_digest},
};

/// Pull, list, remove and verify images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch an image and make its snapshot; asks the registry even if the image is here
    Pull {
        /// A name as in a manifest: `debian:12`, `ghcr.io/owner/image@sha256:…`, `oci-layout:DIR`, `docker-archive:FILE`
        image: String,
        /// As in `linux/amd64`; default: this machine's
        #[arg(long)]
        platform: Option<String>,
    },
    /// List the images in the store
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget images; `sbx prune` then frees what nobody uses
    Rm {
        /// Names as `sbx image ls` shows them, or the beginning of a digest
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Hash everything in the store again and compare
    Verify {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Delete what is damaged, so that the next pull fetches it again
        #[arg(long)]
        discard: bool,
    },
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Outcome> {
    match args.command {
        Command::Pull { image, platform } => pull(context, &image, platform.as_deref()),
        Command::Ls { json } => list(context, json),
        Command::Rm { images } => remove(context, &images),
        Command::Verify { json, discard } => verify(context, json, discard),
    }
}

fn pull(context: &Context, image: &str, platform: Option<&str>) -> Result<Outcome> {
    let source: Source = image.parse().map_err(|error: SourceError| {
        CommandError::usage(format!("`{image}` is not an image")).with_source(error)
    })?;
    let platform = match platform {
        None => Platform::host(),
        Some(text) => text.parse().map_err(|error: PlatformError| {
            CommandError::usage(format!("`{text}` is not a platform"))
                .with_source(error)
                .with_hint("--platform linux/amd64")
        })?,
    };
    let store = images::open_store(context)?;
    let image = images::pull(context, &store, &source, &platform)?;
    images::snapshot(context, &store, &image)?;
    context.ui.data(&image.manifest_digest);
    Ok(Outcome::Done)
}

fn list(context: &Context, json: bool) -> Result<Outcome> {
    let images = images::open_store(context)?.images().map_err(images::store_failed)?;
    if json {
        context.ui.json(&images);
        return Ok(Outcome::Done);
    }
    if images.is_empty() {
        context.ui.note("no images; `sbx up` and `sbx image pull` fetch them");
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["image", "platform", "digest", "size", "layers", "last used"]);
    for image in images {
        let used = format!("{} ago", age(now().saturating_sub(image.last_used)));
        table.row(vec![
            printable(&image.reference),
            image.platform.to_string(),
            short_digest(&image.manifest_digest.to_string()),
            bytes(image.size_bytes),
            image.layers.to_string(),
            if image.complete { used } else { "incomplete, pull it again".to_owned() },
        ]);
    }
    context.ui.data(table);
    Ok(Outcome::Done)
}

fn remove(context: &Context, names: &[String]) -> Result<Outcome> {
    let store = images::open_store(context)?;
    for name in names {
        let removed = store.remove_image(name).map_err(|error| {
            CommandError::usage(format!("cannot remove {name}"))
                .with_source(error)
                .with_hint("`sbx image ls` lists what is there")
        })?;
        for reference in removed {
            context.ui.data(printable(&reference));
        }
    }
    Ok(Outcome::Done)
}

fn verify(context: &Context, json: bool, discard: bool) -> Result<Outcome> {
    let store = images::open_store(context)?;
    let verified = store.verify(&mut |_| {}).map_err(images::store_failed)?;
    if json {
        context.ui.json(&verified);
    }
    for damage in &verified.damaged {
        let mut line = format!("{}: {}", damage.path.display(), damage.reason);
        if !damage.images.is_empty() {
            line.push_str(&format!(" (needed by {})", damage.images.join(", ")));
        }
        context.ui.warning(printable(&line));
    }
    if verified.damaged.is_empty() {
        context.ui.note(format_args!("{} objects are as they were stored", verified.objects));
        return Ok(Outcome::Done);
    }
    if discard {
        store.discard(&verified.damaged).map_err(images::store_failed)?;
        context.ui.note("deleted; `sbx image pull` fetches it again");
    } else {
        context
            .ui
            .hint("`sbx image verify --discard` deletes what is damaged, `sbx image pull` fetches it again");
    }
    Ok(Outcome::No)
}

//! From the image that the manifest names to a snapshot that can be booted.

use std::{path::PathBuf, time::Instant};

use sbx_image::{
    Digest, Image, Platform, PullOptions, Snapshot, Source, Store,
    store::{Lock, StoreError},
};

use crate::{
    config::Config,
    context::Context,
    environment,
    error::{CommandError, Result},
    project::Project,
    ui::{bytes, elapsed_time, short_digest},
};

/// An image and its snapshot, both complete in the store.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The image.
    pub(crate) image: Image,
    /// Its snapshot.
    pub(crate) snapshot: Snapshot,
    /// Keeps `sbx prune` away until it is written down that a sandbox uses the snapshot.
    pub(crate) hold: Lock,
}

impl Prepared {
    /// Variables of the image's configuration, as `NAME=VALUE`.
    pub(crate) fn environment(&self) -> Vec<String> {
        environment(&self.image)
    }
}

/// Opens the store.
pub(crate) fn open_store(context: &Context) -> Result<Store> {
    Store::open(&context.paths.home).map_err(store_failed)
}

/// An error of the store.
pub(crate) fn store_failed(error: StoreError) -> CommandError {
    CommandError::failed("the store failed").with_source(error)
}

/// The image of `project`: what the store has under that name, or else what its registry has. With a digest, the image with
/// that digest, wherever the name leads to now.
///
/// A tag is not asked for again once it is here, so that a second start needs no network; `sbx image pull` asks.
///
/// # Errors
/// If it cannot be pulled, or is not the one with the digest.
pub(crate) fn find(
    context: &Context,
    store: &Store,
    project: &Project,
    pinned: Option<&Digest>,
) -> Result<Image> {
    // Another platform is refused before we get here: the guest's kernel is for this one.
    let (source, platform) = (project.source()?, Platform::host());
    let named = store.find(&source, &platform);
    let Some(digest) = pinned else {
        return named.map_or_else(|| pull(context, store, &source, &platform), Ok);
    };
    if let Some(image) = named.filter(|image| image.manifest_digest == *digest) {
        return Ok(image);
    }
    let pinned = source.pinned_to(digest);
    let image = match store.find(&pinned, &platform) {
        Some(image) => image,
        None => pull(context, store, &pinned, &platform)?,
    };
    if image.manifest_digest == *digest {
        return Ok(image);
    }
    Err(CommandError::failed(format!(
        "{source} is {} now, and sandbox.lock pins {}",
        short_digest(&image.manifest_digest.to_string()),
        short_digest(&digest.to_string())
    ))
    .with_hint("`sbx lock --update image` takes the image that is there now"))
}

/// Variables of the image's configuration, as `NAME=VALUE`.
pub(crate) fn environment(image: &Image) -> Vec<String> {
    image.config.config().as_ref().and_then(|config| config.env().clone()).unwrap_or_default()
}

/// Asks the image's source for it, with bars or lines that show how it goes.
pub(crate) fn pull(context: &Context, store: &Store, source: &Source, platform: &Platform) -> Result<Image> {
    let options = pull_options(context, platform)?;
    let progress = context.ui.pull_progress();
    let result = transfer_runtime()?.block_on(sbx_image::pull(store, source, &options, &progress));
    progress.finish();
    result.map_err(|error| CommandError::failed(format!("cannot pull {source}")).with_source(error))
}

/// What talks to registries runs in it.
///
/// # Errors
/// If its threads cannot be started.
pub(crate) fn transfer_runtime() -> Result<tokio::runtime::Runtime> {
    // The process keeps the provider; a second one, from a second pull, is not wanted and not needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CommandError::failed("cannot start the download threads").with_source(error))
}

/// The snapshot of `image`, built if it is not there.
pub(crate) fn snapshot(context: &Context, store: &Store, image: &Image) -> Result<Snapshot> {
    let layers: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    snapshot_of(context, store, &layers, &image.reference)
}

/// The snapshot of these layers, lowest first, which are those of `what`; built if it is not there.
pub(crate) fn snapshot_of(
    context: &Context,
    store: &Store,
    layers: &[Digest],
    what: &str,
) -> Result<Snapshot> {
    let started = Instant::now();
    let snapshot = store.snapshot_of(layers).map_err(|error| {
        CommandError::failed(format!("cannot make a snapshot of {what}")).with_source(error)
    })?;
    if !snapshot.reused {
        context.ui.status(
            "snapshot",
            format_args!(
                "{}  in {}, {} new, {} in layers",
                short_digest(&snapshot.key),
                elapsed_time(started.elapsed()),
                bytes(snapshot.new_bytes),
                bytes(snapshot.shared_bytes),
            ),
        );
    }
    Ok(snapshot)
}

/// What the user configured for registries.
///
/// # Errors
/// If that cannot be used.
pub(crate) fn pull_options(context: &Context, platform: &Platform) -> Result<PullOptions> {
    let config = Config::load(&context.ui, &context.paths)?;
    let mut options = PullOptions { platform: platform.clone(), ..PullOptions::default() };
    for (registry, address) in &config.mirrors {
        options.mirrors.add(registry, address).map_err(|error| {
            CommandError::usage(format!("the mirror of {registry} cannot be used")).with_source(error)
        })?;
    }
    options.credential_files = credential_files(context);
    options.extra_ca_files = config.ca_files;
    options.extra_ca_files.extend(environment::path("SSL_CERT_FILE"));
    Ok(options)
}

/// Where `docker login` and `podman login` leave what they are told, in the order in which those tools look.
fn credential_files(context: &Context) -> Vec<PathBuf> {
    let docker =
        environment::path("DOCKER_CONFIG").unwrap_or_else(|| context.paths.user_home.join(".docker"));
    let mut files = vec![docker.join("config.json")];
    files.extend(environment::path("REGISTRY_AUTH_FILE"));
    files
        .extend(environment::path("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json")));
    files.push(context.paths.user_home.join(".config/containers/auth.json"));
    files
}

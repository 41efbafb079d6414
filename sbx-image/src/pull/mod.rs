//! Pulling: from a source to an image that is complete in the store.
//!
//! ```text
//!   resolve ─→ manifest, configuration ─→ layers that are missing, in parallel ─→ the reference is recorded
//! ```
//!
//! Each layer has a task, which brings its bytes, and threads, which work on them (see `stages`). A pull that is
//! dropped or killed leaves complete layers, which the next one finds, and partial blobs, which it continues.

mod channel;
pub(crate) mod decompress;
mod error;
mod layer;
mod options;
mod partial;
mod stages;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::digest::Digest;
use crate::manifest::{Image, Layer};
use crate::progress::{self, LayerEvent, Progress, Reporter};
use crate::source::{Origin, Source};
use crate::store::{ImageRecord, Store};
use layer::Fetched;

pub use error::PullError;
pub(crate) use layer::Context;
pub use options::{PullLimits, PullOptions};

/// Fetches what the store does not have of an image, and records what its reference means now.
///
/// Needs a tokio runtime with I/O and time, and a rustls crypto provider installed for the process.
///
/// # Errors
/// [`PullError`], which says what is wrong and where one can what to do. The store stays usable whatever happens.
pub async fn pull(
    store: &Store,
    source: &Source,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Image, PullError> {
    progress::delivered(progress, |reporter| pull_reporting(store, source, options, reporter, progress)).await
}

async fn pull_reporting(
    store: &Store,
    source: &Source,
    options: &PullOptions,
    reporter: Reporter,
    progress: &dyn Progress,
) -> Result<Image, PullError> {
    let _lock = store.lock_shared_async().await?;
    store.sweep()?;
    let reference = source.to_string();
    let stamp = source.stamp();
    let origin = Origin::open(source, store, options, &reporter)?;
    let resolved = origin.resolve(&reference, &options.platform).await?;
    let mut image = resolved.image;
    progress.image(&image);
    let context = Context { store: store.clone(), origin, limits: options.limits.clone(), reporter };
    let fetched = fetch_layers(Arc::new(context), &image.layers, options.parallel_layers).await?;
    image.new_layers = fetched.iter().filter(|fetched| fetched.is_new).count();
    image.downloaded_bytes =
        fetched.iter().fold(0, |sum, fetched| sum.saturating_add(fetched.downloaded_bytes));
    store.put_blob(&image.manifest_digest, &resolved.manifest_bytes)?;
    store.put_blob(&resolved.config.digest, &resolved.config_bytes)?;
    let mut index_digest = None;
    if let Some((digest, bytes)) = resolved.index {
        store.put_blob(&digest, &bytes)?;
        index_digest = Some(digest);
    }
    let manifest = image.manifest_digest.clone();
    store.put_image_record(&ImageRecord::new(
        &reference,
        &options.platform,
        manifest,
        index_digest,
        stamp,
    ))?;
    Ok(image)
}

/// Fetches every layer once, largest first: the last one to finish decides how long it takes.
pub(crate) async fn fetch_layers(
    context: Arc<Context>,
    layers: &[Layer],
    parallel: usize,
) -> Result<Vec<Fetched>, PullError> {
    let mut places: BTreeMap<&Digest, Vec<usize>> = BTreeMap::new();
    for (index, layer) in layers.iter().enumerate() {
        places.entry(&layer.diff_id).or_default().push(index);
    }
    let mut order: Vec<(usize, &Layer)> =
        places.values().filter_map(|all| Some((*all.first()?, layers.get(*all.first()?)?))).collect();
    order.sort_by_key(|(index, layer)| (std::cmp::Reverse(layer.size), *index));
    let turns = Arc::new(Semaphore::new(parallel.max(1)));
    let mut tasks = JoinSet::new();
    for (index, layer) in order {
        let (context, turns, layer) = (Arc::clone(&context), Arc::clone(&turns), layer.clone());
        tasks.spawn(async move {
            // The semaphore is never closed.
            let _turn = turns.acquire_owned().await.map_err(|_| PullError::Interrupted)?;
            context.layer(index, layer).await
        });
    }
    // A layer that occurs twice is fetched once, and is there already the second time.
    for repeated in places.values().flat_map(|all| all.iter().skip(1)) {
        context.reporter.layer(*repeated, LayerEvent::Reused);
    }
    let mut fetched = Vec::with_capacity(layers.len());
    while let Some(joined) = tasks.join_next().await {
        fetched.push(joined.map_err(|_| PullError::Interrupted)??);
    }
    Ok(fetched)
}

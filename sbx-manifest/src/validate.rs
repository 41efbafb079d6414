//! What only shows when nodes are seen together: rules that do nothing, ports and places given twice.

use crate::{decode::Decoder, model::Settings};

/// Checks the nodes of a manifest or of a profile against each other.
pub(crate) fn settings(_decoder: &mut Decoder<'_>, _settings: &Settings) {}

//! An image by what a client calls it.

use std::sync::Arc;

use husk_images::{Image, ImageError};

use crate::{
    error::{Failure, Result},
    shared::Shared,
};

/// The image of a name in any spelling, an id or its beginning.
///
/// # Errors
/// 404 in dockerd's words, which clients look for; 400 for a beginning of several.
pub(crate) fn find(shared: &Shared, name: &str) -> Result<Arc<Image>> {
    shared.images.find(name).map_err(|error| match error {
        ImageError::NoImage { name } => Failure::not_found(format!("No such image: {name}")),
        error => error.into(),
    })
}

//! The engine as plugins see it.

use std::sync::Weak;

use async_trait::async_trait;
use husk_model::chain;
use husk_nri::{Everything, Eviction, Runtime, Update};

use super::calls::Engine;

/// It does not keep the engine.
pub(super) struct Back(pub(super) Weak<Engine>);

/// What a plugin hears when the daemon ends.
const ENDS: &str = "the daemon ends";

#[async_trait]
impl Runtime for Back {
    async fn everything(&self) -> Everything {
        let Some(engine) = self.0.upgrade() else { return Everything::default() };
        let gather = tokio::task::spawn_blocking(move || {
            let parts = engine.parts();
            parts.plugins.everything(&parts.registry)
        });
        // It fails only when the daemon ends.
        gather.await.unwrap_or_default()
    }

    async fn update(&self, update: &Update) -> std::result::Result<(), String> {
        let engine = self.0.upgrade().ok_or(ENDS)?;
        engine.parts().updating.wishes.limits.apply_one(update).await.map_err(|error| chain(&error))
    }

    async fn evict(&self, eviction: Eviction) -> std::result::Result<(), String> {
        let engine = self.0.upgrade().ok_or(ENDS)?;
        engine.parts().updating.wishes.evict(eviction).map_err(|error| chain(&error))
    }
}

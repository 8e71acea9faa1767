//! The catalog as the metadata log rebuilds it.

use crate::log::entry::{EntryHeader, EntryKind};
use crate::log::recovery::Replay;
use crate::model::WallMs;

use super::catalog::Catalog;
use super::record::MetaRecord;

#[derive(Default)]
pub struct MetadataReplay {
    pub catalog: Catalog,
}

impl Replay for MetadataReplay {
    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        self.catalog = Catalog::restore(state).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn apply(&mut self, header: &EntryHeader, _: WallMs, payload: &[u8]) -> Result<(), String> {
        match header.kind {
            EntryKind::Metadata => {
                let record = MetaRecord::decode(payload).map_err(|error| error.to_string())?;
                self.catalog.apply(&record).map_err(|error| error.to_string())
            }
            EntryKind::TermOpen => Ok(()),
            kind => Err(format!("a {kind:?} entry in the metadata log")),
        }
    }
}

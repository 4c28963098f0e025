//! What imports leave behind: the state that a room had before, or where one came to nothing, everything that it wrote.

use std::{collections::BTreeSet, sync::Arc};

use matryx_repository::StoreError;

use super::super::{
    Room, Rooms, SendError,
    lane::{Ask, Outcome},
    work::Work,
};

impl Rooms {
    /// Sees to the imports that had not ended when the server stopped. Before anybody uses a room.
    ///
    /// # Errors
    /// When the database fails.
    pub(in super::super) async fn clear_all(&self) -> Result<(), SendError> {
        let imports = self.database().imports(None).await?;
        let rooms: BTreeSet<_> = imports.into_iter().map(|import| import.room).collect();
        for room in rooms {
            let room = self.lane(&room).await?;
            self.clear(&room).await?;
        }
        Ok(())
    }

    /// Ends the imports of a room of which one has become current, and removes the state that it had before.
    pub(super) async fn has_become(&self, room: &Room) -> Result<(), StoreError> {
        self.database().forget_epochs(&room.id, room.look().epoch).await?;
        self.database().end_imports(&room.id).await
    }

    /// Removes what the imports of a room have left. Whoever joins the room waits meanwhile.
    ///
    /// # Errors
    /// When the database fails; it can be done again.
    pub(super) async fn clear(&self, room: &Arc<Room>) -> Result<(), SendError> {
        match self.ask(room, Ask::Clear).await? {
            (Outcome::Cleared, _) => Ok(()),
            _ => Err(SendError::Panicked),
        }
    }

    /// [`Self::clear`], in the lane: no line is written meanwhile whose rows look like those that are left over.
    pub(in super::super) async fn clear_in(&self, work: &Work) -> Result<(), StoreError> {
        let (look, database) = (&work.look, self.database());
        let imports = database.imports(Some(&look.room_id)).await?;
        let joins = self.find_all(work, imports.iter().map(|import| &*import.join)).await?;
        let current = joins.values().any(|join| join.n.is_some());
        if !current && !look.servers.contains_key(self.server_name()) {
            for import in &imports {
                database.forget_outliers(&import.events).await?;
                self.events().forget(&import.events);
            }
        }
        if !imports.is_empty() {
            let head = (look.n > 0).then(|| look.head());
            database.tidy(&look.room_id, head.as_ref()).await?;
            database.end_imports(&look.room_id).await?;
        }
        Ok(())
    }
}

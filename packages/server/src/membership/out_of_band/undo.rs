//! Taking back joins that a room has let in, or may have, and that could not be taken in here: the room would show a member
//! who is not there. The errand is durable before the join is handed in, so that it is there whatever happens then.

use matryx_core::{event::Pdu, membership::Membership};
use matryx_repository::{Errand, StoreError, Task};
use ruma::{OwnedServerName, RoomVersionId, ServerName};

use super::{
    Way, add,
    errands::{errand, waits},
    leave,
    visit::{Verdict, visit},
};
use crate::{app::App, room::SendError};

/// A join that is on its way, and what is done if it comes to nothing.
pub(in super::super) struct Undo {
    errand: Errand,
    /// What was still to be done before.
    before: Option<Errand>,
}

impl Undo {
    /// Sees to it that a join will be taken back unless it ends well.
    ///
    /// # Errors
    /// When the database fails: then the join is better not handed in.
    pub(in super::super) async fn prepare(
        app: &App,
        join: &Pdu,
        version: &RoomVersionId,
        server: &ServerName,
        others: &[OwnedServerName],
    ) -> Result<Self, StoreError> {
        let mut via = Vec::new();
        for server in std::iter::once(server).chain(others.iter().map(|server| &**server)) {
            if *server != app.server_name {
                add(&mut via, server);
            }
        }
        let way = Way { version: version.clone(), via };
        let mut errand = errand(app, join, &way, Task::Undo, waits(app).first);
        errand.event = join.event_id().clone();
        let before = app.errands.get(&errand.room, &errand.user);
        app.database.put_errand(&errand).await?;
        app.errands.add(errand.clone());
        Ok(Self { errand, before })
    }

    /// The join is here, and stays.
    pub(in super::super) async fn needless(self, app: &App) {
        app.errands.drop(&self.errand);
        // What can't be deleted is looked at later, and found to be needless.
        if let Err(error) = app.database.end_errand(&self.errand).await {
            tracing::error!(%error, room = %self.errand.room, "undo.not_ended");
        }
    }

    /// The join was refused: everything is as it was before.
    pub(in super::super) async fn refused(self, app: &App) {
        let Some(before) = self.before.clone() else { return self.needless(app).await };
        match app.database.put_errand(&before).await {
            Ok(()) => app.errands.add(before),
            Err(error) => tracing::error!(%error, room = %before.room, "undo.not_ended"),
        }
    }
}

/// Tries once. Whether that was the last time.
pub(super) async fn attempt(app: &App, errand: &Errand) -> Result<bool, SendError> {
    // Whoever tries again may still succeed.
    if app.entering.is_running(&errand.room, &errand.user) {
        return Ok(false);
    }
    let standing = app.rooms.stream().standing(&errand.user).await?;
    let mine = standing.rooms.get(&errand.room);
    if mine.is_some_and(|mine| mine.membership == Membership::Joined) {
        return Ok(true);
    }
    let look = app.rooms.room(&errand.room).await?.map(|room| room.look());
    if super::is_resident(app, look.as_deref()) {
        // We are in the room, and it shows us who is in it.
        return Ok(true);
    }
    match visit(app, errand, false).await {
        Verdict::Later => Ok(false),
        Verdict::NobodyKnows => Ok(true),
        Verdict::Done | Verdict::NotThere => {
            // An invite or a knock is as much over as the join.
            if let Some(mine) = mine {
                let only = Some(mine.event.clone());
                leave::write(app, &errand.room, &errand.user, None, only).await?;
            }
            Ok(true)
        }
    }
}

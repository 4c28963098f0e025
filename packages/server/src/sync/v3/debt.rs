//! State events that a timeline shows although they do not stand.
//!
//! They have lost against others, or something that is hidden from the client came after them. A client that makes the
//! room's state of `state` and then of the timeline believes them, so that the next answer, which is then given at once,
//! tells what stands. Nothing is kept for that: the token says where to look.

use std::{collections::HashSet, sync::Arc};

use matryx_core::room::{Change, StateEntry, StateMap};
use matryx_repository::{Line, StoreError};

use super::{StateForm, View, timeline::PATIENCE};
use crate::{
    room::{Look, Room},
    sync::token::Debt,
};

impl View<'_> {
    /// What is left to the next answer by one that shows these lines.
    pub(super) fn owing(&self, look: &Look, shown: &[Arc<Line>]) -> Option<Debt> {
        if self.question.form != StateForm::Before {
            return None;
        }
        let mut told = HashSet::new();
        let newest = shown
            .iter()
            .rev()
            .filter(|line| line.event.pdu.key().is_some_and(|key| told.insert(key)));
        let lost = newest.filter(|line| stands_instead(&look.state, line).is_some());
        let debts = lost.map(|line| Debt {
            from: line.pos.saturating_sub(1),
            back: u16::try_from(look.n - line.n + 1).unwrap_or(u16::MAX),
        });
        debts.reduce(Debt::and)
    }

    /// What stands in a room in place of what the client may have been shown up to line `known`. This tells a little too
    /// much where one event was followed by another as usual: what was hidden from the client then is not known any more.
    pub(super) async fn owed(
        &self,
        room: &Room,
        known: i64,
        state: &StateMap,
    ) -> Result<Vec<Change>, StoreError> {
        let Some(Debt { from, back }) = self.debt else { return Ok(Vec::new()) };
        let first = 1.max(known + 1 - PATIENCE.min(back.into()));
        let lines = self.rooms.lines(room, first, known).await?;
        let lines = lines.iter().filter(|line| line.pos > from);
        Ok(lines.filter_map(|line| stands_instead(state, line)).collect())
    }
}

/// What stands in place of a state event, if it is not that event: the change from the one to the other.
fn stands_instead(state: &StateMap, line: &Line) -> Option<Change> {
    let pdu = &line.event.pdu;
    let key = pdu.key()?;
    let new = state.get(&key).filter(|entry| entry.event_id != *pdu.event_id())?.clone();
    let old = StateEntry { event_id: pdu.event_id().clone(), membership: pdu.membership() };
    Some(Change { key, new: Some(new), old: Some(old) })
}

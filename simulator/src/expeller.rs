//! A process that expels a reader.

use crate::machine::Machine;
use crate::process::sound;
use crate::protocol::expel::{self, Target};
use crate::protocol::words::RowState;
use crate::recoverer;

/// Expels the reader of one row, if there is any. If another process is doing that, which may be
/// dead, it recovers the dead and tries once more.
pub(crate) fn expel(machine: &'static Machine, process: usize, number: u32) {
    let table = machine.world.table();
    let Some(index) = number.checked_rem(table.readers.len() as u32) else { return };
    // As a list of the readers told it some time ago.
    let generation = RowState(table.readers[index as usize].state.peek()).generation();
    let target = Target { index, generation };
    let expelled = sound(machine, expel::expel(&table, target, process as u32));
    if matches!(expelled, expel::Outcome::Busy(_)) && recoverer::recover(machine, 0) {
        sound(machine, expel::expel(&table, target, process as u32));
    }
}

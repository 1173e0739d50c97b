//! A process that finds others dead.

use crate::machine::Machine;
use crate::process::sound;
use crate::protocol::dead::Dead;
use crate::protocol::recovery;

/// Recovers the dead, or some of them, once or twice; false if there are none that nobody else
/// recovers.
pub(crate) fn recover(machine: &'static Machine, number: u32) -> bool {
    let mine = machine.claim_dead(|dead| match number & 3 {
        // Only one of them.
        3 => dead & dead.wrapping_neg(),
        _ => dead,
    });
    if mine == 0 {
        return false;
    }
    let mut dead = Dead::default();
    for process in (0..32).filter(|process| mine >> process & 1 != 0) {
        dead.insert(process);
    }
    machine.oracle.borrow_mut().sweep(mine);
    let table = machine.world.table();
    // A process that dies before the rows are freed leaves the work to the next, which repeats all
    // of it.
    for _ in 0..1 + (number >> 2 & 1) {
        sound(machine, recovery::sweep(&table, &dead));
    }
    machine.free_rows(mine);
    recovery::announce(&table);
    true
}

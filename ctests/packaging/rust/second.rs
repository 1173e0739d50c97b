//! Somebody else's static library, with a standard library of its own inside: panics that it
//! catches, and thread-locals.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

static ENDED: AtomicU32 = AtomicU32::new(0);

struct Local(u32);

impl Drop for Local {
    fn drop(&mut self) {
        ENDED.fetch_add(self.0, Ordering::Relaxed);
    }
}

thread_local!(static LOCAL: RefCell<Local> = const { RefCell::new(Local(0)) });

/// Gives 0 if all of that works.
#[no_mangle]
pub extern "C" fn second_run() -> i32 {
    let before = ENDED.load(Ordering::Relaxed);
    let thread = std::thread::spawn(|| {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            LOCAL.with(|local| local.borrow_mut().0 = 1);
            panic!("it is caught");
        }));
        caught.is_err()
    });
    let caught = thread.join().unwrap_or(false);
    i32::from(!caught || ENDED.load(Ordering::Relaxed) != before + 1)
}

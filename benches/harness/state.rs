//! The distance of the two processors at a moment. Virtual processors change it by themselves.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Two threads of one core.
    Sibling,
    /// Two cores under one last-level cache.
    Near,
    /// Two such caches.
    Far,
}

impl State {
    pub(crate) const ALL: [State; 3] = [State::Near, State::Far, State::Sibling];

    pub(crate) fn of_hop(nanoseconds: f64) -> State {
        match nanoseconds {
            ..35.0 => State::Sibling,
            ..115.0 => State::Near,
            _ => State::Far,
        }
    }

    /// The state of a sample whose probes before and after agree; otherwise there is none.
    pub(crate) fn agreed(before: f64, after: f64) -> Option<State> {
        let state = State::of_hop(before);
        let steady = before.max(after) <= 1.35 * before.min(after);
        (steady && state == State::of_hop(after)).then_some(state)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Sibling => "sibling",
            State::Near => "near",
            State::Far => "far",
        })
    }
}

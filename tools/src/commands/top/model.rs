//! What there is now, and how fast it changes.

use std::cmp::Ordering;
use std::collections::HashMap;

use shmslot::Segment;

use super::Sort;
use crate::failure::Outcome;
use crate::look::{Look, observe};
use crate::shell::Shell;

/// A segment, as it was looked at.
pub(super) struct Seen {
    pub(super) look: Look,
    /// Samples in a second since the look before; `None` at the first look.
    pub(super) rate: Option<f64>,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) segments: Vec<Seen>,
    /// Observers are kept from look to look, by name.
    observers: HashMap<String, Segment>,
}

impl Model {
    /// Looks at all again.
    pub(super) fn refresh(&mut self, shell: &Shell, given: &[String], sort: Sort) -> Outcome {
        let names = shell.names(given)?;
        let before: HashMap<String, (u64, u64, u64)> = self
            .segments
            .drain(..)
            .map(|seen| {
                let look = seen.look;
                let id = look.info.geometry.segment_id;
                (look.name, (id, look.counters.next_sequence, look.at_ns))
            })
            .collect();
        self.observers
            .retain(|name, segment| names.contains(name) && matches!(segment.is_named(), Ok(true)));
        for name in names {
            if !self.observers.contains_key(&name) {
                match observe(shell, &name) {
                    Ok(segment) => self.observers.insert(name.clone(), segment),
                    // It has just gone, or may not be opened: it is not shown.
                    Err(_) => continue,
                };
            }
            let Some(segment) = self.observers.get(&name) else { continue };
            let Ok(look) = Look::at(&name, segment) else { continue };
            let last = before.get(&name).filter(|(id, ..)| *id == look.info.geometry.segment_id);
            let rate = last.map(|(_, sequence, at_ns)| {
                let samples = look.counters.next_sequence.saturating_sub(*sequence);
                samples as f64 * 1e9 / look.at_ns.saturating_sub(*at_ns).max(1) as f64
            });
            self.segments.push(Seen { look, rate });
        }
        self.sort(sort);
        Ok(())
    }

    pub(super) fn sort(&mut self, sort: Sort) {
        let free = |seen: &Seen| {
            f64::from(seen.look.counters.free)
                / f64::from(seen.look.info.geometry.slot_count.max(1))
        };
        self.segments.sort_by(|one, other| {
            let first = match sort {
                Sort::Name => Ordering::Equal,
                Sort::Rate => other.rate.unwrap_or(0.0).total_cmp(&one.rate.unwrap_or(0.0)),
                Sort::Free => free(one).total_cmp(&free(other)),
            };
            first.then_with(|| one.look.name.cmp(&other.look.name))
        });
    }

    /// Samples in a second, of all segments.
    pub(super) fn rate(&self) -> f64 {
        self.segments.iter().filter_map(|seen| seen.rate).fold(0.0, |sum, rate| sum + rate)
    }

    pub(super) fn dead(&self) -> u32 {
        self.segments.iter().map(|seen| seen.look.counters.dead).sum()
    }
}

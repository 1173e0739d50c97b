//! The last values of a measurement.

use std::collections::VecDeque;

/// Keeps so many values, and forgets the oldest.
#[derive(Debug)]
pub(crate) struct Window<T> {
    values: VecDeque<T>,
    most: usize,
}

/// What a window shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) mean: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) std_dev: f64,
    pub(crate) median: f64,
    pub(crate) p99: f64,
}

impl<T> Window<T> {
    pub(crate) fn new(most: usize) -> Window<T> {
        Window { values: VecDeque::new(), most: most.max(1) }
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.values.len() == self.most {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }

    pub(crate) fn first(&self) -> Option<&T> {
        self.values.front()
    }

    pub(crate) fn last(&self) -> Option<&T> {
        self.values.back()
    }
}

/// `None` without values.
pub(crate) fn summarize(values: impl Iterator<Item = f64>) -> Option<Summary> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let count = values.len();
    let mean = values.iter().sum::<f64>() / count as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    // The nearest rank.
    let quantile = |part: f64| values[((part * count as f64).ceil() as usize).clamp(1, count) - 1];
    Some(Summary {
        count,
        mean,
        min,
        max,
        std_dev: (squares / count as f64).sqrt(),
        median: quantile(0.5),
        p99: quantile(0.99),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_keeps_the_last_values_and_summarizes_them() {
        let mut window = Window::new(4);
        assert_eq!(summarize(window.iter().copied()), None);
        for value in [100.0, 2.0, 4.0, 4.0, 6.0] {
            window.push(value);
        }
        let summary = summarize(window.iter().copied()).expect("there are values");
        assert_eq!((summary.count, summary.mean, summary.min, summary.max), (4, 4.0, 2.0, 6.0));
        assert_eq!((summary.std_dev, summary.median, summary.p99), (2.0_f64.sqrt(), 4.0, 6.0));
    }
}

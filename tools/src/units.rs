//! Sizes, times and numbers, as people read and write them.

use std::time::Duration;

/// Bytes, in three digits.
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// A count, in three digits.
pub(crate) fn count(count: f64) -> String {
    scaled(count, 1000.0, &["", "k", "M", "G", "T"]).replace(' ', "")
}

/// A time in nanoseconds, in three digits.
pub(crate) fn nanoseconds(ns: f64) -> String {
    if ns >= 60e9 {
        let seconds = (ns / 1e9) as u64;
        return match seconds {
            ..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
            3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
            _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
        };
    }
    scaled(ns, 1000.0, &["ns", "us", "ms", "s"])
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    // What would be rounded up to the next unit belongs there.
    while value >= step - 0.5 {
        let Some(next) = units.next() else { break };
        (value, unit) = (value / step, *next);
    }
    let whole = value.fract() == 0.0 && value < 1000.0 && unit == "B";
    let digits = if whole || value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$} {unit}")
}

/// Reads a size: digits, and perhaps a unit of 1000 (`kB`, `MB`, `GB`) or 1024 (`K`, `KiB`, ...).
pub(crate) fn read_size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(format!("\"{unit}\" is none of the units B, K, M, G, KiB, kB, ...")),
    };
    let number: u64 = digits.parse().map_err(|_| "it does not begin with a number".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "it is too large".to_owned())
}

/// Reads a time in seconds, with a fraction if need be.
pub(crate) fn read_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "it is no time that can be waited".to_owned())
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(high << 4 | low),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (150 << 20, "150 MiB")];
        for (size, text) in sizes {
            assert_eq!(bytes(size), text);
        }
        assert_eq!((count(7.0), count(1500.0)), ("7.0".into(), "1.5k".into()));
        let times = [(12.0, "12.0 ns"), (1.5e6, "1.5 ms"), (61e9, "1m01s"), (90_061e9, "1d01h")];
        for (time, text) in times {
            assert_eq!(nanoseconds(time), text);
        }
    }

    #[test]
    fn sizes_and_hexadecimal_digits_are_read() {
        let good = [("0", 0), ("12B", 12), ("4K", 4096), ("1MiB", 1 << 20), ("3kB", 3000)];
        for (text, size) in good {
            assert_eq!(read_size(text), Ok(size));
        }
        for text in ["", "K", "4X", "-1", "99999999999G"] {
            assert!(read_size(text).is_err(), "{text}");
        }
        assert_eq!(from_hex("00ff1a"), Some(vec![0, 255, 26]));
        assert_eq!((from_hex("0"), from_hex("0g"), from_hex("é")), (None, None, None));
        assert_eq!(hex(&[0, 255, 26]), "00ff1a");
    }
}
